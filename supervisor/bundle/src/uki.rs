//! The kernel's command line inside a unified kernel image, found while the image streams by: it must start the very root that comes with it.
//! Knows of PE files only where their sections lie, and takes nothing from outside the first 4 KiB and the one section.

use crate::refusal::Refusal;

/// The headers of a kernel image that systemd's tools have made lie in its first 4 KiB.
const HEADERS: usize = 4096;
/// The kernel takes 2 KiB.
const LINE: u64 = 4096;
const SECTION: usize = 40;

/// What `.cmdline` holds.
#[derive(Debug, Default)]
pub(crate) struct CommandLine {
    headers: Vec<u8>,
    section: Option<Result<(u64, u64), &'static str>>,
    position: u64,
    text: Vec<u8>,
}

impl CommandLine {
    /// The next bytes of the image.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.section.is_some() {
            return self.pass(piece);
        }
        let room = HEADERS - self.headers.len();
        let (headers, rest) = piece.split_at(room.min(piece.len()));
        self.headers.extend_from_slice(headers);
        if self.headers.len() == HEADERS {
            self.settle();
            self.pass(rest);
        }
    }

    /// Behind the last byte: whether the first `roothash=` is this one. Only the first counts, here as in stage 1.
    pub fn verify(mut self, root_hash: &str) -> Result<(), Refusal> {
        let wrong = |problem: &str| Refusal::Kernel {
            problem: problem.to_owned(),
        };
        if self.section.is_none() {
            self.settle();
        }
        if let Some(Err(problem)) = self.section {
            return Err(wrong(problem));
        }
        let text = String::from_utf8_lossy(&self.text);
        let found = text
            .trim_matches('\0')
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("roothash="));
        match found {
            None => Err(wrong("it names no root hash")),
            Some(found) if found == root_hash => Ok(()),
            Some(_) => Err(wrong("it names another root hash")),
        }
    }

    fn settle(&mut self) {
        let headers = std::mem::take(&mut self.headers);
        self.section = Some(command_line(&headers));
        self.pass(&headers);
    }

    /// Keeps what lies in the section.
    fn pass(&mut self, piece: &[u8]) {
        let start = self.position;
        self.position += piece.len() as u64;
        let Some(Ok((from, to))) = self.section else {
            return;
        };
        let inside = |at: u64| at.saturating_sub(start).min(piece.len() as u64) as usize;
        if let Some(bytes) = piece.get(inside(from)..inside(to)) {
            self.text.extend_from_slice(bytes);
        }
    }
}

/// From where to where `.cmdline` goes.
fn command_line(headers: &[u8]) -> Result<(u64, u64), &'static str> {
    const NOT: &str = "it is not a kernel image";
    let number = |at: usize, length: usize| {
        let bytes = headers.get(at..at.checked_add(length)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_u64, |value, byte| value << 8 | u64::from(*byte)),
        )
    };
    if !headers.starts_with(b"MZ") {
        return Err(NOT);
    }
    let pe = number(0x3c, 4).ok_or(NOT)? as usize;
    if number(pe, 4) != Some(u64::from(u32::from_le_bytes(*b"PE\0\0"))) {
        return Err(NOT);
    }
    let sections = number(pe + 6, 2).ok_or(NOT)? as usize;
    let optional = number(pe + 20, 2).ok_or(NOT)? as usize;
    let table = pe + 24 + optional;
    for index in 0..sections {
        let at = table + index * SECTION;
        let name = headers.get(at..at + 8).ok_or(NOT)?;
        if name == b".cmdline" {
            let used = number(at + 8, 4).ok_or(NOT)?;
            let stored = number(at + 16, 4).ok_or(NOT)?;
            let from = number(at + 20, 4).ok_or(NOT)?;
            return Ok((from, from + used.min(stored).min(LINE)));
        }
    }
    Err("it has no command line")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn verdict(image: &[u8], pieces: usize, hash: &str) -> Result<(), Refusal> {
        let mut line = CommandLine::default();
        image.chunks(pieces).for_each(|piece| line.feed(piece));
        line.verify(hash)
    }

    #[test]
    fn the_first_root_hash_counts_however_the_image_comes_in() {
        let (mine, other) = ("a".repeat(64), "b".repeat(64));
        for before in [0, 100, 5_000, 70_000] {
            let image =
                sample::kernel_image(&format!("quiet roothash={mine} roothash={other}"), before);
            for pieces in [1, 7, 512, 4096, 1 << 20] {
                assert_eq!(verdict(&image, pieces, &mine), Ok(()), "{before} {pieces}");
                let refused = verdict(&image, pieces, &other).unwrap_err();
                assert!(
                    refused.to_string().contains("another root hash"),
                    "{refused}"
                );
            }
        }
    }

    #[test]
    fn what_names_no_root_is_refused() {
        let image = sample::kernel_image("quiet xroothash=1", 0);
        for image in [
            &image[..],
            &image[..50],
            b"",
            b"MZ",
            &[0xff; 9000],
            &b"MZ\xff\xff".repeat(3000),
        ] {
            assert!(verdict(image, 100, "").is_err());
        }
    }
}

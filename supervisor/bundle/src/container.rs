//! The bundle as a tar file of which only one spelling is taken: the entries in their order, each with exactly the header that the writer would
//! give it, zeros up to the next block, two blocks of zeros, the end. So there is no name, type, link, or extension for anybody to interpret.

use std::io;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::refusal::Refusal;
use crate::source::Source;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const KEY_SETS: &str = "keysets.json";
pub(crate) const SIGNATURES: &str = "signatures.json";
pub(crate) const UKI: &str = "uki.efi";
pub(crate) const LOADER: &str = "loader.efi";
pub(crate) const VERITY: &str = "verity";
pub(crate) const CHUNKS: &str = "chunks";
pub(crate) const ROOT: &str = "root";
const END: &str = "its end";

const BLOCK: usize = 512;
/// Two blocks of zeros.
pub(crate) const TRAILER: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// What a size in octal digits can say: 8 GiB less one byte.
const MOST: u64 = 0o777_7777_7777;

/// How much is read at once: on the stack.
const PIECE: usize = 16 << 10;

/// The header of an entry; `bytes` is at most 8 GiB less one byte.
pub(crate) fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    let mut header = tar::Header::new_ustar();
    let field = &mut header.as_old_mut().name;
    for (to, from) in field.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.min(MOST));
    header.set_cksum();
    *header.as_bytes()
}

/// How many zeros follow an entry of so many bytes.
pub(crate) fn padding(bytes: u64) -> usize {
    let over = (bytes % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// What is known of an entry's size before its header was read.
pub(crate) enum Size {
    Exactly(u64),
    AtMost(u64),
}

/// The bundle's bytes, entry after entry.
pub(crate) struct Input<S> {
    source: S,
}

impl<S: Source> Input<S> {
    pub fn new(source: S) -> Self {
        Self { source }
    }

    /// See [`Source::announce`].
    pub fn announce(&mut self, bytes: u64) {
        self.source.announce(bytes);
    }

    /// Reads the header of `entry` and says how many bytes the entry has.
    pub fn enter(&mut self, entry: &'static str, size: Size) -> Result<u64> {
        let mut found = [0; BLOCK];
        self.exactly(&mut found, entry)?;
        let (name, octal) = (&found[..100], &found[124..136]);
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(100);
        if &name[..end] != entry.as_bytes() {
            return Err(if entry == MANIFEST {
                Refusal::NotABundle
            } else {
                Refusal::Entry {
                    expected: entry,
                    found: name[..end].escape_ascii().to_string(),
                }
            })?;
        }
        let bytes = match size {
            Size::Exactly(bytes) => bytes,
            Size::AtMost(limit) => {
                let bytes = octal_number(octal).ok_or(Refusal::Header { entry })?;
                if bytes > limit {
                    return Err(Refusal::TooLarge {
                        entry,
                        bytes,
                        limit,
                    })?;
                }
                bytes
            }
        };
        if found != header(entry, bytes) {
            return Err(Refusal::Header { entry })?;
        }
        Ok(bytes)
    }

    /// The whole of a small entry.
    pub fn small(&mut self, entry: &'static str, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.enter(entry, Size::AtMost(limit))?;
        let mut content = vec![0; bytes as usize];
        self.exactly(&mut content, entry)?;
        self.leave(entry, bytes)?;
        Ok(content)
    }

    /// An entry of which size and digest are known. `take` gets it in pieces, before the digest was compared.
    pub fn known(
        &mut self,
        entry: &'static str,
        bytes: u64,
        sha256: &[u8; 32],
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        self.enter(entry, Size::Exactly(bytes))?;
        let mut hash = Sha256::new();
        let mut piece = [0; PIECE];
        let mut left = bytes;
        while left > 0 {
            let count = left.min(PIECE as u64) as usize;
            let piece = &mut piece[..count];
            self.exactly(piece, entry)?;
            hash.update(&*piece);
            take(piece).map_err(|source| Error::Write { entry, source })?;
            left -= count as u64;
        }
        if hash.finalize()[..] != sha256[..] {
            return Err(Refusal::Digest { entry })?;
        }
        self.leave(entry, bytes)
    }

    /// An entry of known size that nobody wants to see.
    pub fn pass(&mut self, entry: &'static str, bytes: u64) -> Result<()> {
        self.enter(entry, Size::Exactly(bytes))?;
        self.skip(bytes, entry)?;
        self.leave(entry, bytes)
    }

    /// Behind an entry's last byte: zeros up to the next block.
    pub fn leave(&mut self, entry: &'static str, bytes: u64) -> Result<()> {
        let mut zeros = [0; BLOCK];
        let zeros = &mut zeros[..padding(bytes)];
        self.exactly(zeros, entry)?;
        match zeros.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(Refusal::Padding { entry })?,
        }
    }

    pub fn into_source(self) -> S {
        self.source
    }

    /// Two blocks of zeros, and nothing behind them.
    pub fn end(mut self) -> Result<S> {
        let mut zeros = TRAILER;
        self.exactly(&mut zeros, END)?;
        if zeros != TRAILER || self.some(&mut [0], END)? != 0 {
            return Err(Refusal::Trailing)?;
        }
        Ok(self.source)
    }

    pub fn exactly(&mut self, mut buffer: &mut [u8], entry: &'static str) -> Result<()> {
        while !buffer.is_empty() {
            let count = self.some(buffer, entry)?;
            if count == 0 {
                return Err(Refusal::Truncated { entry })?;
            }
            // A source that claims more than it was asked for is at its end for us.
            buffer = buffer.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    pub fn skip(&mut self, bytes: u64, entry: &'static str) -> Result<()> {
        self.source
            .skip(bytes)
            .map_err(|source| Error::Read { entry, source })
    }

    fn some(&mut self, buffer: &mut [u8], entry: &'static str) -> Result<usize> {
        loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(|source| Error::Read { entry, source }),
            }
        }
    }
}

/// Eleven octal digits and a NUL.
fn octal_number(field: &[u8]) -> Option<u64> {
    let (last, digits) = field.split_last()?;
    let value = digits.iter().try_fold(0_u64, |value, digit| {
        matches!(digit, b'0'..=b'7').then(|| value * 8 + u64::from(digit - b'0'))
    })?;
    (*last == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_tar_reads_and_never_changes() {
        let bytes = header("uki.efi", 18_041_856);
        let read = tar::Header::from_byte_slice(&bytes);
        assert_eq!(read.path().unwrap().to_str(), Some("uki.efi"));
        assert_eq!(
            (read.size().unwrap(), read.mode().unwrap()),
            (18_041_856, 0o644)
        );
        assert_eq!(read.entry_type(), tar::EntryType::Regular);
        assert_eq!(
            read.cksum().unwrap(),
            bytes.iter().enumerate().fold(0, |sum, (at, byte)| {
                sum + u32::from(if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                })
            })
        );
        assert_eq!(crate::hex::encode(&Sha256::digest(bytes)), HEADER);
    }

    /// Frozen: a bundle is compared with it byte by byte.
    const HEADER: &str = "c8f5c1e4d761af5de97fa6fc0947339b8cf259eff16ffa082cad78da7951a90f";

    #[test]
    fn a_size_has_one_spelling() {
        assert_eq!(octal_number(b"00000000017\0"), Some(15));
        assert_eq!(octal_number(b"77777777777\0"), Some(MOST));
        for wrong in [
            b"00000000017 ",
            b"          17",
            b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
        ] {
            assert_eq!(octal_number(wrong), None);
        }
    }
}

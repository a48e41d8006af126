//! What the machine wrote to its serial console, read from the file that QEMU appends to.

use std::fs;
use std::path::{Path, PathBuf};

/// The serial console's log.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
}

impl Console {
    pub(crate) fn new(path: PathBuf) -> Console {
        Console { path }
    }

    /// The log file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything so far, without carriage returns and escape sequences; empty when there is nothing yet.
    #[must_use]
    pub fn text(&self) -> String {
        plain(&fs::read(&self.path).unwrap_or_default())
    }

    /// The last `lines` lines that are not empty.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        kept[kept.len().saturating_sub(lines)..].join("\n")
    }
}

/// Drops what only a terminal understands: firmware and loader draw with escape sequences.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // A control sequence ends with a byte from @ to ~ (ECMA-48, 5.4).
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_dropped() {
        assert_eq!(
            plain(b"\x1b[2J\x1b[01;01Hhello\r\nworld\x1b[0m\x1b["),
            "hello\nworld"
        );
    }

    #[test]
    fn the_tail_has_the_last_lines_that_say_something() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::new(dir.path().join("console.log"));
        assert_eq!(console.tail(2), "");
        let mut file = fs::File::create(console.path()).unwrap();
        std::io::Write::write_all(&mut file, b"one\r\n\r\ntwo\r\n   \r\nthree\r\n").unwrap();
        assert_eq!(console.tail(2), "two\nthree");
        assert_eq!(console.tail(9), "one\ntwo\nthree");
    }
}

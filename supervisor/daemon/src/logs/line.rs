//! What is kept of a line, in memory and as JSON. It says nothing about where lines come from or go.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr_iter;
use serde::{Deserialize, Serialize};

use super::level;
use crate::clock;

/// How bad it is: the eight levels of syslog (RFC 5424, 6.2.1), worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    Err,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Level {
    pub const ALL: [Self; 8] = [
        Self::Emerg,
        Self::Alert,
        Self::Crit,
        Self::Err,
        Self::Warning,
        Self::Notice,
        Self::Info,
        Self::Debug,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Emerg => "emerg",
            Self::Alert => "alert",
            Self::Crit => "crit",
            Self::Err => "err",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Of a syslog priority: its lowest three bits.
    pub fn of_priority(priority: u32) -> Self {
        let index = usize::try_from(priority & 7).unwrap_or(0);
        Self::ALL.get(index).copied().unwrap_or(Self::Info)
    }

    /// A word, a usual other word for it, or a digit.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        Some(match lower.as_str() {
            "emerg" | "emergency" | "0" => Self::Emerg,
            "alert" | "1" => Self::Alert,
            "crit" | "critical" | "fatal" | "panic" | "2" => Self::Crit,
            "err" | "error" | "3" => Self::Err,
            "warning" | "warn" | "4" => Self::Warning,
            "notice" | "5" => Self::Notice,
            "info" | "6" => Self::Info,
            "debug" | "trace" | "7" => Self::Debug,
            _ => return None,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// By which way a line came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
    Kmsg,
    Syslog,
    /// What atalayad says, about itself or a unit.
    Atalayad,
}

impl Stream {
    fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Kmsg => "kmsg",
            Self::Syslog => "syslog",
            Self::Atalayad => "atalayad",
        }
    }
}

/// One line as it is read back. Fields that a later version adds are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'a> {
    /// RFC 3339, UTC. For people: the wall clock may jump.
    #[serde(borrow)]
    pub t: Cow<'a, str>,
    /// Microseconds since power-on, suspended time included; grows from line to line of a boot. 0 in version 1.
    #[serde(default)]
    pub us: u64,
    #[serde(borrow)]
    pub unit: Cow<'a, str>,
    #[serde(default)]
    pub stream: Option<Stream>,
    #[serde(default)]
    pub level: Option<Level>,
    /// The text; what is not UTF-8 in it is replaced, and `raw` has it.
    #[serde(borrow)]
    pub line: Cow<'a, str>,
    /// The exact bytes, base64, where they are not UTF-8.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Cow<'a, str>>,
    /// It was longer than the limit and goes on in the next line of this unit and stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// Lines that came together. The unit of queueing: one allocation for all of them.
#[derive(Debug)]
pub struct Batch {
    pub unit: Arc<str>,
    pub stream: Stream,
    /// Where it is known from outside the text.
    pub level: Option<Level>,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Of the first line; those behind it count on from there.
    pub us: u64,
    /// Lines with newlines between them and none behind the last.
    pub bytes: Box<[u8]>,
    pub count: u32,
    /// The last one goes on in the next batch.
    pub more: bool,
}

impl Batch {
    pub fn new(unit: Arc<str>, stream: Stream, level: Option<Level>, bytes: Vec<u8>) -> Self {
        let count = memchr_iter(b'\n', &bytes).count() + 1;
        Self {
            unit,
            stream,
            level,
            wall_ms: clock::wall_ms(),
            us: 0,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            bytes: bytes.into_boxed_slice(),
            more: false,
        }
    }

    /// Lines that end in it.
    pub fn lines_ended(&self) -> u64 {
        u64::from(self.count) - u64::from(self.more)
    }

    /// What it takes in memory, about.
    pub fn cost(&self) -> usize {
        self.bytes.len() + 128
    }

    pub fn last_us(&self) -> u64 {
        self.us + u64::from(self.count.saturating_sub(1))
    }

    /// Each line as it came.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == b'\n')
    }

    /// Each line as text for people: no trailing CR, bad UTF-8 replaced. Control characters are still in it.
    pub fn texts(&self) -> impl DoubleEndedIterator<Item = Cow<'_, str>> {
        self.pieces()
            .map(|piece| String::from_utf8_lossy(piece.strip_suffix(b"\r").unwrap_or(piece)))
    }

    /// Appends the lines as they are stored, except those up to `after` (microseconds); tells the worst level.
    pub fn write_json(&self, after: u64, out: &mut Vec<u8>) -> Level {
        let time = clock::format_wall(std::time::Duration::from_millis(self.wall_ms));
        let mut us = self.us;
        let mut rest: &[u8] = &self.bytes;
        let last = self.last_us();
        let mut worst = Level::Debug;
        loop {
            let end = memchr::memchr(b'\n', rest);
            let piece = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
            if us > after {
                let more = self.more && us == last;
                worst = worst.min(self.write_line(&time, us, piece, more, out));
            }
            us += 1;
            let Some(next) = end.and_then(|end| rest.get(end + 1..)) else {
                break;
            };
            rest = next;
        }
        worst
    }

    fn write_line(
        &self,
        time: &str,
        us: u64,
        piece: &[u8],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Level {
        let (level, piece) = match self.level {
            Some(level) => (level, piece),
            None => level::assess(piece),
        };
        out.extend_from_slice(b"{\"t\":\"");
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(b"\",\"us\":");
        write_number(us, out);
        // Unit names have no character that JSON escapes.
        out.extend_from_slice(b",\"unit\":\"");
        out.extend_from_slice(self.unit.as_bytes());
        out.extend_from_slice(b"\",\"stream\":\"");
        out.extend_from_slice(self.stream.word().as_bytes());
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(level.word().as_bytes());
        out.extend_from_slice(b"\",\"line\":");
        match std::str::from_utf8(piece) {
            Ok(text) => write_string(text, out),
            Err(_) => {
                write_string(&String::from_utf8_lossy(piece), out);
                out.extend_from_slice(b",\"raw\":\"");
                out.extend_from_slice(STANDARD.encode(piece).as_bytes());
                out.push(b'"');
            }
        }
        if more {
            out.extend_from_slice(b",\"more\":true");
        }
        out.extend_from_slice(b"}\n");
        level
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(number % 10).unwrap_or(0);
        used += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec does not fail.
    serde_json::to_writer(out, text).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: &[u8], level: Option<Level>) -> Vec<serde_json::Value> {
        let mut batch = Batch::new("u".into(), Stream::Stderr, level, bytes.to_vec());
        batch.us = 41;
        let mut out = Vec::new();
        batch.write_json(0, &mut out);
        out.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn every_byte_comes_back_out_of_a_stored_line() {
        let every: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
        let escape = b"\x1b[31mred\x1b[0m\r".to_vec();
        for bytes in [every, escape, b"caf\xc3\xa9".to_vec(), Vec::new()] {
            let stored = stored(&bytes, Some(Level::Info));
            let [line] = stored.as_slice() else {
                panic!("{stored:?}")
            };
            let back = match line.get("raw") {
                Some(raw) => STANDARD.decode(raw.as_str().unwrap()).unwrap(),
                None => line["line"].as_str().unwrap().as_bytes().to_vec(),
            };
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn lines_of_a_batch_count_on_and_the_known_ones_are_left_out() {
        let lines = stored(b"a\n\nb", None);
        let us: Vec<_> = lines.iter().map(|line| line["us"].as_u64()).collect();
        assert_eq!(us, [Some(41), Some(42), Some(43)]);
        let batch = Batch::new("u".into(), Stream::Stdout, None, b"a\nb".to_vec());
        let mut out = Vec::new();
        batch.write_json(0, &mut out);
        assert_eq!(memchr_iter(b'\n', &out).count(), 1);
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}

//! The form of a segment, version 2: a header line, then a line per line, all JSON, appended and never changed. Closed ones are
//! zstd. Reading is pure ([`scan`]) or streamed with bounded memory ([`Reader`]); neither fails on what a power cut or a stranger
//! left there: what is no line is passed over. Version 1 had no header and its lines name their boot.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::line::Line;

/// Of what is written here.
pub const VERSION: u32 = 2;
/// A line of [`super::pump::LINE_LIMIT`] bytes, each escaped in six, and the same in base64.
const STORED_LIMIT: u64 = 8 << 20;

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version.
    pub atalaya_log: u32,
    #[serde(default)]
    pub boot: String,
    /// How long the machine had been on in all its life when the segment was begun, in milliseconds.
    #[serde(default)]
    pub on_ms: u64,
    /// The wall clock then, for people.
    #[serde(default)]
    pub t: String,
}

/// What one stored line is.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Header(Header),
    Line(Line<'a>),
    /// Torn, damaged, or not ours.
    Junk,
}

/// Reads one stored line, without its newline.
pub fn parse_record(bytes: &[u8]) -> Record<'_> {
    if bytes.starts_with(b"{\"atalaya_log\"")
        && let Ok(header) = serde_json::from_slice(bytes)
    {
        return Record::Header(header);
    }
    serde_json::from_slice(bytes).map_or(Record::Junk, Record::Line)
}

/// What a segment's bytes hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    pub version: u32,
    pub header: Option<Header>,
    pub lines: Vec<Line<'a>>,
    /// Up to here all is whole: what is behind it is a torn tail.
    pub good: usize,
    /// Stretches before that which are no lines.
    pub junk: usize,
}

/// Reads a segment that is not compressed. Of a newer version nothing is read, and nothing is torn.
pub fn scan(bytes: &[u8]) -> Scan<'_> {
    let mut found = Scan {
        version: 1,
        header: None,
        lines: Vec::new(),
        good: 0,
        junk: 0,
    };
    let (mut at, mut junk) = (0, 0);
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let first = at == 0;
        at += piece.len();
        let whole = piece.strip_suffix(b"\n");
        match whole.map_or(Record::Junk, parse_record) {
            Record::Header(header) if first => {
                found.version = header.atalaya_log;
                found.header = Some(header);
                if found.version > VERSION {
                    found.good = bytes.len();
                    return found;
                }
            }
            Record::Line(line) => found.lines.push(line),
            Record::Header(_) | Record::Junk => {
                junk += 1;
                continue;
            }
        }
        found.good = at;
        found.junk += std::mem::take(&mut junk);
    }
    found
}

/// Reads a segment line by line, compressed or not.
pub struct Reader {
    input: Box<dyn BufRead>,
    pub header: Option<Header>,
    pending: Option<Vec<u8>>,
    buffer: Vec<u8>,
    /// Bytes of it that are whole.
    pub good: u64,
    at: u64,
}

impl Reader {
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let input: Box<dyn BufRead> = if is_compressed(path) {
            let decoder = zstd::stream::read::Decoder::new(file)?;
            Box::new(BufReader::new(decoder))
        } else {
            Box::new(BufReader::with_capacity(64 << 10, file))
        };
        let mut reader = Self {
            input,
            header: None,
            pending: None,
            buffer: Vec::new(),
            good: 0,
            at: 0,
        };
        if let Some(first) = reader.read_piece() {
            match parse_record(&first) {
                Record::Header(header) => {
                    reader.good = reader.at;
                    reader.header = Some(header);
                }
                Record::Line(_) | Record::Junk => reader.pending = Some(first),
            }
        }
        Ok(reader)
    }

    pub fn version(&self) -> u32 {
        self.header.as_ref().map_or(1, |header| header.atalaya_log)
    }

    /// Hands on every line with its bytes, until `each` has had enough (false).
    pub fn each(&mut self, each: &mut dyn FnMut(&[u8], Line<'_>) -> bool) {
        if self.version() > VERSION {
            return;
        }
        let mut next = self.pending.take();
        while let Some(piece) = next.or_else(|| self.read_piece()) {
            if let Record::Line(line) = parse_record(&piece) {
                self.good = self.at;
                if !each(&piece, line) {
                    return;
                }
            }
            self.buffer = piece;
            next = None;
        }
    }

    /// The next whole piece, without its newline. What is too long to be a line comes in part and is junk.
    fn read_piece(&mut self) -> Option<Vec<u8>> {
        let mut piece = std::mem::take(&mut self.buffer);
        piece.clear();
        // One long line must not cost its room for ever.
        piece.shrink_to(256 << 10);
        let mut limited = self.input.by_ref().take(STORED_LIMIT);
        // What cannot be read ends the segment for its readers.
        let read = limited.read_until(b'\n', &mut piece).unwrap_or(0);
        self.at += read as u64;
        match piece.pop() {
            Some(b'\n') => Some(piece),
            Some(_) if read as u64 == STORED_LIMIT => Some(Vec::new()),
            // The torn tail, or the end.
            Some(_) | None => None,
        }
    }
}

pub fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// A stored line as it is served: with its boot, and otherwise untouched.
pub fn with_boot<'a>(boot: &str, line: &'a [u8]) -> Cow<'a, [u8]> {
    // Only version 1 names it in every line.
    let near = line.get(..line.len().min(200)).unwrap_or(line);
    match line.strip_prefix(b"{") {
        Some(rest) if memchr::memmem::find(near, b"\"boot\":").is_none() => {
            let mut whole = Vec::with_capacity(line.len() + boot.len() + 12);
            whole.extend_from_slice(b"{\"boot\":\"");
            whole.extend_from_slice(boot.as_bytes());
            whole.extend_from_slice(b"\",");
            whole.extend_from_slice(rest);
            Cow::Owned(whole)
        }
        Some(_) | None => Cow::Borrowed(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::line::{Level, Stream};

    const GOLDEN_1: &[u8] = include_bytes!("golden/version-1.jsonl");
    const GOLDEN_2: &[u8] = include_bytes!("golden/version-2.jsonl");

    #[test]
    fn every_version_that_was_ever_written_can_be_read() {
        let one = scan(GOLDEN_1);
        assert_eq!((one.version, one.lines.len(), one.junk), (1, 2, 0));
        assert_eq!(one.lines[1].line, "listening on /run/postgresql");
        let two = scan(GOLDEN_2);
        assert_eq!((two.version, two.lines.len(), two.junk), (2, 4, 0));
        assert_eq!(two.header.unwrap().on_ms, 86_400_000);
        let raw = &two.lines[2];
        assert_eq!(
            (raw.stream, raw.level),
            (Some(Stream::Stderr), Some(Level::Err))
        );
        assert_eq!((raw.raw.as_deref(), raw.us), (Some("Y2Fm6Q=="), 1_000_002));
        assert!(two.lines[3].more);
    }

    #[test]
    fn a_segment_cut_at_any_byte_loses_only_the_line_it_goes_through() {
        let whole = scan(GOLDEN_2).lines;
        let mut ends: Vec<usize> = memchr::memchr_iter(b'\n', GOLDEN_2)
            .map(|at| at + 1)
            .collect();
        ends.remove(0);
        for cut in 0..=GOLDEN_2.len() {
            let found = scan(&GOLDEN_2[..cut]);
            let expected = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(found.lines, whole[..expected], "cut at {cut}");
            let good = &GOLDEN_2[..found.good];
            assert!(found.good <= cut && (good.is_empty() || good.ends_with(b"\n")));
        }
    }

    #[test]
    fn zeroes_and_rubbish_between_lines_cost_nothing_but_themselves() {
        let (head, tail) = GOLDEN_2.split_at(GOLDEN_2.len() / 2);
        let at = head.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        let (head, begun) = head.split_at(at);
        let damaged = [
            head,
            &[0; 4096],
            b"\n{\"t\":1}\n\xff\xfe\n",
            begun,
            tail,
            &[0; 512],
        ]
        .concat();
        let found = scan(&damaged);
        assert_eq!(found.lines, scan(GOLDEN_2).lines);
        assert_eq!(
            (found.junk, found.good),
            (3, damaged.len() - 512),
            "{found:?}"
        );
    }

    #[test]
    fn a_newer_version_is_left_alone() {
        let newer = b"{\"atalaya_log\":3,\"what\":[]}\n\x01\x02\x03";
        let found = scan(newer);
        assert_eq!((found.version, found.good), (3, newer.len()));
        assert!(found.lines.is_empty());
    }

    #[test]
    fn the_stream_reads_what_the_scan_reads() {
        let root = tempfile::tempdir().unwrap();
        let plain = root.path().join("000001.jsonl");
        let packed = root.path().join("000002.jsonl.zst");
        let mut torn = GOLDEN_2.to_vec();
        torn.extend_from_slice(b"{\"t\":\"20");
        crate::logs::put(&plain, &torn);
        crate::logs::put(&packed, &zstd::encode_all(&*torn, 3).unwrap());
        for path in [plain, packed] {
            let mut reader = Reader::open(&path).unwrap();
            let mut found = Vec::new();
            reader.each(&mut |bytes, line| {
                found.push((bytes.to_vec(), line.us));
                true
            });
            assert_eq!(found.len(), 4);
            assert_eq!(reader.good, GOLDEN_2.len() as u64);
            assert_eq!(found[0].1, 1_000_000);
        }
    }

    #[test]
    fn a_served_line_names_its_boot_once() {
        assert_eq!(
            &*with_boot("b", b"{\"t\":\"x\"}"),
            b"{\"boot\":\"b\",\"t\":\"x\"}"
        );
        let old = GOLDEN_1.split(|byte| *byte == b'\n').next().unwrap();
        assert_eq!(&*with_boot("b", old), old);
    }
}

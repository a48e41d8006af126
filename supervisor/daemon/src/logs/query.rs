//! Reading logs back: by unit, time, boot and level, all or the last ones. Memory is bounded whatever there is on disk: lines are
//! handed on one by one, and the last N are found by counting first. What cannot be read as a line is left out.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atalaya_core::last_boot::Cause;
use serde::Serialize;

use super::directory::{boot_of, list_boots as list_directories, list_segments};
use super::last_boot::{self, Ended};
use super::line::{Batch, Level, Line};
use super::segment::{Reader, Record, parse_record, with_boot};

/// Which lines. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Empty: all.
    pub units: Vec<String>,
    /// RFC 3339 in UTC with milliseconds; compared as text, which for that form is comparing times.
    pub since: Option<String>,
    pub until: Option<String>,
    /// A boot's id or the beginning of one, or 0 for this one, -1 for the one before, and so on.
    pub boot: Option<String>,
    /// This bad or worse.
    pub level: Option<Level>,
    /// The last so many.
    pub lines: Option<u64>,
}

impl Query {
    pub fn admits(&self, line: &Line<'_>) -> bool {
        let unit = &*line.unit;
        (self.units.is_empty() || self.units.iter().any(|wanted| wanted == unit))
            && self.since.as_deref().is_none_or(|since| &*line.t >= since)
            && self.until.as_deref().is_none_or(|until| &*line.t <= until)
            && self
                .level
                .is_none_or(|level| line.level.unwrap_or(Level::Info) <= level)
    }
}

/// Where lines are.
pub struct Place<'a> {
    pub root: Option<&'a Path>,
    pub boot: &'a str,
    /// What is in memory, taken before the disk is read.
    pub memory: &'a [Arc<Batch>],
    /// Lines of memory up to here are known already, in microseconds.
    pub after: u64,
}

/// Hands on every line that `query` admits, as JSON, oldest first, until `each` has had enough (false). Returns the time of the
/// last line of this boot that was looked at, in microseconds: what comes behind it is news.
pub fn read_stored(
    place: &Place<'_>,
    query: &Query,
    each: &mut dyn FnMut(Cow<'_, [u8]>) -> bool,
) -> u64 {
    let directories = place.root.map(list_directories).unwrap_or_default();
    let (chosen, with_this) = choose(directories, place.boot, query.boot.as_deref());
    let segments: Vec<Segment> = chosen
        .iter()
        .flat_map(|directory| {
            let is_this = boot_of(directory) == Some(place.boot);
            list_segments(directory)
                .into_iter()
                .map(move |path| Segment { path, is_this })
        })
        .collect();
    let memory = if with_this { place.memory } else { &[] };
    let from = match query.lines {
        Some(lines) => find_start(&segments, memory, query, lines),
        None => Start::default(),
    };
    let mut pass = Pass {
        query,
        boot: place.boot,
        skip: from.skip,
        last_us: place.after,
        until_us: from.until_us,
        each,
    };
    for segment in segments.iter().skip(from.segment) {
        if !pass.read(segment) {
            return pass.last_us;
        }
    }
    if !with_this {
        return place.memory.last().map_or(0, |batch| batch.last_us());
    }
    pass.remember(memory);
    pass.last_us
}

struct Segment {
    path: PathBuf,
    /// Of the boot that runs now.
    is_this: bool,
}

/// Where the last N lines begin.
#[derive(Default)]
struct Start {
    segment: usize,
    skip: u64,
    /// What was written to disk after the counting is taken from memory.
    until_us: Option<u64>,
}

fn find_start(segments: &[Segment], memory: &[Arc<Batch>], query: &Query, lines: u64) -> Start {
    let mut until_us = 0;
    let mut counts = Vec::new();
    let mut total = 0;
    for (index, segment) in segments.iter().enumerate().rev() {
        let mut count = 0;
        if let Ok(mut reader) = open(&segment.path) {
            reader.each(&mut |_, line| {
                if segment.is_this {
                    until_us = until_us.max(line.us);
                }
                count += u64::from(query.admits(&line));
                true
            });
        }
        if counts.is_empty() {
            total += count_memory(memory, query, until_us);
        }
        total += count;
        counts.push(index);
        if total >= lines {
            break;
        }
    }
    if counts.is_empty() {
        total = count_memory(memory, query, 0);
    }
    Start {
        segment: counts.last().copied().unwrap_or(0),
        skip: total.saturating_sub(lines),
        until_us: Some(until_us),
    }
}

fn count_memory(memory: &[Arc<Batch>], query: &Query, after: u64) -> u64 {
    let mut count = 0;
    each_in_memory(memory, after, &mut |_, line| {
        count += u64::from(query.admits(&line));
        true
    });
    count
}

/// Hands on the lines behind `after` (microseconds); false if `each` has had enough.
fn each_in_memory(
    memory: &[Arc<Batch>],
    after: u64,
    each: &mut dyn FnMut(&[u8], Line<'_>) -> bool,
) -> bool {
    let mut json = Vec::new();
    for batch in memory {
        json.clear();
        batch.write_json(after, &mut json);
        for piece in json.split(|byte| *byte == b'\n') {
            if let Record::Line(line) = parse_record(piece)
                && !each(piece, line)
            {
                return false;
            }
        }
    }
    true
}

struct Pass<'a> {
    query: &'a Query,
    boot: &'a str,
    skip: u64,
    last_us: u64,
    until_us: Option<u64>,
    each: &'a mut dyn FnMut(Cow<'_, [u8]>) -> bool,
}

impl Pass<'_> {
    /// False if there is no reader any more.
    fn read(&mut self, segment: &Segment) -> bool {
        let Ok(mut reader) = open(&segment.path) else {
            return true;
        };
        let boot = segment
            .path
            .parent()
            .and_then(boot_of)
            .unwrap_or_default()
            .to_owned();
        let mut goes_on = true;
        reader.each(&mut |bytes, line| {
            if segment.is_this {
                if self.until_us.is_some_and(|until| line.us > until) {
                    return false;
                }
                self.last_us = self.last_us.max(line.us);
            }
            goes_on = self.offer(&boot, bytes, &line);
            goes_on
        });
        goes_on
    }

    fn remember(&mut self, memory: &[Arc<Batch>]) {
        let boot = self.boot.to_owned();
        each_in_memory(memory, self.last_us, &mut |bytes, line| {
            self.last_us = line.us;
            self.offer(&boot, bytes, &line)
        });
    }

    fn offer(&mut self, boot: &str, bytes: &[u8], line: &Line<'_>) -> bool {
        if !self.query.admits(line) {
            return true;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return true;
        }
        (self.each)(with_boot(boot, bytes))
    }
}

/// It may have been compressed since it was listed.
fn open(path: &Path) -> std::io::Result<Reader> {
    Reader::open(path).or_else(|_| Reader::open(&path.with_extension("jsonl.zst")))
}

/// Which boots' directories, and whether this boot is among them, which may have none yet.
fn choose(boots: Vec<PathBuf>, this: &str, wanted: Option<&str>) -> (Vec<PathBuf>, bool) {
    let Some(wanted) = wanted else {
        return (boots, true);
    };
    if let Ok(back @ ..=0) = wanted.parse::<i64>() {
        let mut earlier: Vec<PathBuf> = boots;
        let own: Vec<PathBuf> = earlier
            .extract_if(.., |boot| boot_of(boot) == Some(this))
            .collect();
        let back = usize::try_from(back.unsigned_abs()).unwrap_or(usize::MAX);
        let Some(back) = back.checked_sub(1) else {
            return (own, true);
        };
        return (
            earlier.into_iter().rev().nth(back).into_iter().collect(),
            false,
        );
    }
    let chosen = boots
        .into_iter()
        .filter(|directory| boot_of(directory).is_some_and(|boot| boot.starts_with(wanted)))
        .collect();
    (chosen, this.starts_with(wanted))
}

/// A boot that has a log.
#[derive(Debug, Serialize)]
pub struct Boot {
    /// 0 is this one, -1 the one before.
    pub index: i64,
    pub boot: String,
    /// When its first segment was begun, by the clock of then.
    pub began: Option<String>,
    /// Its last line.
    pub ended: Option<String>,
    /// How it ended; nothing for this one, and where nobody has looked.
    #[serde(flatten)]
    pub cause: Option<Cause>,
}

/// All boots that have a log, newest first.
pub fn list_boots(root: Option<&Path>, this: &str) -> Vec<Boot> {
    let mut boots = vec![Boot {
        index: 0,
        boot: this.to_owned(),
        began: None,
        ended: None,
        cause: None,
    }];
    let directories = root.map(list_directories).unwrap_or_default();
    for directory in directories.iter().rev() {
        let id = boot_of(directory).unwrap_or_default();
        let began = list_segments(directory)
            .first()
            .and_then(|path| began(path));
        if id == this {
            if let Some(own) = boots.first_mut() {
                own.began = began;
            }
            continue;
        }
        let ended: Option<Ended> = read_small(&directory.join(last_boot::END))
            .and_then(|text| serde_json::from_slice(&text).ok());
        let (ended, cause) = ended.map_or((None, None), |end| (end.ended, Some(end.cause)));
        boots.push(Boot {
            index: -i64::try_from(boots.len()).unwrap_or(i64::MAX),
            boot: id.to_owned(),
            began,
            ended,
            cause,
        });
    }
    boots
}

fn began(path: &Path) -> Option<String> {
    let mut reader = open(path).ok()?;
    if let Some(header) = &reader.header {
        return Some(header.t.clone());
    }
    let mut first = None;
    reader.each(&mut |_, line| {
        first = Some(line.t.into_owned());
        false
    });
    first
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    BufReader::new(file.take(256 << 10))
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

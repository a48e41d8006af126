//! What was copied while the services ran, so that only differences are left for the time in which nobody is served. A file counts as the
//! same if its number and the time of its last change are: nobody can set that time, and whatever is done to a file moves it.
//!
//! The kernel's steps of time are some milliseconds long: one in which a file was copied can hold another change with the same time. So a file
//! that has just changed is not noted.

use std::path::Path;
use std::time::Duration;

use atalaya_sys::{Context, Result, durable};
use nix::sys::stat::FileStat;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Inode number of the copy.
    copy: u64,
    /// Of what it was made from.
    source: u64,
    /// The source's ctime, nanoseconds since 1970.
    changed: i64,
}

const BYTES: usize = 24;

/// What holds for the whole copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub from: u32,
    /// The largest table with its indexes: name and bytes.
    pub largest: Option<(String, u64)>,
}

#[derive(Debug, Default)]
pub struct Index {
    pub about: About,
    /// For how long a file must not have changed.
    settled: Duration,
    entries: Vec<Entry>,
}

impl Index {
    pub fn new(about: About, settled: Duration) -> Self {
        Self {
            about,
            settled,
            entries: Vec::new(),
        }
    }

    /// Notes a copy of `source`, as it was when the copy began. `now`: nanoseconds since 1970.
    pub fn note(&mut self, copy: &FileStat, source: &FileStat, now: i64) {
        let changed = ctime(source);
        let age = i128::from(now) - i128::from(changed);
        if age >= self.settled.as_nanos().cast_signed() {
            self.entries.push(Entry {
                copy: copy.st_ino,
                source: source.st_ino,
                changed,
            });
        }
    }

    /// Whether `copy` still is one of `source`.
    pub fn holds(&self, copy: &FileStat, source: &FileStat) -> bool {
        let wanted = Entry {
            copy: copy.st_ino,
            source: source.st_ino,
            changed: ctime(source),
        };
        copy.st_size == source.st_size && self.entries.binary_search(&wanted).is_ok()
    }

    /// A line of JSON, then the entries as three little-endian numbers each.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(mut self, path: &Path) -> Result<()> {
        self.entries.sort_unstable();
        self.entries.dedup();
        let mut bytes = serde_json::to_vec(&self.about)
            .map_err(std::io::Error::other)
            .context("write", path.display())?;
        bytes.push(b'\n');
        bytes.reserve(self.entries.len() * BYTES);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.copy.to_le_bytes());
            bytes.extend_from_slice(&entry.source.to_le_bytes());
            bytes.extend_from_slice(&entry.changed.to_le_bytes());
        }
        durable::write(path, &bytes, 0o600, None)
    }

    /// None where there is none that can be read: then everything is copied.
    pub fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let line = bytes.iter().position(|byte| *byte == b'\n')?;
        let about = serde_json::from_slice(&bytes[..line]).ok()?;
        let (entries, rest) = bytes[line + 1..].as_chunks::<BYTES>();
        let number = |part: &[u8]| part.try_into().ok().map(u64::from_le_bytes);
        let entry = |bytes: &[u8; BYTES]| {
            Some(Entry {
                copy: number(&bytes[..8])?,
                source: number(&bytes[8..16])?,
                changed: number(&bytes[16..])?.cast_signed(),
            })
        };
        let entries = entries.iter().map(entry).collect::<Option<Vec<_>>>()?;
        (rest.is_empty() && entries.is_sorted()).then_some(Self {
            about,
            settled: Duration::MAX,
            entries,
        })
    }
}

fn ctime(stat: &FileStat) -> i64 {
    stat.st_ctime
        .saturating_mul(1_000_000_000)
        .saturating_add(stat.st_ctime_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn stat(file: &File) -> FileStat {
        nix::sys::stat::fstat(file).unwrap()
    }

    const SETTLED: Duration = Duration::from_secs(2);
    const SETTLED_NS: i64 = 2_000_000_000;

    fn about() -> About {
        About {
            from: 3,
            largest: Some(("posts".to_owned(), 12)),
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_cut_short_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let (source, copy) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut index = Index::new(about(), SETTLED);
        let later = ctime(&stat(&source)) + SETTLED_NS;
        index.note(&stat(&copy), &stat(&source), later);
        index.note(&stat(&copy), &stat(&source), later);
        index.write(&path).unwrap();
        let read = Index::read(&path).unwrap();
        assert_eq!((read.about.clone(), read.entries.len()), (about(), 1));
        assert!(read.holds(&stat(&copy), &stat(&source)));
        assert!(!read.holds(&stat(&source), &stat(&copy)));

        let whole = std::fs::read(&path).unwrap();
        durable::write(&path, &whole[..whole.len() - 1], 0o600, None).unwrap();
        assert!(Index::read(&path).is_none());
        assert!(Index::read(&folder.path().join("none")).is_none());
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_noted() {
        let (source, copy) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let changed = ctime(&stat(&source));
        let mut index = Index::new(about(), SETTLED);
        index.note(&stat(&copy), &stat(&source), changed);
        index.note(&stat(&copy), &stat(&source), changed + SETTLED_NS - 1);
        // The clock was set back.
        index.note(&stat(&copy), &stat(&source), changed - 100 * SETTLED_NS);
        assert!(index.entries.is_empty());
    }

    #[test]
    fn a_change_that_leaves_size_and_mtime_as_they_were_is_seen() {
        let (mut source, copy) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all(b"one").unwrap();
        let before = stat(&source);
        let mut index = Index::new(about(), SETTLED);
        index.note(
            &copy_of(&copy, &before),
            &before,
            ctime(&before) + SETTLED_NS,
        );
        let mut after = before;
        // What the kernel would say after the next write.
        after.st_ctime_nsec += 1;
        assert!(index.holds(&copy_of(&copy, &before), &before));
        assert!(!index.holds(&copy_of(&copy, &before), &after));
        // Another file has come to that name.
        let mut other = before;
        other.st_ino += 1;
        assert!(!index.holds(&copy_of(&copy, &before), &other));
    }

    fn copy_of(copy: &File, source: &FileStat) -> FileStat {
        let mut stat = stat(copy);
        stat.st_size = source.st_size;
        stat
    }
}

//! Segments on disk: `ROOT/NNNNNN-BOOT/NNNNNN.jsonl`, numbered in order, so that a clock that jumps disturbs nothing.
//! A segment is only ever appended to, by one process; a new atalayad begins a new one. So a line that a power cut tore can only
//! be the last of its segment, where readers leave it out. The oldest segments are deleted when all take too much room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Line;

/// Bytes of one segment.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes of all segments of all boots.
const TOTAL_BYTES: u64 = 256 << 20;

/// How long a disk that took no line is left alone.
const REST: Duration = Duration::from_secs(10);

/// The writer's end.
pub struct Store {
    root: PathBuf,
    directory: PathBuf,
    segment: Option<(File, u64)>,
    number: u32,
    synced: Instant,
    /// A disk that is full or broken is not asked again for every line.
    rest_until: Option<Instant>,
    is_dirty: bool,
    segment_bytes: u64,
    total_bytes: u64,
}

impl Store {
    pub fn open(root: PathBuf, boot: &str) -> Self {
        Self::with_limits(root, boot, SEGMENT_BYTES, TOTAL_BYTES)
    }

    fn with_limits(root: PathBuf, boot: &str, segment_bytes: u64, total_bytes: u64) -> Self {
        let boots = list_boots(&root);
        let known = boots
            .iter()
            .find(|directory| boot_of(directory) == Some(boot))
            .cloned();
        let directory = known.unwrap_or_else(|| {
            let next = boots.last().and_then(|last| number_of(last)).unwrap_or(0) + 1;
            root.join(format!("{next:06}-{boot}"))
        });
        let number = list_segments(&directory)
            .last()
            .and_then(|last| number_of(last))
            .unwrap_or(0);
        Self {
            root,
            directory,
            segment: None,
            number,
            synced: Instant::now(),
            rest_until: None,
            is_dirty: false,
            segment_bytes,
            total_bytes,
        }
    }

    /// Appends a line. A disk that cannot take it loses it: there is nowhere else to say so than the ring in memory,
    /// which has it.
    pub fn append(&mut self, line: &Line) {
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let Ok(mut bytes) = serde_json::to_vec(line) else {
            return;
        };
        bytes.push(b'\n');
        if self
            .segment
            .as_ref()
            .is_some_and(|(_, size)| *size + bytes.len() as u64 > self.segment_bytes)
        {
            self.sync();
            self.segment = None;
        }
        if self.segment.is_none() {
            self.segment = self.begin_segment().ok().map(|file| (file, 0));
        }
        let Some((file, size)) = &mut self.segment else {
            return;
        };
        self.is_dirty = true;
        match file.write_all(&bytes) {
            Ok(()) => *size += bytes.len() as u64,
            // What is torn must stay the last line of its segment.
            Err(_) => {
                self.segment = None;
                self.rest_until = Some(Instant::now() + REST);
            }
        }
    }

    pub fn sync(&mut self) {
        if let Some((file, _)) = &self.segment {
            // It will be tried again with the next lines; there is no better answer to a broken disk.
            file.sync_data().ok();
        }
        self.synced = Instant::now();
        self.is_dirty = false;
    }

    /// Syncs what was written, not more often than `every`.
    pub fn sync_now_and_then(&mut self, every: Duration) {
        if self.is_dirty && self.synced.elapsed() >= every {
            self.sync();
        }
    }

    fn begin_segment(&mut self) -> io::Result<File> {
        fs::create_dir_all(&self.directory)?;
        self.make_room();
        self.number += 1;
        let path = self.directory.join(format!("{:06}.jsonl", self.number));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        File::open(&self.directory)?.sync_all()?;
        Ok(file)
    }

    fn make_room(&self) {
        let segments: Vec<(PathBuf, u64)> = list_boots(&self.root)
            .iter()
            .flat_map(|boot| list_segments(boot))
            .map(|path| {
                let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                (path, size)
            })
            .collect();
        let mut total: u64 = segments.iter().map(|(_, size)| size).sum();
        for (path, size) in segments {
            if total + self.segment_bytes <= self.total_bytes {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                total -= size;
                if let Some(boot) = path.parent().filter(|boot| **boot != self.directory) {
                    // Succeeds when it was the boot's last.
                    drop(fs::remove_dir(boot));
                }
            }
        }
    }
}

/// The directories of all boots, oldest first.
pub(super) fn list_boots(root: &Path) -> Vec<PathBuf> {
    list(root, |path| {
        path.is_dir() && number_of(path).is_some() && boot_of(path).is_some()
    })
}

/// The segments of one boot, oldest first.
pub(super) fn list_segments(boot: &Path) -> Vec<PathBuf> {
    list(boot, |path| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
            && number_of(path).is_some()
    })
}

/// The boot's id, from its directory's name.
pub(super) fn boot_of(directory: &Path) -> Option<&str> {
    directory
        .file_name()?
        .to_str()?
        .split_once('-')
        .map(|(_, boot)| boot)
}

fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.get(..6)?.parse().ok()
}

fn list(directory: &Path, keep: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| keep(path))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Filter, read_stored};

    fn line(boot: &str, text: &str) -> Line {
        Line {
            t: "2026-01-01T00:00:00.000Z".into(),
            unit: "u".into(),
            boot: boot.into(),
            line: text.into(),
        }
    }

    fn texts(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        read_stored(root, &Filter::default(), &mut |line| found.push(line.line));
        found
    }

    #[test]
    fn a_torn_tail_costs_only_itself() {
        let root = tempfile::tempdir().unwrap();
        let mut store = Store::open(root.path().into(), "one");
        store.append(&line("one", "first"));
        let segment = list_segments(&list_boots(root.path())[0])[0].clone();
        let mut file = OpenOptions::new().append(true).open(segment).unwrap();
        file.write_all(b"{\"t\":\"2026-01-01T00:0").unwrap();
        let mut again = Store::open(root.path().into(), "one");
        again.append(&line("one", "second"));
        assert_eq!(texts(root.path()), ["first", "second"]);
    }

    #[test]
    fn the_oldest_segments_yield_and_boots_stay_in_order() {
        let root = tempfile::tempdir().unwrap();
        for boot in ["b", "a", "c"] {
            let mut store = Store::with_limits(root.path().into(), boot, 300, 1200);
            for number in 0..6 {
                store.append(&line(boot, &format!("{boot}{number} {}", "x".repeat(40))));
            }
        }
        let kept = texts(root.path());
        assert!(
            !kept.is_empty() && kept.last().unwrap().starts_with("c5"),
            "{kept:?}"
        );
        let mut size = 0;
        for boot in list_boots(root.path()) {
            size += list_segments(&boot)
                .iter()
                .map(|path| path.metadata().unwrap().len())
                .sum::<u64>();
        }
        assert!(size <= 1200, "{size}");
        let boots: Vec<_> = list_boots(root.path())
            .iter()
            .map(|path| boot_of(path).unwrap().to_owned())
            .collect();
        assert_eq!(boots.last().unwrap(), "c");
    }
}

//! The keeper: one thread for all that a disk may be slow at and that must not hold up the writer. It syncs what was written, cuts
//! the torn tails of segments that a crash left, compresses closed ones, and deletes the oldest when all take too much room or are too
//! old. Deleted is only what this version wrote or knows; what a newer one wrote is left alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use atalaya_sys::durable;
use tokio::sync::oneshot;

use super::directory::{list, list_boots, list_segments, number_of};
use super::on_clock::OnClock;
use super::segment::{Reader, VERSION, is_compressed};

/// How much of the disk logs may take, and for how long they are kept.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of all segments of all boots.
    pub bytes: u64,
    /// The same as a part of the partition: 1/N.
    pub share: u64,
    /// In milliseconds of the machine being on.
    pub age_ms: u64,
    /// What is left when the disk is needed by others, in bytes.
    pub floor: u64,
}

impl Budget {
    pub const SHIPPED: Self = Self {
        bytes: 256 << 20,
        share: 20,
        age_ms: 90 * 24 * 3600 * 1000,
        floor: 4 << 20,
    };
}

/// How often the count of time is written down.
const KEEP_CLOCK: Duration = Duration::from_secs(600);

pub(super) enum Chore {
    Sync(Arc<File>),
    /// What is written must be on disk when these are answered.
    Flush {
        file: Option<Arc<File>>,
        waiting: Vec<oneshot::Sender<()>>,
    },
    Begun(PathBuf),
    Closed(PathBuf),
    /// The same, where a write has failed that could not be taken back.
    Torn(PathBuf),
    /// The disk is full: half of what logs take is given back.
    Shrink,
    /// Others need the disk: all but the floor is given back.
    Yield,
    /// Anything else that may wait for the disk.
    Run(Box<dyn FnOnce() + Send>),
}

/// The way to the keeper. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keeper {
    chores: Sender<Chore>,
    is_syncing: Arc<AtomicBool>,
    pub sync_failed: Arc<AtomicBool>,
}

impl Keeper {
    pub fn new() -> (Self, Receiver<Chore>) {
        let (chores, receiver) = channel();
        let keeper = Self {
            chores,
            is_syncing: Arc::default(),
            sync_failed: Arc::default(),
        };
        (keeper, receiver)
    }

    pub fn ask(&self, chore: Chore) {
        // It is gone only when the process ends.
        self.chores.send(chore).ok();
    }

    /// Has it synced; false while it is still at the last one.
    pub fn sync(&self, file: &Arc<File>) -> bool {
        if self.is_syncing.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.ask(Chore::Sync(Arc::clone(file)));
        true
    }
}

/// The keeper's own side.
pub(super) struct Keeping {
    root: PathBuf,
    on: OnClock,
    budget: Budget,
    is_syncing: Arc<AtomicBool>,
    sync_failed: Arc<AtomicBool>,
    /// The segment that is written now.
    open: Option<PathBuf>,
}

impl Keeping {
    pub fn new(root: PathBuf, on: OnClock, budget: Budget, keeper: &Keeper) -> Self {
        Self {
            root,
            on,
            budget,
            is_syncing: Arc::clone(&keeper.is_syncing),
            sync_failed: Arc::clone(&keeper.sync_failed),
            open: None,
        }
    }

    /// Until nobody has chores any more. `left` are the segments that earlier processes did not close.
    pub fn run(mut self, chores: &Receiver<Chore>, left: Vec<PathBuf>) {
        for path in left {
            // A segment that cannot be mended is read as it is.
            self.mend(&path).ok();
        }
        self.make_room(self.limit());
        loop {
            match chores.recv_timeout(KEEP_CLOCK) {
                Ok(chore) => self.carry_out(chore),
                Err(RecvTimeoutError::Timeout) => self.keep_clock(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn carry_out(&mut self, chore: Chore) {
        match chore {
            Chore::Sync(file) => {
                self.sync(&file);
                self.is_syncing.store(false, Ordering::Relaxed);
            }
            Chore::Flush { file, waiting } => {
                if let Some(file) = file {
                    self.sync(&file);
                }
                for done in waiting {
                    // Nobody may be waiting any more.
                    done.send(()).ok();
                }
            }
            Chore::Begun(path) => {
                for directory in path.ancestors().skip(1).take(2) {
                    durable::sync_directory(directory).ok();
                }
                self.open = Some(path);
                self.keep_clock();
                self.make_room(self.limit());
            }
            // What cannot be compressed is read as it is, and tried again at the next start.
            Chore::Closed(path) => {
                self.open.take_if(|open| *open == path);
                compress(&path).ok();
            }
            Chore::Torn(path) => {
                self.open.take_if(|open| *open == path);
                self.mend(&path).ok();
            }
            Chore::Shrink => {
                let total: u64 = self.stored().iter().map(|stored| stored.bytes).sum();
                self.make_room(total / 2);
            }
            Chore::Yield => self.make_room(self.budget.floor),
            Chore::Run(work) => work(),
        }
    }

    fn sync(&self, file: &File) {
        if file.sync_data().is_err() {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
    }

    fn keep_clock(&self) {
        // Losing minutes of it keeps logs a little longer.
        self.on.keep().ok();
    }

    /// Cuts what is torn and compresses the rest.
    fn mend(&self, path: &Path) -> io::Result<()> {
        let mut reader = Reader::open(path)?;
        if reader.version() > VERSION {
            return Ok(());
        }
        reader.each(&mut |_, _| true);
        let good = reader.good;
        drop(reader);
        let length = fs::metadata(path)?.len();
        if length == 0 {
            return fs::remove_file(path);
        }
        // Where nothing can be read it may be another's, or worth looking at.
        if good == 0 {
            return Ok(());
        }
        if good < length {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(good)?;
            file.sync_all()?;
        }
        compress(path)
    }

    fn limit(&self) -> u64 {
        let share = nix::sys::statvfs::statvfs(&self.root).map_or(u64::MAX, |disk| {
            #[allow(clippy::useless_conversion)] // their width depends on the platform
            let bytes = u64::from(disk.blocks()) * u64::from(disk.fragment_size());
            bytes / self.budget.share.max(1)
        });
        self.budget.bytes.min(share)
    }

    /// All closed segments, oldest first.
    fn stored(&self) -> Vec<Stored> {
        list_boots(&self.root)
            .iter()
            .flat_map(|boot| list_segments(boot))
            .filter(|path| self.open.as_deref() != Some(path))
            .map(|path| {
                let header = Reader::open(&path).ok().and_then(|reader| reader.header);
                Stored {
                    bytes: fs::metadata(&path).map_or(0, |metadata| metadata.len()),
                    on_ms: header.as_ref().map_or(0, |header| header.on_ms),
                    is_newer: header.is_some_and(|header| header.atalaya_log > VERSION),
                    path,
                }
            })
            .collect()
    }

    fn make_room(&self, bytes: u64) {
        let stored = self.stored();
        let oldest = self.on.now_ms().saturating_sub(self.budget.age_ms);
        for index in plan_removal(&stored, bytes, oldest) {
            let Some(path) = stored.get(index).map(|stored| &stored.path) else {
                continue;
            };
            fs::remove_file(path).ok();
            if let Some(boot) = path.parent() {
                self.remove_if_empty(boot);
            }
        }
    }

    /// A boot that has no segment left goes, with what was written down about it.
    fn remove_if_empty(&self, boot: &Path) {
        let is_open = self.open.as_deref().and_then(Path::parent) == Some(boot);
        let newest = list_boots(&self.root)
            .last()
            .is_some_and(|last| last == boot);
        if is_open || newest || !list_segments(boot).is_empty() {
            return;
        }
        for path in list(boot, super::last_boot::is_ours) {
            fs::remove_file(path).ok();
        }
        // Fails where something else lies in it.
        fs::remove_dir(boot).ok();
    }
}

/// A closed segment, as far as deleting it is concerned.
struct Stored {
    path: PathBuf,
    bytes: u64,
    /// When it was begun, by the count of the machine being on.
    on_ms: u64,
    is_newer: bool,
}

/// Which go, oldest first: until the rest fits into `limit`, and all that were begun before `oldest_on_ms`.
fn plan_removal(stored: &[Stored], limit: u64, oldest_on_ms: u64) -> Vec<usize> {
    let mut total: u64 = stored.iter().map(|stored| stored.bytes).sum();
    let mut plan = Vec::new();
    for (index, stored) in stored.iter().enumerate() {
        if !stored.is_newer && (total > limit || stored.on_ms < oldest_on_ms) {
            total -= stored.bytes;
            plan.push(index);
        }
    }
    plan
}

/// The segments that earlier processes left open: all plain ones but those from `first` on in `directory`. What a crash left
/// beside them is removed.
pub(super) fn list_left(root: &Path, directory: &Path, first: u32) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for boot in list_boots(root) {
        let is_own = |path: &Path| boot == directory && number_of(path).is_some_and(|n| n >= first);
        for path in list(&boot, |path| number_of(path).is_some() && !is_own(path)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_done = |suffix: &str| {
                name.strip_suffix(suffix)
                    .is_some_and(|number| boot.join(format!("{number}.jsonl.zst")).exists())
            };
            if name.ends_with(".jsonl.zst.new") || is_done(".jsonl") {
                fs::remove_file(&path).ok();
            } else if name.ends_with(".jsonl") && !is_compressed(&path) {
                left.push(path);
            }
        }
    }
    left
}

/// Replaces a segment by its compressed form. At every moment one of the two is complete.
fn compress(path: &Path) -> io::Result<()> {
    let packed = path.with_extension("jsonl.zst");
    let new = path.with_extension("jsonl.zst.new");
    let outcome = compress_into(path, &new).and_then(|()| fs::rename(&new, &packed));
    if let Err(error) = outcome {
        fs::remove_file(&new).ok();
        return Err(error);
    }
    if let Some(directory) = path.parent() {
        durable::sync_directory(directory).map_err(|error| error.source)?;
    }
    fs::remove_file(path)
}

fn compress_into(path: &Path, new: &Path) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::new(File::create(new)?, 3)?;
    // A small window: its tables live only while a segment is compressed, but the supervisor's memory is counted.
    encoder.window_log(18)?;
    encoder.include_checksum(true)?;
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: u64, on_ms: u64, is_newer: bool) -> Stored {
        Stored {
            path: PathBuf::new(),
            bytes,
            on_ms,
            is_newer,
        }
    }

    #[test]
    fn the_oldest_go_first_and_a_newer_versions_never() {
        let all = [
            stored(10, 0, true),
            stored(10, 100, false),
            stored(10, 200, false),
            stored(10, 300, false),
        ];
        assert_eq!(plan_removal(&all, 40, 0), [] as [usize; 0]);
        assert_eq!(plan_removal(&all, 39, 0), [1]);
        assert_eq!(plan_removal(&all, 25, 0), [1, 2]);
        assert_eq!(plan_removal(&all, 0, 0), [1, 2, 3]);
        // By age: what was begun before.
        assert_eq!(plan_removal(&all, 40, 200), [1]);
    }

    #[test]
    fn a_clock_that_jumps_ten_years_either_way_deletes_nothing_and_old_age_does() {
        let root = tempfile::tempdir().unwrap();
        let budget = Budget {
            age_ms: 1000,
            ..Budget::SHIPPED
        };
        let kept = br#"{"version":1,"boot":"b","on_ms":10000,"boot_ms":0}"#;
        crate::logs::put(&root.path().join("on.json"), kept);
        let boot = root.path().join("000001-a");
        fs::create_dir_all(&boot).unwrap();
        fs::create_dir_all(root.path().join("000002-b")).unwrap();
        let begun = [(2016, u64::MAX), (2036, u64::MAX), (2026, 5)];
        for (number, (year, on_ms)) in begun.into_iter().enumerate() {
            let text = format!(
                "{{\"atalaya_log\":2,\"boot\":\"a\",\"on_ms\":{on_ms},\"t\":\"{year}-01-01T00:00:00.000Z\"}}\n"
            );
            let path = boot.join(format!("{:06}.jsonl", number + 1));
            crate::logs::put(&path, text.as_bytes());
        }
        let on = OnClock::read(root.path(), "b");
        let keeping = Keeping::new(root.path().into(), on, budget, &Keeper::new().0);
        keeping.make_room(keeping.limit());
        let left = list_segments(&boot);
        let left: Vec<_> = left.iter().map(|path| number_of(path)).collect();
        assert_eq!(left, [Some(1), Some(2)]);
    }

    #[test]
    fn a_crash_at_any_step_of_compressing_leaves_one_complete_segment() {
        let golden = include_bytes!("golden/version-2.jsonl");
        for step in 0..4 {
            let root = tempfile::tempdir().unwrap();
            let boot = root.path().join("000001-b");
            fs::create_dir(&boot).unwrap();
            let plain = boot.join("000001.jsonl");
            let packed = boot.join("000001.jsonl.zst");
            let new = boot.join("000001.jsonl.zst.new");
            crate::logs::put(&plain, golden);
            match step {
                0 => {}
                1 => crate::logs::put(&new, b"half"),
                2 => compress_into(&plain, &packed).unwrap(),
                _ => compress(&plain).unwrap(),
            }
            let count = |path: &Path| {
                let mut lines = 0;
                Reader::open(path).unwrap().each(&mut |_, _| {
                    lines += 1;
                    true
                });
                lines
            };
            let seen = list_segments(&boot);
            assert_eq!((seen.len(), count(&seen[0])), (1, 4), "step {step}");
            for left in list_left(root.path(), Path::new("other"), 0) {
                compress(&left).unwrap();
            }
            assert_eq!(list_segments(&boot), std::slice::from_ref(&packed));
            assert_eq!(fs::read_dir(&boot).unwrap().count(), 1, "step {step}");
            assert_eq!(count(&packed), 4);
        }
    }
}

//! The writer: one thread that appends batches to the open segment, `ROOT/NNNNNN-BOOT/NNNNNN.jsonl`, numbered in order, so
//! that a clock that jumps disturbs nothing. It opens, writes and cuts back; syncing, compressing and deleting are the keeper's
//! (`keeper`), so that none of them holds up the next write.
//!
//! A segment is appended to by one process; a new atalayad begins a new one. A write that fails is taken back, and its lines wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::directory::{boot_of, list_boots, list_segments, number_of};
use super::keeper::{Chore, Keeper};
use super::line::{Batch, Level};
use super::on_clock::OnClock;
use super::segment::{Header, VERSION};
use super::shared::{Shared, Work};
use crate::clock;

/// When segments are closed, and how long the disk is left alone.
#[derive(Clone)]
pub struct Rotation {
    /// Bytes of one segment.
    pub bytes: u64,
    /// Its age, in milliseconds of the machine being on.
    pub age_ms: u64,
    /// After a write that failed.
    pub rest: Duration,
    /// What a power cut may cost of the log.
    pub sync: Duration,
    /// For tests: called before each write, to stop the disk.
    pub before_write: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Rotation {
    pub fn shipped() -> Self {
        Self {
            bytes: 4 << 20,
            age_ms: 24 * 3600 * 1000,
            rest: Duration::from_secs(5),
            sync: Duration::from_secs(1),
            before_write: None,
        }
    }
}

/// Formatting room that is kept from write to write, in bytes.
const BUFFER_KEPT: usize = 512 << 10;

struct Open {
    file: Arc<File>,
    path: PathBuf,
    bytes: u64,
    since_on_ms: u64,
}

pub(super) struct Store {
    directory: PathBuf,
    boot: String,
    rotation: Rotation,
    keeper: Keeper,
    on: OnClock,
    number: u32,
    segment: Option<Open>,
    buffer: Vec<u8>,
    rest_until_ms: u64,
    /// Since when something is not synced.
    dirty_since_ms: Option<u64>,
    is_urgent: bool,
}

/// The directory of `boot`, and the number of its last segment. Numbers of boots grow, whatever the clock says.
pub(super) fn place(root: &Path, boot: &str) -> (PathBuf, u32) {
    let boots = list_boots(root);
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
    (directory, number)
}

impl Store {
    pub fn new(
        (directory, number): (PathBuf, u32),
        boot: &str,
        on: OnClock,
        rotation: Rotation,
        keeper: Keeper,
    ) -> Self {
        Self {
            directory,
            boot: boot.to_owned(),
            rotation,
            keeper,
            on,
            number,
            segment: None,
            buffer: Vec::new(),
            rest_until_ms: 0,
            dirty_since_ms: None,
            is_urgent: false,
        }
    }

    /// The writer's life, until the hub is closed.
    pub fn run(mut self, shared: &Shared) {
        loop {
            match shared.wait(self.wait_limit(), self.is_resting()) {
                Work::Write(batches) => match self.write(&batches) {
                    Ok(()) => shared.written(batches.len()),
                    Err(error) => self.rest(&error),
                },
                Work::Flush(waiting) => {
                    let file = self.segment.as_ref().map(|open| Arc::clone(&open.file));
                    self.dirty_since_ms = None;
                    self.keeper.ask(Chore::Flush { file, waiting });
                }
                Work::Nothing => {}
                Work::End => break,
            }
            self.sync_when_due();
        }
        self.close();
    }

    fn is_resting(&self) -> bool {
        clock::boottime_ms() < self.rest_until_ms
    }

    fn wait_limit(&self) -> Duration {
        if self.is_resting() || self.dirty_since_ms.is_some() {
            Duration::from_millis(100).min(self.rotation.rest)
        } else {
            Duration::from_secs(600)
        }
    }

    /// A disk that is full or broken is not asked again for every line; the lines wait.
    fn rest(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::StorageFull || error.raw_os_error() == Some(122) {
            self.keeper.ask(Chore::Shrink);
        }
        let rest = u64::try_from(self.rotation.rest.as_millis()).unwrap_or(u64::MAX);
        self.rest_until_ms = clock::boottime_ms().saturating_add(rest);
    }

    pub fn write(&mut self, batches: &[Arc<Batch>]) -> io::Result<()> {
        if let Some(hook) = &self.rotation.before_write {
            hook();
        }
        if self.keeper.sync_failed.swap(false, Ordering::Relaxed) {
            // What was not synced may be gone without a trace: nothing is to follow it in that file.
            self.close();
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut worst = Level::Debug;
        for batch in batches {
            worst = worst.min(batch.write_json(0, &mut buffer));
        }
        let result = self.append(&buffer);
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT);
        self.buffer = buffer;
        result?;
        self.is_urgent |= worst <= Level::Crit;
        self.dirty_since_ms.get_or_insert_with(clock::boottime_ms);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = self.on.now_ms();
        if self.segment.as_ref().is_some_and(|open| {
            open.bytes + bytes.len() as u64 > self.rotation.bytes
                || now.saturating_sub(open.since_on_ms) >= self.rotation.age_ms
        }) {
            self.close();
        }
        let mut open = match self.segment.take() {
            Some(open) => open,
            None => self.begin_segment(now)?,
        };
        match (&*open.file).write_all(bytes) {
            Ok(()) => {
                open.bytes += bytes.len() as u64;
                self.segment = Some(open);
                Ok(())
            }
            Err(error) => {
                // Taken back, so that the lines are not there twice when they are written again. Where that fails too
                // (the disk is gone), the torn one is passed over by readers and cut at the next start.
                if open.file.set_len(open.bytes).is_ok() {
                    self.segment = Some(open);
                } else {
                    self.keeper.ask(Chore::Torn(open.path));
                }
                Err(error)
            }
        }
    }

    fn begin_segment(&mut self, now_on_ms: u64) -> io::Result<Open> {
        fs::create_dir_all(&self.directory)?;
        self.number += 1;
        let path = self.directory.join(format!("{:06}.jsonl", self.number));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)?;
        let header = Header {
            atalaya_log: VERSION,
            boot: self.boot.clone(),
            on_ms: now_on_ms,
            t: clock::wall_now(),
        };
        let mut bytes = serde_json::to_vec(&header).map_err(io::Error::other)?;
        bytes.push(b'\n');
        if let Err(error) = (&file).write_all(&bytes) {
            // Nothing is in it: it need not stay.
            fs::remove_file(&path).ok();
            return Err(error);
        }
        self.keeper.ask(Chore::Begun(path.clone()));
        Ok(Open {
            file: Arc::new(file),
            path,
            bytes: bytes.len() as u64,
            since_on_ms: now_on_ms,
        })
    }

    fn close(&mut self) {
        if let Some(open) = self.segment.take() {
            self.dirty_since_ms = None;
            self.keeper.ask(Chore::Closed(open.path));
        }
    }

    fn sync_when_due(&mut self) {
        let limit = u64::try_from(self.rotation.sync.as_millis()).unwrap_or(u64::MAX);
        let is_due = self.dirty_since_ms.is_some_and(|since| {
            self.is_urgent || clock::boottime_ms().saturating_sub(since) >= limit
        });
        if let Some(open) = self.segment.as_ref().filter(|_| is_due)
            && self.keeper.sync(&open.file)
        {
            self.dirty_since_ms = None;
            self.is_urgent = false;
        }
    }
}

//! Everything that units say. One hub takes lines from the pumps; it never waits for the disk: a thread of its own writes,
//! behind a bounded queue, and what does not fit is counted and the count is written down. The newest lines are also kept
//! in memory, which is all there is while /data is absent.

mod pump;
mod query;
mod store;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

pub use pump::pump;
pub use query::{Filter, read_stored};
pub use store::Store;

use crate::clock;

/// Bytes of lines that are kept in memory.
const RING_BYTES: usize = 512 * 1024;
/// What a power cut may cost of the log.
const SYNC_EVERY: Duration = Duration::from_secs(2);
/// Lines that may wait for the disk.
const QUEUE_LINES: usize = 8192;

/// One line, as it is stored and served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// RFC 3339.
    pub t: String,
    pub unit: String,
    pub boot: String,
    pub line: String,
}

enum Order {
    Write(Arc<Line>),
    /// Everything before this must be on disk when it is answered.
    Sync(SyncSender<()>),
}

#[derive(Default)]
struct Ring {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    boot: Arc<str>,
    root: Option<Arc<PathBuf>>,
    ring: Arc<Mutex<Ring>>,
    news: broadcast::Sender<Arc<Line>>,
    disk: Option<SyncSender<Order>>,
    lost: Arc<AtomicU64>,
}

impl Hub {
    /// `root` is the directory of all boots' logs.
    pub fn new(boot: &str, root: Option<PathBuf>) -> Self {
        let disk = root.clone().and_then(|root| {
            let (sender, receiver) = sync_channel::<Order>(QUEUE_LINES);
            let boot = boot.to_owned();
            let writer = move || {
                let mut store = Store::open(root, &boot);
                loop {
                    match receiver.recv_timeout(SYNC_EVERY) {
                        Ok(Order::Write(line)) => store.append(&line),
                        Ok(Order::Sync(done)) => {
                            store.sync();
                            // Nobody may be waiting any more.
                            done.send(()).ok();
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                    store.sync_now_and_then(SYNC_EVERY);
                }
            };
            std::thread::Builder::new()
                .name("log-writer".to_owned())
                .spawn(writer)
                .ok()
                .map(|_| sender)
        });
        Self {
            boot: boot.into(),
            root: root.map(Arc::new),
            ring: Arc::default(),
            news: broadcast::channel(1024).0,
            disk,
            lost: Arc::default(),
        }
    }

    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The directory of all boots' logs.
    pub fn root(&self) -> Option<&PathBuf> {
        self.root.as_deref()
    }

    /// Takes one line of `unit`.
    pub fn push(&self, unit: &str, text: &str) {
        let line = Arc::new(Line {
            t: clock::wall_now(),
            unit: unit.to_owned(),
            boot: self.boot.to_string(),
            line: text.to_owned(),
        });
        if let Some(disk) = &self.disk {
            match disk.try_send(Order::Write(Arc::clone(&line))) {
                Ok(()) => self.report_lost(disk),
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let mut ring = self.lock();
        ring.bytes += line.line.len() + 64;
        ring.lines.push_back(Arc::clone(&line));
        while ring.bytes > RING_BYTES {
            let Some(old) = ring.lines.pop_front() else {
                break;
            };
            ring.bytes -= old.line.len() + 64;
        }
        drop(ring);
        // An error means that nobody follows.
        drop(self.news.send(line));
    }

    fn report_lost(&self, disk: &SyncSender<Order>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let line = Line {
            t: clock::wall_now(),
            unit: "atalayad".to_owned(),
            boot: self.boot.to_string(),
            line: format!("{lost} lines of the log were lost here: the disk was too slow"),
        };
        if disk.try_send(Order::Write(Arc::new(line))).is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// The lines in memory, oldest first.
    pub fn recent(&self) -> Vec<Arc<Line>> {
        self.lock().lines.iter().cloned().collect()
    }

    /// The last line of `unit` that is still in memory.
    pub fn last_of(&self, unit: &str) -> Option<Arc<Line>> {
        self.lock()
            .lines
            .iter()
            .rev()
            .find(|line| line.unit == unit)
            .cloned()
    }

    pub fn follow(&self) -> broadcast::Receiver<Arc<Line>> {
        self.news.subscribe()
    }

    /// Waits until all lines so far are on disk, at most `limit`.
    pub fn sync(&self, limit: Duration) {
        let Some(disk) = &self.disk else { return };
        let (done, wait) = sync_channel(1);
        if disk.try_send(Order::Sync(done)).is_ok() {
            // Too slow a disk must not hold up the end.
            wait.recv_timeout(limit).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

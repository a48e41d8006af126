//! What the threads of the log share: the queue behind a lock that nobody holds while he waits for anything, and the bells.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::line::Batch;
use super::queue::{Limits, Queue};
use crate::clock::{boottime_us, wall_ms};

/// Handed to the disk at once, in bytes.
const WRITE_BYTES: usize = 256 << 10;

pub(super) struct Shared {
    state: Mutex<State>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For pumps: there is room.
    pub room: Notify,
    /// For followers: the newest line's time.
    pub news: watch::Sender<u64>,
    /// When the disk last took something, in microseconds since power-on.
    moved_us: AtomicU64,
    /// The disk is left to others.
    yielding: AtomicBool,
}

struct State {
    queue: Queue,
    flushes: Vec<oneshot::Sender<()>>,
    is_closed: bool,
}

/// What the writer is to do next.
pub(super) enum Work {
    Write(Vec<Arc<Batch>>),
    /// All that was queued before is written; these wait for it to be on disk.
    Flush(Vec<oneshot::Sender<()>>),
    Nothing,
    End,
}

impl Shared {
    pub fn new(limits: Limits, has_disk: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                queue: Queue::new(limits, has_disk),
                flushes: Vec::new(),
                is_closed: false,
            }),
            work: Condvar::new(),
            room: Notify::new(),
            news: watch::channel(0).0,
            moved_us: AtomicU64::new(0),
            yielding: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// There is no room.
    pub fn offer(&self, batch: Batch) -> Result<(), Batch> {
        let mut state = self.lock();
        state.queue.offer(batch, boottime_us())?;
        self.tell(state);
        Ok(())
    }

    pub fn offer_or_drop(&self, batch: Batch) {
        let mut state = self.lock();
        state.queue.offer_or_drop(batch, boottime_us());
        self.tell(state);
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let newest = state.queue.last_us();
        drop(state);
        self.work.notify_one();
        self.news.send_replace(newest);
    }

    pub fn snapshot(&self, after: u64) -> Vec<Arc<Batch>> {
        self.lock().queue.snapshot(after)
    }

    pub fn has_forgotten(&self, after: u64) -> bool {
        self.lock().queue.has_forgotten(after)
    }

    pub fn ask_flush(&self, done: oneshot::Sender<()>) {
        self.lock().flushes.push(done);
        self.work.notify_one();
    }

    pub fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_all();
    }

    pub fn set_yielding(&self, yielding: bool) {
        self.yielding.store(yielding, Ordering::Relaxed);
        drop(self.lock());
        self.work.notify_all();
    }

    pub fn is_yielding(&self) -> bool {
        self.yielding.load(Ordering::Relaxed)
    }

    /// Whether the disk took something within `limit`.
    pub fn disk_moves(&self, limit: Duration) -> bool {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        boottime_us().saturating_sub(self.moved_us.load(Ordering::Relaxed)) < limit
    }

    /// For the writer: waits for work, at most `limit`. With `resting` it takes no lines.
    pub fn wait(&self, limit: Duration, resting: bool) -> Work {
        let mut state = self.lock();
        let idle = |state: &State| {
            let has_lines = !state.queue.is_empty() && !resting && !self.is_yielding();
            !has_lines && state.flushes.is_empty() && !state.is_closed
        };
        if idle(&state) {
            let waited = self.work.wait_timeout(state, limit);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.queue.is_empty() && !resting && !self.is_yielding() {
            return Work::Write(state.queue.peek(WRITE_BYTES));
        }
        if !state.queue.is_empty() {
            // What they wait for cannot be done now.
            state.flushes.clear();
        }
        if !state.flushes.is_empty() {
            return Work::Flush(std::mem::take(&mut state.flushes));
        }
        if state.is_closed {
            return Work::End;
        }
        Work::Nothing
    }

    /// For the writer: the first `count` batches are written.
    pub fn written(&self, count: usize) {
        let now = boottime_us();
        self.moved_us.store(now, Ordering::Relaxed);
        self.lock().queue.written(count, wall_ms(), now);
        self.room.notify_waiters();
    }
}

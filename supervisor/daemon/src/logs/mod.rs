//! Everything that units, the kernel and atalayad say (docs/logs.md).
//!
//! ```text
//! pipes, /dev/kmsg, /dev/log ---> thread log-pump --+                       +--> open segment
//! atalayad's own words ------------------------------+-> queue -> thread log-writer
//!                                                        (bounded)          +--> chores -> thread log-keeper: sync, compress, delete
//! ```
//! Nobody who has something to say ever waits for the disk: what finds no room in the queue is dropped, and counted exactly
//! (`queue`). Nothing here decides what a unit does.

mod directory;
mod keeper;
mod kmsg;
mod last_boot;
mod level;
mod line;
mod on_clock;
mod pump;
mod query;
mod queue;
pub mod segment;
mod shared;
mod store;
mod syslog;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use atalaya_core::last_boot::Cause;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use keeper::Budget;
pub use last_boot::Places;
pub use line::{Batch, Level, Line, Stream};
pub use pump::{LINE_LIMIT, PAUSE, Splitter};
pub use query::{Boot, Place, Query, list_boots, read_stored};
pub use queue::Limits;
pub use store::Rotation;

use keeper::{Chore, Keeper, Keeping};
use on_clock::OnClock;
use shared::Shared;
use store::Store;

/// The bounds of everything. Tests have their own.
#[derive(Clone)]
pub struct Bounds {
    pub limits: Limits,
    pub rotation: Rotation,
    pub budget: Budget,
}

impl Bounds {
    pub fn shipped() -> Self {
        Self {
            limits: Limits::SHIPPED,
            rotation: Rotation::shipped(),
            budget: Budget::SHIPPED,
        }
    }
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    boot: Arc<str>,
    root: Option<PathBuf>,
    shared: Arc<Shared>,
    keeper: Option<Keeper>,
    pumps: Option<Handle>,
    /// Ends the pumps' thread when it is dropped.
    _pumps_end: oneshot::Sender<()>,
    names: Mutex<HashMap<String, Arc<str>>>,
    last_boot: Arc<Mutex<LastBoot>>,
}

#[derive(Default)]
struct LastBoot {
    cause: Option<Cause>,
    /// It is to be shown once.
    is_news: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Hub {
    /// `root` is the directory of all boots' logs; without it lines are kept in memory only.
    pub fn new(boot: &str, root: Option<PathBuf>) -> Self {
        Self::with_bounds(boot, root, Bounds::shipped())
    }

    pub fn with_bounds(boot: &str, root: Option<PathBuf>, bounds: Bounds) -> Self {
        let shared = Shared::new(bounds.limits, root.is_some());
        let keeper = root.clone().and_then(|root| {
            let (keeper, chores) = Keeper::new();
            let (shared, boot, own) = (Arc::clone(&shared), boot.to_owned(), keeper.clone());
            let writer = move || {
                // Here and not before, because the disk may take its time, or stand.
                let (directory, number) = store::place(&root, &boot);
                let on = OnClock::read(&root, &boot);
                let left = keeper::list_left(&root, &directory, number + 1);
                let keeping = Keeping::new(root, on.clone(), bounds.budget, &own);
                let store = Store::new((directory, number), &boot, on, bounds.rotation, own);
                spawn("log-keeper", move || keeping.run(&chores, left)).ok();
                store.run(&shared);
            };
            spawn("log-writer", writer).ok().map(|()| keeper)
        });
        let (pumps_end, ended) = oneshot::channel();
        Self {
            inner: Arc::new(Inner {
                boot: boot.into(),
                root,
                shared,
                keeper,
                pumps: spawn_pumps(ended).ok(),
                _pumps_end: pumps_end,
                names: Mutex::default(),
                last_boot: Arc::default(),
            }),
        }
    }

    pub fn boot(&self) -> &str {
        &self.inner.boot
    }

    /// The directory of all boots' logs.
    pub fn root(&self) -> Option<&Path> {
        self.inner.root.as_deref()
    }

    /// Takes what atalayad says about `unit`, or about itself.
    pub fn push(&self, unit: &str, text: &str) {
        self.push_level(unit, Level::Info, text);
    }

    /// The same, where it is not mere information.
    pub fn push_level(&self, unit: &str, level: Level, text: &str) {
        let bytes = text.as_bytes().to_vec();
        let batch = Batch::new(self.name(unit), Stream::Atalayad, Some(level), bytes);
        self.inner.shared.offer_or_drop(batch);
    }

    /// Takes what init has read of a unit's pipe while nobody else did; `dropped` bytes before it are lost.
    pub fn push_drained(&self, unit: &str, bytes: &[u8], dropped: u64) {
        if dropped > 0 {
            let text = format!("{dropped} bytes were dropped: the supervisor was not there");
            self.push_level(unit, Level::Warning, &text);
        }
        let mut each = |bytes, more| {
            let mut batch = Batch::new(self.name(unit), Stream::Stdout, None, bytes);
            batch.more = more;
            self.inner.shared.offer_or_drop(batch);
        };
        let mut splitter = Splitter::default();
        for part in bytes.chunks(64 << 10) {
            splitter.feed(part, &mut each);
        }
        splitter.finish(&mut each);
    }

    /// Reads a run's pipes, stdout's first, until nobody holds the other ends. `heard` sees every batch, on the pumps' thread.
    pub fn pump(
        &self,
        unit: &str,
        pipes: (OwnedFd, Option<OwnedFd>),
        heard: impl FnMut(&Batch) + Send + 'static,
    ) -> JoinHandle<()> {
        let task = pump::pump(
            Arc::clone(&self.inner.shared),
            self.name(unit),
            pipes,
            heard,
        );
        match &self.inner.pumps {
            Some(handle) => handle.spawn(task),
            None => tokio::spawn(task),
        }
    }

    /// Reads the kernel's messages from the beginning of the boot, or from where a former atalayad stopped (`mark`).
    ///
    /// # Errors
    /// There is no /dev/kmsg.
    pub fn pump_kernel(&self, mark: PathBuf) -> io::Result<()> {
        let device = kmsg::open()?;
        let shared = Arc::clone(&self.inner.shared);
        self.spawn_source(kmsg::pump(shared, device, mark));
        Ok(())
    }

    /// Reads what comes by syslog on a socket (see [`syslog_socket`]).
    pub fn pump_syslog(&self, socket: OwnedFd) {
        let shared = Arc::clone(&self.inner.shared);
        self.spawn_source(syslog::pump(shared, socket));
    }

    fn spawn_source(&self, task: impl Future<Output = ()> + Send + 'static) {
        match &self.inner.pumps {
            Some(handle) => drop(handle.spawn(task)),
            None => drop(tokio::spawn(task)),
        }
    }

    /// The last `count` lines of `unit` that are still in memory, oldest first.
    pub fn last_lines(&self, unit: &str, count: usize) -> Vec<String> {
        self.last_of(unit, count, |_| true)
    }

    /// The same without what atalayad said about it: its own last words.
    pub fn last_words(&self, unit: &str, count: usize) -> Vec<String> {
        self.last_of(unit, count, |batch| batch.stream != Stream::Atalayad)
    }

    fn last_of(&self, unit: &str, count: usize, admits: fn(&Batch) -> bool) -> Vec<String> {
        let batches = self.inner.shared.snapshot(0);
        let mut lines: Vec<String> = batches
            .iter()
            .rev()
            .filter(|batch| &*batch.unit == unit && admits(batch))
            .flat_map(|batch| batch.texts().rev())
            .take(count)
            .map(|text| text.into_owned())
            .collect();
        lines.reverse();
        lines
    }

    /// Waits until all lines so far are on disk, at most `limit`. True if they are.
    pub async fn flush(&self, limit: Duration) -> bool {
        if self.inner.keeper.is_none() {
            return false;
        }
        let (done, wait) = oneshot::channel();
        self.inner.shared.ask_flush(done);
        matches!(tokio::time::timeout(limit, wait).await, Ok(Ok(())))
    }

    /// Leaves the disk to others: old segments go, and nothing is written until [`Self::resume`]. Lines wait in memory, and
    /// are dropped and counted when that is full.
    pub fn yield_space(&self) {
        self.inner.shared.set_yielding(true);
        if let Some(keeper) = &self.inner.keeper {
            keeper.ask(Chore::Yield);
        }
    }

    /// Writes again.
    pub fn resume(&self) {
        self.inner.shared.set_yielding(false);
    }

    /// Finds out how the last boot ended, on the keeper's thread: writes it into the log, and remembers it for
    /// [`Self::last_boot`].
    pub fn assess_last_boot(&self, places: Places) {
        let (shared, boot) = (Arc::clone(&self.inner.shared), self.inner.boot.clone());
        let (root, answer) = (self.inner.root.clone(), Arc::clone(&self.inner.last_boot));
        let work = move || {
            let (cause, is_news) = last_boot::look(&places, root.as_deref(), &boot);
            *answer.lock().unwrap_or_else(PoisonError::into_inner) = LastBoot {
                cause: Some(cause.clone()),
                is_news,
            };
            if is_news {
                last_boot::tell(&cause, |batch| shared.offer_or_drop(batch));
            }
        };
        match &self.inner.keeper {
            Some(keeper) => keeper.ask(Chore::Run(Box::new(work))),
            // Without a disk nothing here can stand still.
            None => work(),
        }
    }

    /// How the last boot ended; None while it is not known yet.
    pub fn last_boot(&self) -> Option<Cause> {
        self.lock_last_boot().cause.clone()
    }

    /// The same, once: for the console.
    pub fn take_last_boot_news(&self) -> Option<Cause> {
        let mut last = self.lock_last_boot();
        let cause = last.cause.clone().filter(|_| last.is_news)?;
        last.is_news = false;
        Some(cause)
    }

    fn lock_last_boot(&self) -> std::sync::MutexGuard<'_, LastBoot> {
        let last = self.inner.last_boot.lock();
        last.unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in memory behind `after` (microseconds), oldest first.
    pub fn snapshot(&self, after: u64) -> Vec<Arc<Batch>> {
        self.inner.shared.snapshot(after)
    }

    /// Whether lines behind `after` (microseconds) are in memory no more.
    pub fn has_forgotten(&self, after: u64) -> bool {
        self.inner.shared.has_forgotten(after)
    }

    /// Changes with every line, to the newest one's microseconds.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.inner.shared.news.subscribe()
    }

    fn name(&self, unit: &str) -> Arc<str> {
        let mut names = self
            .inner
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match names.get(unit) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = unit.into();
                names.insert(unit.to_owned(), Arc::clone(&name));
                name
            }
        }
    }
}

/// The socket that units see as /dev/log.
///
/// # Errors
/// It cannot be made.
pub fn syslog_socket(path: &Path) -> Result<OwnedFd, atalaya_sys::Error> {
    atalaya_sys::notify::bind(path, 0o666)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 << 10)
        .spawn(work)
        .map(drop)
}

/// The thread that all pumps run on: whatever else atalayad is doing, pipes are read.
fn spawn_pumps(end: oneshot::Receiver<()>) -> io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    spawn("log-pump", move || {
        // Either way the hub is gone.
        runtime.block_on(end).ok();
    })?;
    Ok(handle)
}

/// Files that tests make.
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test's own files need not survive a power cut
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

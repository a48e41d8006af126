//! SIGINT and SIGTERM: counted, never fatal, so that the machine is always shut down in order.

use super::RunError;
use crate::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How soon a signal is noticed.
const LOOK: Duration = Duration::from_millis(100);

pub struct StopSignal {
    count: Arc<AtomicUsize>,
}

impl StopSignal {
    pub fn install() -> Result<Self> {
        let count = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM] {
            let count = Arc::clone(&count);
            // signal_hook::low_level::register would need unsafe; a thread that reads signals does not.
            let mut signals =
                signal_hook::iterator::Signals::new([signal]).map_err(|source| Error::Io {
                    operation: "watch for",
                    object: "signals".to_owned(),
                    source,
                })?;
            std::thread::spawn(move || {
                for _ in signals.forever() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Ok(Self { count })
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn came(&self) -> bool {
        self.count() > 0
    }

    pub fn check(&self, stage: &str) -> Result<()> {
        if self.came() {
            return Err(RunError::Stopped {
                stage: stage.to_owned(),
            }
            .into());
        }
        Ok(())
    }

    /// Until a signal came or `done`.
    pub fn wait(&self, done: impl Fn() -> bool) {
        while !self.came() && !done() {
            std::thread::sleep(LOOK);
        }
    }

    /// Until `done`; false when the time was over or one more signal than `before` came.
    pub fn wait_at_most(&self, limit: Duration, before: usize, done: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while !done() {
            if begun.elapsed() > limit || self.count() > before {
                return done();
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

//! SIGINT, SIGTERM and SIGHUP: counted, never fatal, so that the machine is always shut down in order.
//! And the terminal's foreground, so that Ctrl-C reaches this program alone.

use super::RunError;
use crate::error::{Error, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getpgrp, getpid, setpgid, tcgetpgrp, tcsetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::File;
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
        for signal in [SIGINT, SIGTERM, SIGHUP] {
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

/// While it lives, the terminal's keys reach this program's process group and not the one it was started in. Else Ctrl-C
/// would also end `make`, which would report an error although the machine was shut down in order.
pub struct Foreground {
    terminal: File,
    before: Pid,
}

impl Foreground {
    /// None where there is no terminal or somebody else has its foreground. To be called before any thread is started:
    /// it blocks Ctrl-Z, because the shell that could wake this program again would not know of it.
    pub fn take() -> Option<Self> {
        let terminal = File::open("/dev/tty").ok()?;
        let before = tcgetpgrp(&terminal).ok()?;
        if before != getpgrp() {
            return None;
        }
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTSTP);
        // A background process that takes the foreground is stopped by this one.
        blocked.add(Signal::SIGTTOU);
        blocked.thread_block().ok()?;
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).ok()?;
        tcsetpgrp(&terminal, getpid()).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Err(error) = tcsetpgrp(&self.terminal, self.before) {
            eprintln!("failed to give the terminal's foreground back: {error}");
        }
    }
}

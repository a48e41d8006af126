//! What reaches the owner of state, and what it holds of each run.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use atalaya_core::link::Action;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

use super::ground::OnDisk;
use super::serve::{Answer, Request};
use super::update::News;
use crate::notify::Heard;
use crate::readiness::{Ask, Verdict};
use crate::run::{Failure, Prepared};

/// What happens, as the owner hears of it.
pub enum Message {
    Run {
        unit: String,
        run: u32,
        what: FromRun,
    },
    Request {
        request: Request,
        reply: oneshot::Sender<Answer>,
    },
    /// A thread has something to tell about /data.
    Disk(OnDisk),
    /// A thread has something to tell about an update.
    Update(News),
    /// All units are stopped, and what could be written of the log is.
    Flushed { end: Action, reason: String },
}

/// What a task that watches one run has to tell.
pub enum FromRun {
    /// All that the run needs was made.
    Prepared(Result<Box<Prepared>, Failure>),
    /// The helper's report can be read.
    Reported,
    /// A message of sd_notify that is believed; the sender is dropped when it is dealt with.
    Notified(Heard, oneshot::Sender<()>),
    /// The answer to a readiness check.
    Answered(Verdict),
    /// The answer to a liveness check.
    Alive(Verdict),
    /// A check wants a command run.
    Ask(Ask),
    /// The command of a reload has ended.
    Reloaded(Option<String>),
    /// The main process, which is another than the one that was started, has ended a while ago.
    MainGone(i32),
    /// The kernel's count of what happened to the run's memory has changed.
    MemoryEvents,
    /// The cgroup is empty.
    Emptied,
}

/// The effects' side of a run that exists.
pub(super) struct Live {
    pub(super) run: u32,
    /// The main process.
    pub(super) pid: Option<i32>,
    pub(super) pidfd: Option<OwnedFd>,
    /// What is kept by init, to be kept again when the main process changes.
    pub(super) log: Option<OwnedFd>,
    pub(super) errors: Option<OwnedFd>,
    pub(super) notify: Option<Arc<OwnedFd>>,
    pub(super) report: Option<OwnedFd>,
    /// Ended with the run.
    pub(super) tasks: Vec<AbortHandle>,
    pub(super) readiness: Option<AbortHandle>,
    pub(super) liveness: Option<AbortHandle>,
    pub(super) emptying: bool,
    pub(super) pump: Option<JoinHandle<()>>,
    /// The unit's own words: STATUS=.
    pub(super) words: Option<String>,
    /// Processes of it that the kernel has killed for lack of memory, as far as was told.
    pub(super) oom_kills: u64,
}

impl Live {
    pub(super) fn new(run: u32) -> Self {
        Self {
            run,
            pid: None,
            pidfd: None,
            log: None,
            errors: None,
            notify: None,
            report: None,
            tasks: Vec::new(),
            readiness: None,
            liveness: None,
            emptying: false,
            pump: None,
            words: None,
            oom_kills: 0,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for task in (self.tasks.iter())
            .chain(&self.readiness)
            .chain(&self.liveness)
        {
            task.abort();
        }
    }
}

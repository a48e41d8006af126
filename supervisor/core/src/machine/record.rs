//! How one unit fares, as it is kept for the next atalayad: the fields, what may be asked about them, and until when
//! nothing happens by itself.

use serde::{Deserialize, Serialize};

use super::state::{Desired, ExitStatus, Requirements, Stage, State, StopPhase};

/// One unit. What it is (its file) is passed to each step; this is how it fares. A field that an older record lacks is as
/// in a new machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    pub(super) desired: Desired,
    pub(super) held: bool,
    pub(super) state: State,
    pub(super) run: u32,
    pub(super) pid: Option<i32>,
    /// The cgroup of `run` may still hold processes.
    pub(super) occupied: bool,
    pub(super) ready_since_ms: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) requirements: Requirements,
    /// Why its data cannot be used now.
    pub(super) ground: Option<String>,
    pub(super) starts: Vec<u64>,
    pub(super) failures: u32,
    /// When the current run began to be Running.
    pub(super) running_since_ms: Option<u64>,
    /// A limit on Starting; between two runs, on the end of what the last one has left behind.
    pub(super) deadline_ms: Option<u64>,
    /// By how much the unit has had that limit, or the one of its stop, moved.
    pub(super) extended_ms: u64,
    /// What the helper reported before it died.
    pub(super) sandbox_error: Option<(Stage, String)>,
    pub(super) last_exit: Option<ExitStatus>,
    /// The run in which the kernel killed for lack of memory.
    pub(super) oom_run: Option<u32>,
    /// Whether that was the run whose end is `last_exit`.
    pub(super) last_exit_oom: bool,
    pub(super) reload: Option<UnderWay>,
    pub(super) reload_error: Option<String>,
    /// Failed liveness checks in a row.
    pub(super) misses: u32,
    pub(super) watchdog_until_ms: Option<u64>,
    /// The unit's own wish, in this run.
    pub(super) watchdog_limit_ms: Option<u64>,
    /// When the timer is due.
    pub(super) next_run_ms: Option<u64>,
}

/// A reload or a handover that is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    pub(super) until_ms: u64,
    pub(super) kind: Care,
    /// A reload was asked for meanwhile.
    pub(super) again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Care {
    /// READY=1 ends it.
    Reload,
    /// The command's end ends it.
    ReloadCommand,
    /// The main process is to start its successor.
    Handover,
    /// The successor said that it is the main process; READY=1 ends it.
    Successor,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            desired: Desired::Down,
            held: false,
            state: State::Stopped,
            run: 0,
            pid: None,
            occupied: false,
            ready_since_ms: None,
            reason: None,
            requirements: Requirements::Ready,
            ground: None,
            starts: Vec::new(),
            failures: 0,
            running_since_ms: None,
            deadline_ms: None,
            extended_ms: 0,
            sandbox_error: None,
            last_exit: None,
            oom_run: None,
            last_exit_oom: false,
            reload: None,
            reload_error: None,
            misses: 0,
            watchdog_until_ms: None,
            watchdog_limit_ms: None,
            next_run_ms: None,
        }
    }
}

impl Machine {
    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn desired(&self) -> Desired {
        self.desired
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    pub fn requirements(&self) -> &Requirements {
        &self.requirements
    }

    /// Why its data cannot be used now.
    pub fn ground(&self) -> Option<&str> {
        self.ground.as_deref()
    }

    /// Before anything else happens to a machine that was read from a record, which may be older than this news.
    pub fn learn(&mut self, requirements: Requirements, ground: Option<String>) {
        self.requirements = requirements;
        self.ground = ground;
    }

    pub fn run(&self) -> u32 {
        self.run
    }

    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Whether processes of the last run may be left.
    pub fn is_occupied(&self) -> bool {
        self.occupied
    }

    /// Why it is not as one would wish.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref().or(self.reload_error.as_deref())
    }

    pub fn last_exit(&self) -> Option<ExitStatus> {
        self.last_exit
    }

    /// How the last run that ended did end, in words.
    pub fn last_end(&self) -> Option<String> {
        let status = self.last_exit?;
        Some(match self.last_exit_oom {
            true => format!("out of memory (cause=oom): {status}"),
            false => status.to_string(),
        })
    }

    /// Whether the kernel killed for lack of memory in its last run.
    pub fn ran_out_of_memory(&self) -> bool {
        self.run > 0 && self.oom_run == Some(self.run)
    }

    /// How often it was started within the window of its restart policy, as of its last start.
    pub fn starts(&self) -> usize {
        self.starts.len()
    }

    pub fn is_reloading(&self) -> bool {
        self.reload.is_some() && !self.is_handing_over()
    }

    /// Whether a restart is under way in which a successor takes over while the old process still serves.
    pub fn is_handing_over(&self) -> bool {
        self.reload
            .as_ref()
            .is_some_and(|reload| matches!(reload.kind, Care::Handover | Care::Successor))
    }

    /// When its timer is due.
    pub fn next_run_ms(&self) -> Option<u64> {
        self.next_run_ms
    }

    pub fn running_since_ms(&self) -> Option<u64> {
        self.running_since_ms
    }

    /// Since when others may rely on it.
    pub fn ready_since_ms(&self) -> Option<u64> {
        self.ready_since_ms
    }

    pub fn is_ready(&self) -> bool {
        match self.state {
            State::Running | State::Done => self.ready_since_ms.is_some(),
            State::Stopped
            | State::Waiting
            | State::Starting(_)
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => false,
        }
    }

    /// Whether a process of it may exist.
    pub fn is_active(&self) -> bool {
        self.occupied
            || self.pid.is_some()
            || match self.state {
                State::Starting(_) | State::Running | State::Stopping { .. } => true,
                State::Stopped
                | State::Waiting
                | State::Backoff { .. }
                | State::Done
                | State::Failed { .. } => false,
            }
    }

    /// Whether all was done to end it and it is still there.
    pub fn is_stuck(&self) -> bool {
        matches!(
            self.state,
            State::Stopping {
                phase: StopPhase::Stuck,
                ..
            }
        )
    }

    /// When to send the next [`super::Event::Tick`], in milliseconds of the clock that `step` is given.
    pub fn deadline_ms(&self) -> Option<u64> {
        let left_behind = || self.occupied.then_some(self.deadline_ms).flatten();
        let earlier = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        match self.state {
            State::Starting(_) => self.deadline_ms,
            State::Stopping { until_ms, .. } => Some(until_ms),
            State::Running => earlier(
                self.reload.as_ref().map(|reload| reload.until_ms),
                self.watchdog_until_ms,
            ),
            // While occupied it waits for Emptied, not for the time.
            State::Backoff { .. } if self.occupied => left_behind(),
            State::Backoff { until_ms } => Some(until_ms),
            State::Waiting if self.missing().is_none() => earlier(self.next_run_ms, left_behind()),
            State::Done => self.next_run_ms,
            State::Waiting | State::Stopped | State::Failed { .. } => left_behind(),
        }
    }

    /// What others must do or be before it can start, in words.
    pub(super) fn missing(&self) -> Option<String> {
        match &self.requirements {
            Requirements::Missing(name) => Some(format!("waiting for {name}")),
            Requirements::Ready if self.held => Some("waiting for what it requires".to_owned()),
            Requirements::Ready => self.ground.clone(),
        }
    }
}

//! The words of the state machine.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Stopped,
    /// Wanted, but something that it requires is not ready.
    Waiting,
    Starting(StartPhase),
    Running,
    Stopping {
        phase: StopPhase,
        until_ms: u64,
        then: AfterStop,
    },
    /// Between two runs.
    Backoff {
        until_ms: u64,
    },
    /// A one-shot that succeeded. Counts as ready until it is stopped.
    Done,
    Failed {
        stage: Stage,
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartPhase {
    /// The spawn was asked for.
    Forking,
    /// The helper runs and builds the sandbox.
    Sandboxing,
    /// The program runs and is not ready yet.
    Readying,
    /// A one-shot at work.
    Working,
    /// A one-shot that succeeded; what it left behind is being killed.
    Emptying,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopPhase {
    /// The first signal was sent.
    Asked,
    /// The second signal was sent.
    Insisted,
    /// SIGKILL was sent to the cgroup.
    Killed,
    /// Its processes outlived SIGKILL.
    Stuck,
}

/// Where a stop leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterStop {
    Rest,
    Relaunch,
    Failure { stage: Stage, reason: String },
}

/// At what a unit failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Fork,
    Sandbox,
    Exec,
    Readiness,
    Run,
    Stop,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fork => "fork",
            Self::Sandbox => "sandbox",
            Self::Exec => "exec",
            Self::Readiness => "readiness",
            Self::Run => "run",
            Self::Stop => "stop",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
    /// It is gone and nobody knows how.
    Unknown,
}

impl ExitStatus {
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => f.write_str("gone, nobody knows how"),
        }
    }
}

/// Whether what the unit requires is ready; otherwise the first that is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Requirements {
    Ready,
    Missing(String),
}

/// What can happen to a unit. Where a run number is given, an event of another run changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Start,
    Stop,
    Restart,
    /// Something it requires is being stopped on purpose: rest, but stay wanted.
    Hold,
    /// It is back.
    Release,
    Requirements(Requirements),
    /// The process of a unit that it requires has ended.
    RequirementGone(String),
    Spawned {
        run: u32,
        pid: i32,
    },
    SpawnFailed {
        run: u32,
        stage: Stage,
        error: String,
    },
    /// The helper reported an error; its exit follows.
    SandboxFailed {
        run: u32,
        stage: Stage,
        error: String,
    },
    /// The program runs.
    Executed {
        run: u32,
    },
    Ready {
        run: u32,
    },
    /// The unit itself says so, perhaps not for the first time: then it was away meanwhile without a word.
    SaidReady {
        run: u32,
    },
    NotReady {
        run: u32,
        reason: String,
    },
    /// The main process ended.
    Exited {
        run: u32,
        status: ExitStatus,
    },
    /// No process is left in the run's cgroup.
    Emptied {
        run: u32,
    },
    /// atalayad was restarted and this machine was read from the record kept by init. `pid` is the main process, when
    /// init knows of one, dead or alive: its exit is told separately.
    Adopted {
        pid: Option<i32>,
    },
    /// A person, or a changed rendering, wants its configuration read again.
    Reload,
    /// The unit says that it is reading its configuration: RELOADING=1.
    Reloading {
        run: u32,
    },
    /// The command of a reload has ended.
    ReloadDone {
        run: u32,
        error: Option<String>,
    },
    /// The answer to a liveness check; an error is a failure. For a watchdog: the unit itself says that it is stuck
    /// (WATCHDOG=trigger).
    Alive {
        run: u32,
        error: Option<String>,
    },
    /// WATCHDOG=1.
    Petted {
        run: u32,
    },
    /// WATCHDOG_USEC: from now on the unit wants this limit, in milliseconds.
    WatchdogLimit {
        run: u32,
        ms: u64,
    },
    /// EXTEND_TIMEOUT_USEC: the unit needs so many milliseconds from now.
    Extend {
        run: u32,
        ms: u64,
    },
    /// MAINPID: another process of its cgroup is the main one from now on.
    MainPid {
        run: u32,
        pid: i32,
    },
    /// The kernel killed in its cgroup for lack of memory. Comes before Exited, if that follows.
    Oom {
        run: u32,
    },
    /// Whether its data can be used; otherwise why not. Told only to units that have some.
    Ground(Option<String>),
    /// A person takes note of a failure: Failed is cleared and the window is empty again.
    Reset,
    /// Time has passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something a person or the next atalayad must know has changed. What follows in the list waits for it.
    Persist,
    Spawn {
        run: u32,
    },
    /// To the main process.
    Signal {
        run: u32,
        signal: i32,
    },
    /// SIGKILL to all that is in the run's cgroup; then tell when it is empty.
    KillCgroup {
        run: u32,
    },
    /// Begin to ask whether it is ready: tcp, http, exec; where a unit that notifies has a command too, from READY=1 on.
    StartReadiness {
        run: u32,
    },
    StopReadiness {
        run: u32,
    },
    /// Begin to ask whether it is stuck (http, exec) and tell every answer as [`Event::Alive`]. A watchdog needs nobody who
    /// asks: its limit is kept here.
    StartLiveness {
        run: u32,
    },
    StopLiveness {
        run: u32,
    },
    /// Send the signal of the unit's `reload`, or run its command and tell [`Event::ReloadDone`].
    Reload {
        run: u32,
    },
    /// Nothing of the run is left.
    Retire {
        run: u32,
    },
}

/// One unit. What it is (its file) is passed to each step; this is how it fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    pub(super) starts: Vec<u64>,
    pub(super) failures: u32,
    /// When the current run began to be Running.
    pub(super) running_since_ms: Option<u64>,
    /// A limit on Starting.
    pub(super) deadline_ms: Option<u64>,
    /// What the helper reported before it died.
    pub(super) sandbox_error: Option<(Stage, String)>,
    pub(super) last_exit: Option<ExitStatus>,
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
            starts: Vec::new(),
            failures: 0,
            running_since_ms: None,
            deadline_ms: None,
            sandbox_error: None,
            last_exit: None,
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

    /// Before anything else happens to a machine that was read from a record, which may be older than this news.
    pub fn learn_requirements(&mut self, requirements: Requirements) {
        self.requirements = requirements;
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

    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    pub fn last_exit(&self) -> Option<ExitStatus> {
        self.last_exit
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

    /// When to send the next [`Event::Tick`], in milliseconds of the clock that `step` is given.
    pub fn deadline_ms(&self) -> Option<u64> {
        match self.state {
            State::Starting(_) => self.deadline_ms,
            State::Stopping { until_ms, .. } => Some(until_ms),
            // While occupied it waits for Emptied, not for the time.
            State::Backoff { until_ms } => (!self.occupied).then_some(until_ms),
            State::Stopped
            | State::Waiting
            | State::Running
            | State::Done
            | State::Failed { .. } => None,
        }
    }
}

impl State {
    /// The word for people and programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Stopped => "Stopped",
            Self::Waiting => "Waiting",
            Self::Starting(_) => "Starting",
            Self::Running => "Running",
            Self::Stopping { .. } => "Stopping",
            Self::Backoff { .. } => "Backoff",
            Self::Done => "Done",
            Self::Failed { .. } => "Failed",
        }
    }
}

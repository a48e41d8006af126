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

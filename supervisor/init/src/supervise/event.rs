//! What `Supervise` is told and what it says in answer: values only.

use atalaya_core::link::{Action, Source, Status, StopOrder, ToInit};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The child that prepares /data ended.
    DataDone,
    /// An effect `StartDaemon` worked.
    Started { pid: i32 },
    /// An effect `StartDaemon` did not work.
    NotStarted { why: String },
    /// A message from atalayad.
    Heard(ToInit),
    /// atalayad, or another child that is no unit's, was reaped.
    Ended { pid: i32, status: Status },
    /// Somebody wants the machine to end.
    Wanted {
        action: Action,
        source: Source,
        /// How long the units that run now may take to stop, by their orders.
        units_ms: u64,
    },
    /// Somebody wants a fresh atalayad.
    RestartWanted,
    /// The answer to `AssessTrial`: this version is on trial.
    OnTrial,
    /// The answer to `CollectOrders`: one for each run that has a process. `pid` is a main process that lives.
    Orders(Vec<StopOrder>),
    /// A process of a run was reaped.
    UnitProcessEnded { cgroup: String, pid: i32 },
    /// No process is left in the cgroup of a run.
    Emptied { cgroup: String },
    /// Time has passed.
    Tick,
}

/// What to do about it, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    StartDaemon,
    /// SIGTERM to this process, which is atalayad.
    Terminate {
        pid: i32,
    },
    /// SIGKILL to this process, which is atalayad.
    Kill {
        pid: i32,
    },
    /// Welcome, the records with what their runs said meanwhile, the statuses.
    Greet {
        deaths: u32,
    },
    /// Welcome only: it speaks another version.
    Refuse {
        deaths: u32,
    },
    Ask {
        action: Action,
        source: Source,
    },
    /// A line for the console.
    Say(String),
    /// Safe mode begins: is this version on trial?
    AssessTrial,
    /// The units are to be stopped without atalayad: which are there?
    CollectOrders,
    /// To the main process of a run, if it is still in the run's cgroup.
    SignalMain {
        cgroup: String,
        pid: i32,
        signal: i32,
    },
    /// SIGKILL to all that is in the run's cgroup.
    KillRun {
        cgroup: String,
    },
    /// The end: nothing follows it.
    End {
        action: Action,
        reason: String,
    },
}

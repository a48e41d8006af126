//! What can happen to a unit, and what is to be done about it.

use super::state::{ExitStatus, Requirements, Stage};

/// What can happen to a unit. Where a run number is given, an event of another run changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Start,
    Stop,
    Restart,
    /// The same for a unit that can start its own successor and whose file has not changed.
    HandOver,
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

//! What the edge is told about those behind it. Derived from the units' states, never set.

use atalaya_core::machine::{Machine, Requirements, StartPhase, State};
use atalaya_core::system::System;
use atalaya_core::unit::Unit;
use serde::Serialize;

use crate::maintenance::Maintenance;

/// upstream.json. Times are milliseconds of CLOCK_BOOTTIME.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    pub admit: bool,
    pub postgres_ready: bool,
    pub postgres_ready_since_ms: Option<u64>,
    pub mattermost_ready: bool,
    pub mattermost_ready_since_ms: Option<u64>,
    pub waiting_for: Option<String>,
    /// Somebody wants users to stay out.
    pub maintenance: Option<Maintenance>,
}

/// What must be ready before a user is let in, in the order in which it becomes so.
pub const PATH: [&str; 5] = [
    "config-render",
    "site-render",
    "postgres",
    "mattermost",
    "first-administrator",
];

impl Upstream {
    pub fn derive(system: &System, maintenance: Option<&Maintenance>) -> Self {
        let ready = |name: &str| {
            system
                .unit(name)
                .is_some_and(|(_, machine)| machine.is_ready())
        };
        let since = |name: &str| {
            system
                .unit(name)
                .filter(|(_, machine)| machine.is_ready())
                .and_then(|(_, machine)| machine.ready_since_ms())
        };
        let ending = system.end().is_some();
        let waiting_for = if ending {
            Some("the machine is being stopped".to_owned())
        } else {
            PATH.iter()
                .filter(|name| {
                    system
                        .unit(name)
                        .is_some_and(|(_, machine)| !machine.is_ready())
                })
                .find_map(|name| blocker(system, name))
                .map(|(unit, machine)| format!("{}: {}", unit.description, describe(machine)))
        };
        Self {
            admit: !ending
                && maintenance.is_none()
                && ["postgres", "mattermost", "first-administrator"]
                    .iter()
                    .all(|name| ready(name)),
            postgres_ready: ready("postgres"),
            postgres_ready_since_ms: since("postgres"),
            mattermost_ready: ready("mattermost"),
            mattermost_ready_since_ms: since("mattermost"),
            waiting_for,
            maintenance: maintenance.cloned(),
        }
    }
}

/// What `name` really waits for: the first on the way down that does not itself wait for another.
pub fn blocker<'a>(system: &'a System, name: &str) -> Option<(&'a Unit, &'a Machine)> {
    let (unit, machine) = system.unit(name)?;
    match (machine.state(), machine.requirements()) {
        (State::Waiting, Requirements::Missing(below)) => blocker(system, below),
        (
            State::Waiting
            | State::Stopped
            | State::Starting(_)
            | State::Running
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. },
            _,
        ) => Some((unit, machine)),
    }
}

/// The state in words for users.
pub fn describe(machine: &Machine) -> String {
    let reason = machine.reason().unwrap_or_default();
    match machine.state() {
        State::Stopped => "stopped".to_owned(),
        State::Waiting if reason.is_empty() => "waiting".to_owned(),
        State::Waiting => reason.to_owned(),
        // That what it left behind is being ended is no news.
        State::Starting(StartPhase::Working | StartPhase::Emptying) => "at work".to_owned(),
        State::Starting(_) => "starting".to_owned(),
        State::Running if machine.is_ready() => "ready".to_owned(),
        State::Running if reason.is_empty() => "running, not ready".to_owned(),
        // pg_isready's word for a server that replays its log.
        State::Running if reason.ends_with("rejecting connections") => {
            format!("recovering ({reason})")
        }
        State::Running => format!("running, not ready: {reason}"),
        State::Stopping { .. } => "stopping".to_owned(),
        State::Backoff { .. } => format!("will be started again ({reason})"),
        State::Done => "done".to_owned(),
        State::Failed { stage, reason } => format!("failed at {stage}: {reason}"),
    }
}

//! Why a unit is as it is: the chain from the state back to its cause, in plain words, and what to do next. Reads the state
//! and changes nothing.
//!
//! Each unit on the chain gets one or two sentences; the chain goes on to the unit it waits for, down to one that waits for
//! nobody. That one is the cause, and its last words are worth showing.

use serde::Serialize;

use crate::machine::{
    AfterStop, Desired, Machine, Requirements, Stage, StartPhase, State, StopPhase,
};
use crate::system::System;
use crate::unit::{Kind, RestartPolicy, SignalName, Unit};
use crate::words::{capital, count, duration, limit};

/// The chain, told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    pub unit: String,
    /// From the unit that was asked about to the cause.
    pub chain: Vec<String>,
    /// The unit at the end of the chain.
    pub cause: String,
    /// Whether something has gone wrong there.
    pub wrong: bool,
    /// What to do, if anything.
    pub next: String,
}

/// The chain of `name`; none if there is no such unit.
pub fn explain(system: &System, name: &str, now_ms: u64) -> Option<Why> {
    let mut chain = Vec::new();
    let mut current = system.unit(name)?;
    // The graph has no circle; the bound is for a reader who does not know that.
    for _ in 0..=system.graph().order().len() {
        let (unit, machine) = current;
        chain.extend(sentences(system, unit, machine, now_ms));
        match below(system, unit, machine) {
            Some(next) => current = next,
            None => break,
        }
    }
    let (cause, machine) = current;
    Some(Why {
        unit: name.to_owned(),
        chain,
        cause: cause.name.clone(),
        wrong: is_wrong(machine),
        next: next_step(cause, machine, name),
    })
}

/// Whether this is not as it should be and does not simply take its time.
pub fn is_wrong(machine: &Machine) -> bool {
    match machine.state() {
        State::Failed { .. } | State::Backoff { .. } => true,
        State::Running => !machine.is_ready(),
        State::Stopping { phase, .. } => *phase != StopPhase::Asked,
        State::Waiting => *machine.requirements() == Requirements::Ready && !machine.is_held(),
        State::Stopped | State::Starting(_) | State::Done => false,
    }
}

/// The unit for which this one waits, or whose absence it suffers from.
fn below<'a>(
    system: &'a System,
    unit: &Unit,
    machine: &Machine,
) -> Option<(&'a Unit, &'a Machine)> {
    match machine.state() {
        State::Waiting => match machine.requirements() {
            Requirements::Missing(name) => system.unit(name),
            Requirements::Ready if machine.is_held() => going(system, unit),
            Requirements::Ready => None,
        },
        // It keeps running without what it needs; that is why it is not well.
        State::Running | State::Starting(StartPhase::Readying) => unit
            .requires
            .iter()
            .filter_map(|name| system.unit(name))
            .find(|(_, machine)| !machine.is_ready()),
        // Its turn comes when nothing that needs it is left.
        State::Stopped
        | State::Starting(_)
        | State::Stopping { .. }
        | State::Backoff { .. }
        | State::Done
        | State::Failed { .. } => None,
    }
}

/// The first unit that it requires, directly or not, which somebody wants down.
fn going<'a>(system: &'a System, unit: &Unit) -> Option<(&'a Unit, &'a Machine)> {
    unit.requires.iter().find_map(|name| {
        let (required, machine) = system.unit(name)?;
        let is_stopped =
            machine.desired() == Desired::Down || system.stopping().any(|other| other == name);
        if is_stopped {
            return Some((required, machine));
        }
        going(system, required)
    })
}

fn sentences(system: &System, unit: &Unit, machine: &Machine, now_ms: u64) -> Vec<String> {
    let who = &unit.description;
    let reason = machine.reason().filter(|reason| !reason.is_empty());
    let because = reason
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    let since = |at: Option<u64>| {
        at.map(|at| duration(now_ms.saturating_sub(at)))
            .unwrap_or_default()
    };
    let mut told = Vec::new();
    match machine.state() {
        State::Stopped => told.push(stopped(unit, machine, system)),
        State::Waiting => told.push(waiting(system, unit, machine)),
        State::Starting(phase) => told.push(starting(unit, machine, *phase, now_ms)),
        State::Running if machine.is_ready() => {
            told.push(format!(
                "{who} is ready, for {} now.",
                since(machine.ready_since_ms())
            ));
            // A reload that failed.
            told.extend(reason.map(|reason| format!("{}.", capital(reason))));
            told.extend(former_run(unit, machine));
            told.extend(below(system, unit, machine).map(|(required, _)| {
                format!(
                    "It runs on although {} is not ready, and finds its way back by itself.",
                    required.description
                )
            }));
        }
        State::Running => {
            told.push(format!(
                "{who} has been running for {} and is not ready{because}.",
                since(machine.running_since_ms())
            ));
            told.extend(
                below(system, unit, machine)
                    .map(|(required, _)| format!("It needs {}.", required.description)),
            );
            told.extend(former_run(unit, machine));
        }
        State::Stopping {
            phase,
            until_ms,
            then,
        } => {
            let left = limit(until_ms.saturating_sub(now_ms));
            told.push(stopping(unit, machine, *phase, &left));
            told.extend(after_stop(then));
        }
        State::Backoff { until_ms } => {
            if machine.is_occupied() {
                told.push(format!(
                    "{who} will be started again when the processes of its former run have ended{because}."
                ));
            } else {
                told.push(format!("{who} has failed{}.", at_stage(machine)));
                told.push(format!(
                    "It is started again in {} ({}).",
                    duration(until_ms.saturating_sub(now_ms)),
                    starts(unit, machine)
                ));
            }
        }
        State::Done => {
            told.push(format!(
                "{who} has done its work, {} ago.",
                since(machine.ready_since_ms())
            ));
            told.extend(
                machine
                    .next_run_ms()
                    .map(|at| format!("It runs again in {}.", duration(at.saturating_sub(now_ms)))),
            );
        }
        State::Failed { stage, reason } => {
            told.push(format!("{who} has failed {}: {reason}.", at(*stage)));
            told.push(given_up(unit, machine));
        }
    }
    let is_leaving = system.stopping().any(|other| other == unit.name);
    if is_leaving && let Some(needed_by) = needed_by(system, unit) {
        told.push(format!("It is stopped as soon as {needed_by} has stopped."));
    }
    told
}

fn stopped(unit: &Unit, machine: &Machine, system: &System) -> String {
    let who = &unit.description;
    if system.end().is_some() {
        return format!("{who} is stopped: the machine is being stopped.");
    }
    let ended = machine.last_end();
    match (machine.desired(), machine.run(), ended) {
        (Desired::Up, _, Some(ended)) => {
            let policy = match unit.restart.policy {
                RestartPolicy::OnFailure => {
                    "which counts as success: it is started again only after a failure"
                }
                RestartPolicy::Never => "and it is never started again by itself",
                RestartPolicy::Always => "and is to be started again",
            };
            format!("{who} has ended by itself ({ended}), {policy}.")
        }
        (Desired::Up, _, None) => {
            format!("{who} is stopped and wanted: it is about to be started.")
        }
        (Desired::Down, 0, _) if !unit.wanted => {
            format!("{who} is not started at boot: it runs only when it is asked to.")
        }
        (Desired::Down, 0, _) => format!("{who} was never started since the machine began."),
        (Desired::Down, _, _) => format!("{who} was stopped on purpose."),
    }
}

fn waiting(system: &System, unit: &Unit, machine: &Machine) -> String {
    let who = &unit.description;
    match machine.requirements() {
        Requirements::Missing(name) => {
            let other = system
                .unit(name)
                .map_or(name.as_str(), |(other, _)| &other.description);
            if unit.requires.contains(name) {
                format!("{who} is waiting for {other}, which it requires.")
            } else {
                format!("{who} is waiting: it starts after {other}.")
            }
        }
        Requirements::Ready if machine.is_held() => match going(system, unit) {
            Some((other, _)) => format!(
                "{who} is waiting: {}, which it requires, is not wanted now.",
                other.description
            ),
            None => format!("{who} is waiting for what it requires."),
        },
        Requirements::Ready => match machine.reason() {
            Some(reason) => format!("{who} is waiting: {reason}."),
            None => format!("{who} is waiting and about to be started."),
        },
    }
}

fn starting(unit: &Unit, machine: &Machine, phase: StartPhase, now_ms: u64) -> String {
    let who = &unit.description;
    let patience = machine.deadline_ms().map_or_else(String::new, |at| {
        format!(
            " It has {} more before that counts as a failure.",
            duration(at.saturating_sub(now_ms))
        )
    });
    match phase {
        StartPhase::Forking => format!("{who} is being started: its process is being made."),
        StartPhase::Sandboxing => format!("{who} is being started: its sandbox is being built."),
        StartPhase::Readying => {
            let why = machine.reason().map_or_else(
                || "it has not said that it is ready".to_owned(),
                str::to_owned,
            );
            format!("{who} is starting and not ready yet: {why}.{patience}")
        }
        StartPhase::Working => format!("{who} is at work.{patience}"),
        StartPhase::Emptying => {
            format!("{who} has done its work; the processes it left behind are being ended.")
        }
    }
}

fn stopping(unit: &Unit, machine: &Machine, phase: StopPhase, left: &str) -> String {
    let who = &unit.description;
    let next = if unit.stop.then == SignalName::Kill {
        "its processes are killed"
    } else {
        "it is asked more firmly"
    };
    match phase {
        StopPhase::Asked => {
            format!("{who} was asked to stop. If it has not in {left}, {next}.")
        }
        StopPhase::Insisted => format!(
            "{who} did not stop within {} and was asked more firmly. In {left} its processes are killed.",
            limit(unit.stop.timeout_s.saturating_mul(1000))
        ),
        StopPhase::Killed => format!("{who} is being ended: all its processes were killed."),
        StopPhase::Stuck => {
            let process = machine
                .pid()
                .map_or_else(|| "processes".to_owned(), |pid| format!("process {pid}"));
            format!(
                "{who} cannot be ended: its {process} was killed and does not end, because it waits for a device."
            )
        }
    }
}

fn after_stop(then: &AfterStop) -> Option<String> {
    match then {
        AfterStop::Rest => None,
        AfterStop::Relaunch => Some("After that it is started again.".to_owned()),
        AfterStop::Failure { stage, reason } => Some(format!(
            "It is being ended because it failed {}: {reason}.",
            at(*stage)
        )),
    }
}

/// What came before this run, when it was not asked for.
fn former_run(unit: &Unit, machine: &Machine) -> Option<String> {
    let ended = machine.last_end().filter(|_| unit.kind == Kind::Service)?;
    (machine.run() > 1).then(|| {
        format!(
            "This is its run number {}; the one before ended: {ended}.",
            machine.run(),
        )
    })
}

fn given_up(unit: &Unit, machine: &Machine) -> String {
    match unit.restart.policy {
        RestartPolicy::Never => "It is not started again by itself.".to_owned(),
        RestartPolicy::OnFailure | RestartPolicy::Always => format!(
            "It is not started again by itself ({}).",
            starts(unit, machine)
        ),
    }
}

/// "3 of 8 starts within 2 minutes".
fn starts(unit: &Unit, machine: &Machine) -> String {
    format!(
        "{} of {} within {}",
        machine.starts(),
        count(u64::from(unit.restart.limit), "start"),
        duration(unit.restart.window_s.saturating_mul(1000))
    )
}

/// A failure's reason begins with the word of its stage.
fn at_stage(machine: &Machine) -> String {
    let Some(reason) = machine.reason() else {
        return String::new();
    };
    let stages = [
        Stage::Fork,
        Stage::Sandbox,
        Stage::Exec,
        Stage::Readiness,
        Stage::Run,
        Stage::Stop,
    ];
    for stage in stages {
        if let Some(reason) = reason.strip_prefix(&format!("{stage}: ")) {
            return format!(" {}: {reason}", at(stage));
        }
    }
    format!(": {reason}")
}

fn at(stage: Stage) -> &'static str {
    match stage {
        Stage::Fork => "when its process was made",
        Stage::Sandbox => "when its sandbox was built",
        Stage::Exec => "when its program was begun",
        Stage::Readiness => "before it was ready",
        Stage::Run => "while it ran",
        Stage::Stop => "when it was stopped",
    }
}

/// Those that must stop before it, in words.
fn needed_by(system: &System, unit: &Unit) -> Option<String> {
    let names: Vec<&str> = system
        .graph()
        .dependants(&unit.name)
        .filter_map(|name| system.unit(name))
        .filter(|(_, machine)| machine.is_active())
        .map(|(unit, _)| unit.description.as_str())
        .collect();
    (!names.is_empty()).then(|| names.join(" and "))
}

fn next_step(cause: &Unit, machine: &Machine, asked: &str) -> String {
    let name = &cause.name;
    match machine.state() {
        State::Failed { .. } => format!(
            "Read atalaya logs -u {name}. When the cause is gone: atalaya unit start {name}"
        ),
        State::Backoff { .. } => format!(
            "Nothing, if the next start succeeds. Otherwise read atalaya logs -u {name}"
        ),
        State::Stopped => format!("To start it: atalaya unit start {asked}"),
        State::Running if machine.is_ready() => "Nothing has to be done.".to_owned(),
        State::Running => format!("Wait a little; what it says stands in atalaya logs -u {name}"),
        State::Waiting => {
            "Mend what it waits for; it then starts by itself.".to_owned()
        }
        State::Stopping {
            phase: StopPhase::Stuck,
            ..
        } => "Look after the device (disk, network storage). If it does not come back: atalaya reboot"
            .to_owned(),
        State::Starting(_) | State::Stopping { .. } => "Wait: this has a limit.".to_owned(),
        State::Done => "Nothing has to be done.".to_owned(),
    }
}

/// How far a stop is: what has passed of the longest it may take, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopProgress {
    pub passed_ms: u64,
    pub limit_ms: u64,
}

/// None unless it is being stopped.
pub fn stop_progress(unit: &Unit, machine: &Machine, now_ms: u64) -> Option<StopProgress> {
    let State::Stopping {
        phase, until_ms, ..
    } = machine.state()
    else {
        return None;
    };
    let kill_ms = crate::unit::KILL_LIMIT_MS;
    let limit_ms = unit.stop_bound_ms();
    // What the phases after this one may take.
    let after_ms = match phase {
        StopPhase::Asked => limit_ms.saturating_sub(unit.stop.timeout_s.saturating_mul(1000)),
        StopPhase::Insisted => kill_ms,
        StopPhase::Killed | StopPhase::Stuck => 0,
    };
    let left_ms = until_ms.saturating_sub(now_ms).saturating_add(after_ms);
    Some(StopProgress {
        passed_ms: limit_ms.saturating_sub(left_ms),
        limit_ms,
    })
}

#[cfg(test)]
mod tests;

//! The way down: stops, exits, failures, and what follows them.

use super::event::Effect;
use super::record::Machine;
use super::state::{AfterStop, Desired, ExitStatus, Stage, StartPhase, State, StopPhase};
use crate::restart;
use crate::unit::{KILL_LIMIT_MS, Kind, RestartPolicy, SignalName, Unit};

/// What people read of processes that SIGKILL does not end.
const STUCK: &str = "its processes cannot be killed: they wait for a device";

impl Machine {
    pub(super) fn begin_stop(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        then: AfterStop,
        effects: &mut Vec<Effect>,
    ) {
        self.end_care(unit, effects);
        self.extended_ms = 0;
        if let AfterStop::Failure { stage, reason } = &then {
            self.reason = Some(format!("{stage}: {reason}"));
        }
        let forking = self.state == State::Starting(StartPhase::Forking);
        let phase = if self.pid.is_some() || forking {
            StopPhase::Asked
        } else {
            StopPhase::Killed
        };
        self.state = State::Stopping {
            phase,
            until_ms: now_ms.saturating_add(Self::stop_limit_ms(unit, phase)),
            then,
        };
        effects.push(Effect::Persist);
        if self.pid.is_some() || !forking {
            effects.push(self.pressure(unit, phase));
        }
    }

    /// What each step of a stop does.
    pub(super) fn pressure(&self, unit: &Unit, phase: StopPhase) -> Effect {
        let signal = |signal: SignalName| Effect::Signal {
            run: self.run,
            signal: signal.number(),
        };
        match phase {
            StopPhase::Asked => signal(unit.stop.signal),
            StopPhase::Insisted => signal(unit.stop.then),
            StopPhase::Killed | StopPhase::Stuck => Effect::KillCgroup { run: self.run },
        }
    }

    /// The limit of `phase` has passed.
    pub(super) fn press_on(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        phase: StopPhase,
        effects: &mut Vec<Effect>,
    ) {
        let next = match phase {
            // SIGKILL to the main process alone would leave its children behind: it goes to the cgroup.
            StopPhase::Asked if unit.stop.then == SignalName::Kill => StopPhase::Killed,
            StopPhase::Asked => StopPhase::Insisted,
            StopPhase::Insisted => StopPhase::Killed,
            StopPhase::Killed | StopPhase::Stuck => StopPhase::Stuck,
        };
        if let State::Stopping {
            phase, until_ms, ..
        } = &mut self.state
        {
            *phase = next;
            *until_ms = now_ms.saturating_add(Self::stop_limit_ms(unit, next));
        }
        self.reason = Some(match next {
            StopPhase::Asked | StopPhase::Insisted => {
                let asked_ms = Self::stop_limit_ms(unit, phase).saturating_add(self.extended_ms);
                format!("did not stop within {} s", asked_ms / 1000)
            }
            StopPhase::Killed => "did not stop in time and was killed".to_owned(),
            StopPhase::Stuck => STUCK.to_owned(),
        });
        self.extended_ms = 0;
        effects.extend([Effect::Persist, self.pressure(unit, next)]);
    }

    pub(super) fn stop_limit_ms(unit: &Unit, phase: StopPhase) -> u64 {
        match phase {
            StopPhase::Asked => unit.stop.timeout_s.saturating_mul(1000),
            StopPhase::Insisted => unit.stop.then_timeout_s.saturating_mul(1000),
            StopPhase::Killed | StopPhase::Stuck => KILL_LIMIT_MS,
        }
    }

    pub(super) fn on_exited(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        status: ExitStatus,
        effects: &mut Vec<Effect>,
    ) {
        if run != self.run || self.pid.is_none() {
            return;
        }
        self.pid = None;
        self.last_exit = Some(status);
        self.last_exit_oom = self.ran_out_of_memory();
        self.end_care(unit, effects);
        let cause = self.last_end().unwrap_or_else(|| status.to_string());
        match &self.state {
            State::Starting(phase) => match (unit.kind, status.is_success(), *phase) {
                (Kind::Oneshot, true, _) => {
                    self.state = State::Starting(StartPhase::Emptying);
                    self.deadline_ms = Some(now_ms.saturating_add(KILL_LIMIT_MS));
                    effects.push(Effect::Persist);
                }
                (Kind::Service, _, _) | (Kind::Oneshot, false, _) => {
                    let before_ready = (
                        Stage::Readiness,
                        format!("ended before it was ready: {cause}"),
                    );
                    let (stage, reason) = match (self.sandbox_error.take(), unit.kind) {
                        (Some(reported), Kind::Service | Kind::Oneshot) => reported,
                        (None, Kind::Service) => before_ready,
                        (None, Kind::Oneshot) => (Stage::Run, cause),
                    };
                    self.fail(unit, now_ms, stage, reason, effects);
                }
            },
            State::Running => match (unit.restart.policy, status.is_success()) {
                (RestartPolicy::OnFailure, true) | (RestartPolicy::Never, true) => {
                    self.state = State::Stopped;
                    self.reason = Some("ended by itself".to_owned());
                    effects.push(Effect::Persist);
                }
                (RestartPolicy::Always, _)
                | (RestartPolicy::OnFailure | RestartPolicy::Never, false) => {
                    self.fail(unit, now_ms, Stage::Run, cause, effects);
                }
            },
            State::Stopping { then, .. } => {
                let then = then.clone();
                if self.occupied {
                    let until_ms = now_ms.saturating_add(KILL_LIMIT_MS);
                    self.state = State::Stopping {
                        phase: StopPhase::Killed,
                        until_ms,
                        then,
                    };
                    effects.push(Effect::Persist);
                } else {
                    self.finish_stop(unit, now_ms, then, effects);
                }
            }
            State::Stopped
            | State::Waiting
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {
                effects.push(Effect::Persist);
            }
        }
        if self.occupied {
            self.expect_empty(now_ms);
            effects.push(Effect::KillCgroup { run });
        } else {
            effects.push(Effect::Retire { run });
        }
    }

    /// Between two runs: what the last one has left behind outlives SIGKILL. No run begins beside it.
    pub(super) fn on_left_behind(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.occupied && self.deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
            self.deadline_ms = None;
            let before = self
                .reason
                .take()
                .map(|reason| format!("{reason}; "))
                .unwrap_or_default();
            self.reason = Some(format!("{before}{STUCK}"));
            effects.extend([Effect::Persist, Effect::KillCgroup { run: self.run }]);
        }
    }

    pub(super) fn on_emptied(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        effects: &mut Vec<Effect>,
    ) {
        // While it is being forked nothing can be said of its cgroup.
        let is_forking = self.state == State::Starting(StartPhase::Forking);
        if run != self.run || !self.occupied || is_forking {
            return;
        }
        self.occupied = false;
        if self.pid.is_some() {
            // The exit has not been told yet; all follows from it.
            return;
        }
        self.deadline_ms = None;
        effects.push(Effect::Retire { run });
        match &self.state {
            State::Starting(StartPhase::Emptying) => {
                self.state = State::Done;
                self.ready_since_ms = Some(now_ms);
                self.reason = None;
                self.failures = 0;
                self.next_run_ms = (unit.timer.as_ref())
                    .map(|timer| self.time_of_run(unit, timer, timer.every_s, now_ms));
            }
            State::Stopping { then, .. } => {
                let then = then.clone();
                self.finish_stop(unit, now_ms, then, effects);
            }
            State::Backoff { until_ms } => {
                if *until_ms <= now_ms {
                    self.launch(unit, now_ms, effects);
                }
            }
            State::Starting(
                StartPhase::Forking
                | StartPhase::Sandboxing
                | StartPhase::Readying
                | StartPhase::Working,
            )
            | State::Stopped
            | State::Waiting
            | State::Running
            | State::Done
            | State::Failed { .. } => {}
        }
        effects.push(Effect::Persist);
    }

    pub(super) fn finish_stop(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        then: AfterStop,
        effects: &mut Vec<Effect>,
    ) {
        match then {
            AfterStop::Rest => self.rest(now_ms, effects),
            AfterStop::Relaunch => self.launch(unit, now_ms, effects),
            AfterStop::Failure { stage, reason } => self.fail(unit, now_ms, stage, reason, effects),
        }
    }

    /// No run is wanted now. What is left of the last one ends first.
    pub(super) fn rest(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.ready_since_ms = None;
        self.running_since_ms = None;
        self.deadline_ms = None;
        self.next_run_ms = None;
        if self.occupied {
            let until_ms = now_ms.saturating_add(KILL_LIMIT_MS);
            self.state = State::Stopping {
                phase: StopPhase::Killed,
                until_ms,
                then: AfterStop::Rest,
            };
            effects.extend([Effect::Persist, Effect::KillCgroup { run: self.run }]);
            return;
        }
        self.state = match self.desired {
            Desired::Down => State::Stopped,
            Desired::Up => State::Waiting,
        };
        self.reason = match self.desired {
            Desired::Down => self.reason.take(),
            Desired::Up => self.missing(),
        };
        effects.push(Effect::Persist);
    }

    pub(super) fn fail(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        stage: Stage,
        reason: String,
        effects: &mut Vec<Effect>,
    ) {
        let healthy_ms = unit.restart.healthy_s.saturating_mul(1000);
        if self
            .running_since_ms
            .is_some_and(|since| now_ms.saturating_sub(since) >= healthy_ms)
        {
            self.failures = 0;
        }
        self.ready_since_ms = None;
        self.running_since_ms = None;
        self.deadline_ms = None;
        let spent = restart::is_spent(&unit.restart, &self.starts, now_ms);
        self.state = match unit.restart.policy {
            RestartPolicy::Never => State::Failed {
                stage,
                reason: reason.clone(),
            },
            RestartPolicy::OnFailure | RestartPolicy::Always if spent => State::Failed {
                stage,
                reason: format!(
                    "{} starts in {} s, the last: {reason}",
                    self.starts.len(),
                    unit.restart.window_s
                ),
            },
            RestartPolicy::OnFailure | RestartPolicy::Always => {
                let chance = restart::chance(&unit.name, self.run, now_ms);
                let pause_ms = restart::plan_pause_ms(&unit.restart, self.failures, chance);
                State::Backoff {
                    until_ms: now_ms.saturating_add(pause_ms),
                }
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.reason = Some(format!("{stage}: {reason}"));
        effects.push(Effect::Persist);
    }
}

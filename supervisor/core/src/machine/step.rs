//! One event, from any state. Every table is complete: no state is left to a default.

use super::state::{AfterStop, Desired, Effect, Event, Machine, Requirements, StartPhase, State};
use crate::unit::{RequirementLost, Unit};

impl Machine {
    /// Applies `event` at `now_ms` and returns what is to be done. `unit` must be the same at every step.
    pub fn step(&mut self, unit: &Unit, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Start => self.on_start(unit, now_ms, &mut effects),
            Event::Stop => self.on_stop(unit, now_ms, &mut effects),
            Event::Restart => self.on_restart(unit, now_ms, &mut effects),
            Event::Hold => self.on_hold(unit, now_ms, &mut effects),
            Event::Release => {
                self.held = false;
                self.leave_waiting(unit, now_ms, &mut effects);
            }
            Event::Requirements(requirements) => {
                self.requirements = requirements;
                self.leave_waiting(unit, now_ms, &mut effects);
            }
            Event::RequirementGone(name) => {
                self.on_requirement_gone(unit, now_ms, &name, &mut effects)
            }
            Event::Spawned { run, pid } => self.on_spawned(unit, run, pid, &mut effects),
            Event::SpawnFailed { run, stage, error } => {
                self.on_spawn_failed(unit, now_ms, run, (stage, error), &mut effects);
            }
            Event::SandboxFailed { run, stage, error } => {
                if run == self.run {
                    self.sandbox_error = Some((stage, error));
                }
            }
            Event::Executed { run } => self.on_executed(unit, now_ms, run, &mut effects),
            Event::Ready { run } => self.on_ready(unit, now_ms, run, &mut effects),
            Event::SaidReady { run } => {
                if run == self.run && self.is_ready() {
                    self.ready_since_ms = Some(now_ms);
                    effects.push(Effect::Persist);
                } else {
                    self.on_ready(unit, now_ms, run, &mut effects);
                }
            }
            Event::NotReady { run, reason } => self.on_not_ready(run, reason, &mut effects),
            Event::Exited { run, status } => {
                self.on_exited(unit, now_ms, run, status, &mut effects)
            }
            Event::Emptied { run } => self.on_emptied(unit, now_ms, run, &mut effects),
            Event::Adopted { pid } => self.on_adopted(unit, now_ms, pid, &mut effects),
            Event::Reload
            | Event::Reloading { .. }
            | Event::ReloadDone { .. }
            | Event::Alive { .. }
            | Event::Petted { .. }
            | Event::WatchdogLimit { .. }
            | Event::Extend { .. }
            | Event::MainPid { .. }
            | Event::Oom { .. }
            | Event::Ground(_)
            | Event::Reset => {}
            Event::Tick => self.on_tick(unit, now_ms, &mut effects),
        }
        effects
    }

    fn on_start(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.desired = Desired::Up;
        match &mut self.state {
            State::Stopped | State::Failed { .. } | State::Backoff { .. } => {
                // A person asks: the window is theirs again.
                self.starts.clear();
                self.failures = 0;
                self.launch(unit, now_ms, effects);
            }
            State::Stopping { then, .. } => {
                *then = AfterStop::Relaunch;
                effects.push(Effect::Persist);
            }
            State::Waiting | State::Starting(_) | State::Running | State::Done => {}
        }
    }

    fn on_stop(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.desired = Desired::Down;
        match &mut self.state {
            State::Stopped => {}
            State::Waiting | State::Done | State::Backoff { .. } | State::Failed { .. } => {
                self.rest(now_ms, effects);
            }
            State::Starting(_) | State::Running => {
                self.begin_stop(unit, now_ms, AfterStop::Rest, effects)
            }
            State::Stopping { then, .. } => {
                *then = AfterStop::Rest;
                effects.push(Effect::Persist);
            }
        }
    }

    fn on_restart(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.desired = Desired::Up;
        self.starts.clear();
        self.failures = 0;
        match &mut self.state {
            State::Stopped | State::Done | State::Backoff { .. } | State::Failed { .. } => {
                self.launch(unit, now_ms, effects);
            }
            State::Waiting => {}
            State::Starting(_) | State::Running => {
                self.begin_stop(unit, now_ms, AfterStop::Relaunch, effects)
            }
            State::Stopping { then, .. } => {
                *then = AfterStop::Relaunch;
                effects.push(Effect::Persist);
            }
        }
    }

    fn on_hold(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.held = true;
        match &mut self.state {
            State::Stopped | State::Waiting | State::Failed { .. } => {}
            State::Done | State::Backoff { .. } => self.rest(now_ms, effects),
            State::Starting(_) | State::Running => {
                self.begin_stop(unit, now_ms, AfterStop::Rest, effects)
            }
            State::Stopping { then, .. } => {
                *then = AfterStop::Rest;
                effects.push(Effect::Persist);
            }
        }
    }

    fn leave_waiting(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        match self.state {
            State::Waiting => self.launch(unit, now_ms, effects),
            State::Stopped
            | State::Starting(_)
            | State::Running
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {}
        }
    }

    fn on_requirement_gone(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        name: &str,
        effects: &mut Vec<Effect>,
    ) {
        match (unit.on_requirement_lost, &self.state) {
            (RequirementLost::Restart, State::Starting(_) | State::Running) => {
                self.reason = Some(format!("{name}, which it requires, has ended"));
                self.begin_stop(unit, now_ms, AfterStop::Relaunch, effects);
            }
            (RequirementLost::Keep, _)
            | (
                RequirementLost::Restart,
                State::Stopped
                | State::Waiting
                | State::Stopping { .. }
                | State::Backoff { .. }
                | State::Done
                | State::Failed { .. },
            ) => {}
        }
    }

    fn on_adopted(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        pid: Option<i32>,
        effects: &mut Vec<Effect>,
    ) {
        self.pid = pid;
        // Limits begin anew: the time without a supervisor is not the unit's fault.
        match &mut self.state {
            State::Starting(StartPhase::Forking | StartPhase::Sandboxing) if pid.is_none() => {
                let error = "atalayad ended during the start".to_owned();
                self.on_spawn_failed(unit, now_ms, self.run, (super::Stage::Fork, error), effects);
            }
            // Whether the program already runs is not known: if the helper fails, its exit will tell.
            State::Starting(StartPhase::Forking | StartPhase::Sandboxing) => {
                self.state = State::Starting(StartPhase::Sandboxing);
                self.on_executed(unit, now_ms, self.run, effects);
            }
            State::Starting(StartPhase::Readying | StartPhase::Working) => {
                self.deadline_ms = Self::start_deadline(unit, now_ms);
                effects.push(Effect::StartReadiness { run: self.run });
            }
            State::Starting(StartPhase::Emptying) => {
                effects.push(Effect::KillCgroup { run: self.run })
            }
            State::Running => effects.push(Effect::StartReadiness { run: self.run }),
            State::Stopping {
                phase, until_ms, ..
            } => {
                *until_ms = now_ms.saturating_add(Self::stop_limit_ms(unit, *phase));
                if pid.is_none() {
                    effects.push(Effect::KillCgroup { run: self.run });
                }
            }
            State::Stopped
            | State::Waiting
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {
                if self.occupied {
                    effects.push(Effect::KillCgroup { run: self.run });
                }
            }
        }
        effects.insert(0, Effect::Persist);
    }

    fn on_tick(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        match &self.state {
            State::Starting(phase) => {
                if self.deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
                    self.on_start_deadline(unit, now_ms, *phase, effects);
                }
            }
            State::Stopping {
                until_ms, phase, ..
            } => {
                if *until_ms <= now_ms {
                    self.press_on(unit, now_ms, *phase, effects);
                }
            }
            State::Backoff { until_ms } => {
                if *until_ms <= now_ms && !self.occupied {
                    self.launch(unit, now_ms, effects);
                }
            }
            State::Stopped
            | State::Waiting
            | State::Running
            | State::Done
            | State::Failed { .. } => {}
        }
    }

    /// Whether nothing but time and will keeps it from running.
    pub(super) fn missing(&self) -> Option<String> {
        match &self.requirements {
            Requirements::Missing(name) => Some(format!("waiting for {name}")),
            Requirements::Ready if self.held => Some("waiting for what it requires".to_owned()),
            Requirements::Ready => None,
        }
    }
}

//! One event, from any state. Every table is complete: no state is left to a default.

use super::event::{Effect, Event};
use super::record::Machine;
use super::state::{AfterStop, Desired, StartPhase, State};
use crate::unit::{RequirementLost, Unit};

impl Machine {
    /// Applies `event` at `now_ms` and returns what is to be done. `unit` must be the same at every step.
    pub fn step(&mut self, unit: &Unit, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Start => self.on_start(unit, now_ms, &mut effects),
            Event::Stop => self.on_stop(unit, now_ms, &mut effects),
            Event::Restart => self.on_restart(unit, now_ms, &mut effects),
            Event::HandOver => self.on_hand_over(unit, now_ms, &mut effects),
            Event::Hold => self.on_hold(unit, now_ms, &mut effects),
            Event::Release => {
                self.held = false;
                self.leave_waiting(unit, now_ms, &mut effects);
            }
            Event::Requirements(requirements) => {
                self.on_requirements(unit, now_ms, requirements, &mut effects);
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
            Event::SaidReady { run } => self.on_said_ready(unit, now_ms, run, &mut effects),
            Event::NotReady { run, reason } => self.on_not_ready(run, reason, &mut effects),
            Event::Exited { run, status } => {
                self.on_exited(unit, now_ms, run, status, &mut effects)
            }
            Event::Emptied { run } => self.on_emptied(unit, now_ms, run, &mut effects),
            Event::Adopted { pid } => self.on_adopted(unit, now_ms, pid, &mut effects),
            Event::Reload => self.on_reload(unit, now_ms, &mut effects),
            Event::Reloading { run } => self.on_reloading(unit, now_ms, run, &mut effects),
            Event::ReloadDone { run, error } => {
                self.on_reload_done(unit, now_ms, run, error, &mut effects);
            }
            Event::Alive { run, error } => self.on_alive(unit, now_ms, run, error, &mut effects),
            Event::Petted { run } => self.on_petted(unit, now_ms, run),
            Event::WatchdogLimit { run, ms } => self.on_watchdog_limit(unit, now_ms, run, ms),
            Event::Extend { run, ms } => self.on_extend(unit, now_ms, run, ms, &mut effects),
            Event::MainPid { run, pid } => self.on_main_pid(run, pid, &mut effects),
            Event::Oom { run } => self.on_oom(run, &mut effects),
            Event::Ground(ground) => self.on_ground(unit, now_ms, ground, &mut effects),
            Event::Reset => self.on_reset(&mut effects),
            Event::Tick => self.on_tick(unit, now_ms, &mut effects),
        }
        effects
    }

    fn on_start(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.desired = Desired::Up;
        match &mut self.state {
            State::Stopped | State::Failed { .. } | State::Backoff { .. } => {
                self.launch_afresh(unit, now_ms, effects);
            }
            State::Stopping { then, .. } => {
                *then = AfterStop::Relaunch;
                effects.push(Effect::Persist);
            }
            // Nobody need wait for the timer.
            State::Waiting | State::Done => {
                if self.next_run_ms.is_some() {
                    self.run_now(unit, now_ms, effects);
                }
            }
            State::Starting(_) | State::Running => {}
        }
    }

    /// A person asks, or what was in the way is gone: the window is theirs again.
    fn launch_afresh(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.starts.clear();
        self.failures = 0;
        self.launch(unit, now_ms, effects);
    }

    /// With a timer: whatever it says.
    fn run_now(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.next_run_ms = unit.timer.as_ref().map(|_| now_ms);
        self.launch_afresh(unit, now_ms, effects);
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

    pub(super) fn on_restart(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.desired = Desired::Up;
        self.starts.clear();
        self.failures = 0;
        match &mut self.state {
            State::Stopped
            | State::Waiting
            | State::Done
            | State::Backoff { .. }
            | State::Failed { .. } => self.run_now(unit, now_ms, effects),
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

    /// Its data went away or came back. What runs finds out by itself.
    fn on_ground(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        ground: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let is_back = self.ground.is_some() && ground.is_none();
        self.ground = ground;
        match &self.state {
            State::Waiting if is_back => self.launch_afresh(unit, now_ms, effects),
            State::Waiting => self.launch(unit, now_ms, effects),
            // Whatever it failed at, it was not given a chance.
            State::Backoff { .. } | State::Failed { .. }
                if is_back && self.desired == Desired::Up && !self.held =>
            {
                self.launch_afresh(unit, now_ms, effects);
            }
            State::Stopped
            | State::Starting(_)
            | State::Running
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => effects.push(Effect::Persist),
        }
    }

    fn on_reset(&mut self, effects: &mut Vec<Effect>) {
        self.starts.clear();
        self.failures = 0;
        match &self.state {
            State::Failed { .. } => {
                self.state = State::Stopped;
                self.reason = None;
            }
            State::Stopped
            | State::Waiting
            | State::Starting(_)
            | State::Running
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done => {}
        }
        effects.push(Effect::Persist);
    }

    pub(super) fn leave_waiting(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
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
        let was_known = self.pid.is_some();
        self.pid = pid;
        let run = self.run;
        effects.push(Effect::Persist);
        // Limits begin anew: the time without a supervisor is not the unit's fault.
        match &mut self.state {
            // Nobody knows of a process; that none is left must be seen.
            State::Starting(StartPhase::Forking | StartPhase::Sandboxing) if pid.is_none() => {
                let error = "atalayad ended during the start".to_owned();
                self.fail(unit, now_ms, super::Stage::Fork, error, effects);
                self.expect_empty(now_ms);
                effects.push(Effect::KillCgroup { run });
            }
            // Whether the program already runs is not known: if the helper fails, its exit will tell.
            State::Starting(StartPhase::Forking | StartPhase::Sandboxing) => {
                self.state = State::Starting(StartPhase::Sandboxing);
                self.on_executed(unit, now_ms, run, effects);
            }
            State::Starting(StartPhase::Readying | StartPhase::Working) => {
                self.begin_start_limit(unit, now_ms);
                if unit.ready.kind.is_polled() {
                    effects.push(Effect::StartReadiness { run });
                }
            }
            State::Starting(StartPhase::Emptying) => {
                self.expect_empty(now_ms);
                effects.push(Effect::KillCgroup { run });
            }
            State::Running => {
                if unit.ready.is_asked() {
                    effects.push(Effect::StartReadiness { run });
                }
                self.begin_care(unit, now_ms, effects);
                self.resume_reload(unit, now_ms, effects);
            }
            State::Stopping {
                phase, until_ms, ..
            } => {
                self.extended_ms = 0;
                *until_ms = now_ms.saturating_add(Self::stop_limit_ms(unit, *phase));
                let phase = *phase;
                if pid.is_none() {
                    effects.push(Effect::KillCgroup { run });
                } else if !was_known {
                    effects.push(self.pressure(unit, phase));
                }
            }
            State::Stopped
            | State::Waiting
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {
                if self.occupied {
                    self.expect_empty(now_ms);
                    effects.push(Effect::KillCgroup { run });
                } else {
                    // What it waited for may have come meanwhile, and nobody says it again.
                    self.leave_waiting(unit, now_ms, effects);
                }
            }
        }
    }

    fn on_tick(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        let is_due = self.next_run_ms.is_some_and(|at| at <= now_ms);
        match &self.state {
            State::Starting(phase) => {
                if self.deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
                    self.on_start_deadline(unit, now_ms, *phase, effects);
                }
            }
            State::Running => self.on_running_tick(unit, now_ms, effects),
            State::Stopping {
                until_ms, phase, ..
            } => {
                if *until_ms <= now_ms {
                    self.press_on(unit, now_ms, *phase, effects);
                }
            }
            State::Backoff { until_ms } if !self.occupied => {
                if *until_ms <= now_ms {
                    self.launch(unit, now_ms, effects);
                }
            }
            State::Done => {
                if is_due {
                    self.launch_afresh(unit, now_ms, effects);
                }
            }
            State::Waiting if is_due && self.missing().is_none() => {
                self.launch_afresh(unit, now_ms, effects);
            }
            State::Waiting | State::Backoff { .. } | State::Stopped | State::Failed { .. } => {
                self.on_left_behind(now_ms, effects);
            }
        }
    }
}

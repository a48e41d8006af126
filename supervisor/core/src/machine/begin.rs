//! The way up: from the decision to start to readiness.

use super::event::Effect;
use super::record::Machine;
use super::state::{AfterStop, Stage, StartPhase, State};
use crate::restart;
use crate::unit::{KILL_LIMIT_MS, Kind, ReadyKind, Timer, Unit};

/// The helper's work takes milliseconds; a minute means that something hangs.
const SANDBOX_LIMIT_MS: u64 = 60_000;

impl Machine {
    /// Starts a run, or says what it waits for.
    pub(super) fn launch(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.ready_since_ms = None;
        self.running_since_ms = None;
        let missing = self.missing();
        self.plan_next_run(unit, now_ms, missing.is_some());
        let too_early = self.next_run_ms.is_some_and(|at| now_ms < at);
        if let Some(obstacle) =
            missing.or_else(|| too_early.then(|| "waiting for its time".to_owned()))
        {
            let changed = self.state != State::Waiting || self.reason.as_ref() != Some(&obstacle);
            self.state = State::Waiting;
            self.reason = Some(obstacle);
            if changed {
                effects.push(Effect::Persist);
            }
            return;
        }
        if self.occupied {
            self.state = State::Backoff { until_ms: now_ms };
            self.reason = Some("waiting for the processes of its former run to end".to_owned());
            self.expect_empty(now_ms);
            effects.extend([Effect::Persist, Effect::KillCgroup { run: self.run }]);
            return;
        }
        restart::forget_old_starts(&unit.restart, &mut self.starts, now_ms);
        self.starts.push(now_ms);
        self.run += 1;
        self.occupied = true;
        self.sandbox_error = None;
        self.reload_error = None;
        self.watchdog_limit_ms = None;
        self.extended_ms = 0;
        self.deadline_ms = Some(now_ms.saturating_add(SANDBOX_LIMIT_MS));
        self.state = State::Starting(StartPhase::Forking);
        effects.extend([Effect::Persist, Effect::Spawn { run: self.run }]);
    }

    /// For a timer the first run is due so long after all that it requires is ready. What is overdue stays so.
    fn plan_next_run(&mut self, unit: &Unit, now_ms: u64, is_missing: bool) {
        let Some(timer) = &unit.timer else {
            self.next_run_ms = None;
            return;
        };
        let is_due = self.next_run_ms.is_some_and(|at| at <= now_ms);
        if is_missing && !is_due && self.ground.is_none() {
            self.next_run_ms = None;
        } else if !is_missing && self.next_run_ms.is_none() {
            self.next_run_ms = Some(self.time_of_run(unit, timer, timer.first_s, now_ms));
        }
    }

    pub(super) fn time_of_run(&self, unit: &Unit, timer: &Timer, in_s: u64, now_ms: u64) -> u64 {
        let spread_ms = timer.spread_s.saturating_mul(1000);
        let chance = restart::chance(&unit.name, self.run, now_ms);
        now_ms
            .saturating_add(in_s.saturating_mul(1000))
            .saturating_add(chance % spread_ms.saturating_add(1))
    }

    /// What the last run has left behind was sent SIGKILL: so long may it take to end.
    pub(super) fn expect_empty(&mut self, now_ms: u64) {
        self.deadline_ms = Some(now_ms.saturating_add(KILL_LIMIT_MS));
    }

    pub(super) fn on_spawned(
        &mut self,
        unit: &Unit,
        run: u32,
        pid: i32,
        effects: &mut Vec<Effect>,
    ) {
        if run != self.run {
            return;
        }
        match &self.state {
            State::Starting(phase) => {
                self.pid = Some(pid);
                if *phase == StartPhase::Forking {
                    self.state = State::Starting(StartPhase::Sandboxing);
                }
                effects.push(Effect::Persist);
            }
            // Stopped while it was being forked: what was owed to the process follows now.
            State::Stopping { phase, .. } => {
                self.pid = Some(pid);
                effects.extend([Effect::Persist, self.pressure(unit, *phase)]);
            }
            State::Stopped
            | State::Waiting
            | State::Running
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => effects.push(Effect::KillCgroup { run }),
        }
    }

    pub(super) fn on_spawn_failed(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        (stage, error): (Stage, String),
        effects: &mut Vec<Effect>,
    ) {
        if run != self.run {
            return;
        }
        self.occupied = false;
        self.pid = None;
        effects.push(Effect::Retire { run });
        match &self.state {
            State::Starting(_) => self.fail(unit, now_ms, stage, error, effects),
            State::Stopping { then, .. } => {
                let then = then.clone();
                self.finish_stop(unit, now_ms, then, effects);
            }
            State::Stopped
            | State::Waiting
            | State::Running
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {}
        }
    }

    pub(super) fn on_executed(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        effects: &mut Vec<Effect>,
    ) {
        if run != self.run {
            return;
        }
        match self.state {
            State::Starting(StartPhase::Forking | StartPhase::Sandboxing) => {
                self.begin_start_limit(unit, now_ms);
                match (unit.kind, unit.ready.kind) {
                    (Kind::Oneshot, _) => {
                        self.state = State::Starting(StartPhase::Working);
                        effects.push(Effect::Persist);
                    }
                    (Kind::Service, ReadyKind::Started) => {
                        self.become_ready(unit, now_ms, effects);
                    }
                    (
                        Kind::Service,
                        ReadyKind::Notify | ReadyKind::Tcp | ReadyKind::Http | ReadyKind::Exec,
                    ) => {
                        self.state = State::Starting(StartPhase::Readying);
                        effects.push(Effect::Persist);
                        if unit.ready.kind.is_polled() {
                            effects.push(Effect::StartReadiness { run });
                        }
                    }
                }
            }
            State::Starting(StartPhase::Readying | StartPhase::Working | StartPhase::Emptying)
            | State::Stopped
            | State::Waiting
            | State::Running
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {}
        }
    }

    pub(super) fn on_ready(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        effects: &mut Vec<Effect>,
    ) {
        if run != self.run || self.pid.is_none() || unit.kind == Kind::Oneshot {
            return;
        }
        match self.state {
            // READY=1 may overtake the news that the program runs.
            State::Starting(
                StartPhase::Forking | StartPhase::Sandboxing | StartPhase::Readying,
            ) => {
                self.become_ready(unit, now_ms, effects);
            }
            State::Running => {
                if self.ready_since_ms.is_none() {
                    self.become_ready(unit, now_ms, effects);
                }
            }
            // A one-shot is ready when it is Done.
            State::Starting(StartPhase::Working | StartPhase::Emptying)
            | State::Stopped
            | State::Waiting
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {}
        }
    }

    fn become_ready(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        let was_running = self.state == State::Running;
        self.state = State::Running;
        self.ready_since_ms = Some(now_ms);
        self.reason = None;
        self.deadline_ms = None;
        effects.push(Effect::Persist);
        if !was_running {
            self.running_since_ms = Some(now_ms);
            if !unit.ready.kind.is_polled() && unit.ready.is_asked() {
                effects.push(Effect::StartReadiness { run: self.run });
            }
            self.begin_care(unit, now_ms, effects);
        }
    }

    pub(super) fn on_not_ready(&mut self, run: u32, reason: String, effects: &mut Vec<Effect>) {
        if run != self.run {
            return;
        }
        match self.state {
            State::Starting(StartPhase::Readying) | State::Running => {
                let changed =
                    self.ready_since_ms.take().is_some() || self.reason.as_ref() != Some(&reason);
                self.reason = Some(reason);
                if changed {
                    effects.push(Effect::Persist);
                }
            }
            State::Starting(
                StartPhase::Forking
                | StartPhase::Sandboxing
                | StartPhase::Working
                | StartPhase::Emptying,
            )
            | State::Stopped
            | State::Waiting
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => {}
        }
    }

    pub(super) fn on_start_deadline(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        phase: StartPhase,
        effects: &mut Vec<Effect>,
    ) {
        self.deadline_ms = None;
        let (stage, reason) = match phase {
            StartPhase::Forking | StartPhase::Sandboxing => (
                Stage::Sandbox,
                format!(
                    "its sandbox was not ready within {} s",
                    SANDBOX_LIMIT_MS / 1000
                ),
            ),
            StartPhase::Readying => {
                let last = self
                    .reason
                    .take()
                    .map(|reason| format!(" ({reason})"))
                    .unwrap_or_default();
                (
                    Stage::Readiness,
                    format!("not ready within {} s{last}", unit.ready.timeout_s),
                )
            }
            StartPhase::Working => (
                Stage::Run,
                format!("not done within {} s", unit.ready.timeout_s),
            ),
            // What it left behind was killed already; the stop counts from here.
            StartPhase::Emptying => (Stage::Stop, "its processes cannot be killed".to_owned()),
        };
        self.begin_stop(unit, now_ms, AfterStop::Failure { stage, reason }, effects);
    }

    pub(super) fn begin_start_limit(&mut self, unit: &Unit, now_ms: u64) {
        self.extended_ms = 0;
        self.deadline_ms = (unit.ready.timeout_s > 0)
            .then(|| now_ms.saturating_add(unit.ready.timeout_s.saturating_mul(1000)));
    }
}

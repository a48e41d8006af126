//! The way up: from the decision to start to readiness.

use super::state::{AfterStop, Effect, Machine, Stage, StartPhase, State, StopPhase};
use crate::restart;
use crate::unit::{Kind, ReadyKind, Unit};

/// The helper's work takes milliseconds; a minute means that something hangs.
const SANDBOX_LIMIT_MS: u64 = 60_000;

impl Machine {
    /// Starts a run, or says what it waits for.
    pub(super) fn launch(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.ready_since_ms = None;
        self.running_since_ms = None;
        if let Some(missing) = self.missing() {
            let changed = self.state != State::Waiting || self.reason.as_ref() != Some(&missing);
            self.state = State::Waiting;
            self.reason = Some(missing);
            if changed {
                effects.push(Effect::Persist);
            }
            return;
        }
        if self.occupied {
            self.state = State::Backoff { until_ms: now_ms };
            self.reason = Some("waiting for the processes of its former run to end".to_owned());
            effects.extend([Effect::Persist, Effect::KillCgroup { run: self.run }]);
            return;
        }
        restart::forget_old_starts(&unit.restart, &mut self.starts, now_ms);
        self.starts.push(now_ms);
        self.run += 1;
        self.occupied = true;
        self.sandbox_error = None;
        self.deadline_ms = Some(now_ms.saturating_add(SANDBOX_LIMIT_MS));
        self.state = State::Starting(StartPhase::Forking);
        effects.extend([Effect::Persist, Effect::Spawn { run: self.run }]);
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
                effects.push(Effect::Persist);
                effects.push(match phase {
                    StopPhase::Asked => Effect::Signal {
                        run,
                        signal: unit.stop.signal.number(),
                    },
                    StopPhase::Insisted => Effect::Signal {
                        run,
                        signal: unit.stop.then.number(),
                    },
                    StopPhase::Killed | StopPhase::Stuck => Effect::KillCgroup { run },
                });
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
                self.deadline_ms = Self::start_deadline(unit, now_ms);
                match (unit.kind, unit.ready.kind) {
                    (Kind::Oneshot, _) => {
                        self.state = State::Starting(StartPhase::Working);
                        effects.push(Effect::Persist);
                    }
                    (Kind::Service, ReadyKind::Started) => self.become_ready(now_ms, effects),
                    (
                        Kind::Service,
                        ReadyKind::Notify | ReadyKind::Tcp | ReadyKind::Http | ReadyKind::Exec,
                    ) => {
                        self.state = State::Starting(StartPhase::Readying);
                        effects.extend([Effect::Persist, Effect::StartReadiness { run }]);
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
                self.become_ready(now_ms, effects);
            }
            State::Running => {
                if self.ready_since_ms.is_none() {
                    self.become_ready(now_ms, effects);
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

    fn become_ready(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.state != State::Running {
            self.running_since_ms = Some(now_ms);
        }
        self.state = State::Running;
        self.ready_since_ms = Some(now_ms);
        self.reason = None;
        self.deadline_ms = None;
        effects.push(Effect::Persist);
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

    pub(super) fn start_deadline(unit: &Unit, now_ms: u64) -> Option<u64> {
        (unit.ready.timeout_s > 0)
            .then(|| now_ms.saturating_add(unit.ready.timeout_s.saturating_mul(1000)))
    }
}

//! What happens to a unit while it runs: reloads, liveness, watchdog, longer limits at its own wish, a main process that
//! hands over, memory that ran out. None of it changes the state but by a stop.

use super::event::Effect;
use super::record::{Care, Machine, UnderWay};
use super::state::{AfterStop, Requirements, Stage, StartPhase, State, StopPhase};
use crate::unit::{LivenessKind, ReadyKind, Unit};

/// By how much a unit may have the limit of its start moved in all. A stop may take twice as long as its file says.
const EXTEND_LIMIT_MS: u64 = 3_600_000;
/// For a unit that says RELOADING=1 and has no `reload` of its own.
const RELOAD_LIMIT_MS: u64 = 30_000;

impl Machine {
    /// Begins to watch over a run that has become Running, or was found Running.
    pub(super) fn begin_care(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        self.begin_liveness_anew(unit, now_ms);
        if is_asked_whether_alive(unit) {
            effects.push(Effect::StartLiveness { run: self.run });
        }
    }

    pub(super) fn end_care(&mut self, unit: &Unit, effects: &mut Vec<Effect>) {
        effects.push(Effect::StopReadiness { run: self.run });
        if self.state == State::Running && is_asked_whether_alive(unit) {
            effects.push(Effect::StopLiveness { run: self.run });
        }
        self.ready_since_ms = None;
        self.reload = None;
        self.misses = 0;
        self.watchdog_until_ms = None;
    }

    pub(super) fn on_requirements(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        requirements: Requirements,
        effects: &mut Vec<Effect>,
    ) {
        let stood = self.stands(unit);
        self.requirements = requirements;
        if stood != self.stands(unit) && self.state == State::Running {
            self.begin_liveness_anew(unit, now_ms);
        }
        self.leave_waiting(unit, now_ms, effects);
    }

    /// Whether all that it requires is ready. What it only comes after does not count.
    fn stands(&self, unit: &Unit) -> bool {
        match &self.requirements {
            Requirements::Ready => true,
            Requirements::Missing(name) => !unit.requires.contains(name),
        }
    }

    /// A unit whose requirement is away cannot be blamed for not answering: nothing counts until it is back.
    fn begin_liveness_anew(&mut self, unit: &Unit, now_ms: u64) {
        self.misses = 0;
        self.watchdog_until_ms = unit
            .liveness
            .as_ref()
            .filter(|liveness| liveness.kind == LivenessKind::Watchdog && self.stands(unit))
            .map(|liveness| {
                now_ms.saturating_add(self.watchdog_limit_ms.unwrap_or(liveness.timeout_ms))
            });
    }

    pub(super) fn on_alive(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        error: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(liveness) = &unit.liveness else {
            return;
        };
        if run != self.run || self.state != State::Running {
            return;
        }
        let Some(error) = error.filter(|_| self.stands(unit)) else {
            self.misses = 0;
            return;
        };
        self.misses = self.misses.saturating_add(1);
        let reason = match liveness.kind {
            LivenessKind::Watchdog => format!("stuck: {error}"),
            LivenessKind::Http | LivenessKind::Exec if self.misses >= liveness.threshold => {
                format!("stuck: {} checks in a row failed: {error}", self.misses)
            }
            LivenessKind::Http | LivenessKind::Exec => return,
        };
        self.stop_stuck(unit, now_ms, reason, effects);
    }

    pub(super) fn on_petted(&mut self, unit: &Unit, now_ms: u64, run: u32) {
        if run == self.run && self.watchdog_until_ms.is_some() {
            self.begin_liveness_anew(unit, now_ms);
        }
    }

    pub(super) fn on_watchdog_limit(&mut self, unit: &Unit, now_ms: u64, run: u32, ms: u64) {
        if run == self.run && ms > 0 {
            self.watchdog_limit_ms = Some(ms);
            self.on_petted(unit, now_ms, run);
        }
    }

    /// Its own way down, which for a database is a long one.
    fn stop_stuck(&mut self, unit: &Unit, now_ms: u64, reason: String, effects: &mut Vec<Effect>) {
        let stage = Stage::Run;
        self.begin_stop(unit, now_ms, AfterStop::Failure { stage, reason }, effects);
    }

    /// Time has passed while it runs.
    pub(super) fn on_running_tick(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.watchdog_until_ms.is_some_and(|until| until <= now_ms) {
            let limit_ms = self
                .watchdog_limit_ms
                .or(unit.liveness.as_ref().map(|liveness| liveness.timeout_ms));
            let reason = format!("stuck: no WATCHDOG=1 for {} ms", limit_ms.unwrap_or(0));
            self.stop_stuck(unit, now_ms, reason, effects);
            return;
        }
        let is_late = |reload: &UnderWay| reload.until_ms <= now_ms;
        if !self.reload.as_ref().is_some_and(is_late) {
            return;
        }
        if self.is_handing_over() {
            let limit_s = unit
                .handover
                .as_ref()
                .map_or(0, |handover| handover.timeout_s);
            self.reason = Some(format!("its successor was not ready within {limit_s} s"));
            self.begin_stop(unit, now_ms, AfterStop::Relaunch, effects);
        } else {
            let limit_s = reload_limit_ms(unit) / 1000;
            let error = Some(format!("not done within {limit_s} s"));
            self.finish_reload(unit, now_ms, error, effects);
        }
    }

    pub(super) fn on_reload(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        match (&self.state, &mut self.reload) {
            (State::Running, Some(under_way)) => under_way.again = true,
            (State::Running, None) => self.begin_reload(unit, now_ms, effects),
            // It reads its configuration at its start.
            (
                State::Stopped
                | State::Waiting
                | State::Starting(_)
                | State::Stopping { .. }
                | State::Backoff { .. }
                | State::Done
                | State::Failed { .. },
                _,
            ) => {}
        }
    }

    fn begin_reload(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        let Some(reload) = &unit.reload else { return };
        let by_command = !reload.command.is_empty();
        let notifies = (reload.notifies).unwrap_or(unit.ready.kind == ReadyKind::Notify);
        self.reload_error = None;
        let kind = if by_command {
            Care::ReloadCommand
        } else {
            Care::Reload
        };
        self.reload = (by_command || notifies).then(|| UnderWay {
            until_ms: now_ms.saturating_add(reload_limit_ms(unit)),
            kind,
            again: false,
        });
        effects.extend([Effect::Persist, Effect::Reload { run: self.run }]);
    }

    /// It has begun to read its configuration, at our wish or at somebody else's.
    pub(super) fn on_reloading(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        effects: &mut Vec<Effect>,
    ) {
        if run == self.run && self.state == State::Running && self.reload.is_none() {
            self.reload = Some(UnderWay {
                until_ms: now_ms.saturating_add(reload_limit_ms(unit)),
                kind: Care::Reload,
                again: false,
            });
            effects.push(Effect::Persist);
        }
    }

    pub(super) fn on_reload_done(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        error: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let by_command = |reload: &UnderWay| reload.kind == Care::ReloadCommand;
        if run == self.run && self.reload.as_ref().is_some_and(by_command) {
            self.finish_reload(unit, now_ms, error, effects);
        }
    }

    /// READY=1, perhaps not for the first time: after a reload it is its end, otherwise the unit was away without a word.
    pub(super) fn on_said_ready(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        effects: &mut Vec<Effect>,
    ) {
        if run != self.run {
            return;
        }
        match self.reload.as_ref().map(|reload| reload.kind) {
            Some(Care::Reload) => self.finish_reload(unit, now_ms, None, effects),
            Some(Care::ReloadCommand) => {}
            Some(Care::Handover) => {
                let error = "its restart failed: its successor did not start; it runs on as it was";
                self.finish(unit, now_ms, Some(error.to_owned()), effects);
            }
            Some(Care::Successor) => {
                self.running_since_ms = Some(now_ms);
                self.ready_since_ms = Some(now_ms);
                self.watchdog_limit_ms = None;
                self.begin_liveness_anew(unit, now_ms);
                self.finish(unit, now_ms, None, effects);
            }
            None if self.state == State::Running && self.is_ready() => {
                self.ready_since_ms = Some(now_ms);
                effects.push(Effect::Persist);
            }
            None => {}
        }
        if !self.is_ready() {
            self.on_ready(unit, now_ms, run, effects);
        }
    }

    /// A restart that interrupts nothing, where it is possible; otherwise the usual one.
    pub(super) fn on_hand_over(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.is_handing_over() {
            return;
        }
        if self.state == State::Running && self.is_ready() && unit.handover.is_some() {
            self.begin_handover(unit, now_ms, effects);
        } else {
            self.on_restart(unit, now_ms, effects);
        }
    }

    fn begin_handover(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        let Some(handover) = &unit.handover else {
            return;
        };
        self.reload_error = None;
        // A successor reads its configuration anyway: a reload under way is part of it.
        self.reload = Some(UnderWay {
            until_ms: now_ms.saturating_add(handover.timeout_s.saturating_mul(1000)),
            kind: Care::Handover,
            again: false,
        });
        effects.extend([
            Effect::Persist,
            Effect::Signal {
                run: self.run,
                signal: handover.signal.number(),
            },
        ]);
    }

    fn finish_reload(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        error: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let error = error.map(|error| {
            format!("its reload failed: {error}; it runs on with the configuration it had")
        });
        self.finish(unit, now_ms, error, effects);
    }

    fn finish(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        error: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let again = self.reload.take().is_some_and(|reload| reload.again);
        self.reload_error = error;
        effects.push(Effect::Persist);
        if again {
            self.begin_reload(unit, now_ms, effects);
        }
    }

    /// What was under way when the former atalayad ended is begun again: whether it was done is not known.
    pub(super) fn resume_reload(&mut self, unit: &Unit, now_ms: u64, effects: &mut Vec<Effect>) {
        match self.reload.as_mut().map(|reload| reload.kind) {
            Some(Care::Reload | Care::ReloadCommand) => {
                self.reload = None;
                self.begin_reload(unit, now_ms, effects);
            }
            Some(Care::Handover) => {
                self.reload = None;
                self.begin_handover(unit, now_ms, effects);
            }
            // It is the main process already and has yet to say READY=1.
            Some(Care::Successor) => {
                if let (Some(reload), Some(handover)) = (&mut self.reload, &unit.handover) {
                    reload.until_ms =
                        now_ms.saturating_add(handover.timeout_s.saturating_mul(1000));
                }
            }
            None => {}
        }
    }

    pub(super) fn on_extend(
        &mut self,
        unit: &Unit,
        now_ms: u64,
        run: u32,
        ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if run != self.run || self.pid.is_none() {
            return;
        }
        if let State::Starting(StartPhase::Sandboxing) = self.state {
            // It overtook the news that the program runs.
            self.on_executed(unit, now_ms, run, effects);
        }
        let (deadline, limit_ms) = match &mut self.state {
            State::Starting(StartPhase::Readying | StartPhase::Working) => {
                (self.deadline_ms.as_mut(), EXTEND_LIMIT_MS)
            }
            State::Stopping {
                phase: phase @ (StopPhase::Asked | StopPhase::Insisted),
                until_ms,
                ..
            } => (Some(until_ms), Self::stop_limit_ms(unit, *phase)),
            State::Starting(
                StartPhase::Forking | StartPhase::Sandboxing | StartPhase::Emptying,
            )
            | State::Stopping {
                phase: StopPhase::Killed | StopPhase::Stuck,
                ..
            }
            | State::Stopped
            | State::Waiting
            | State::Running
            | State::Backoff { .. }
            | State::Done
            | State::Failed { .. } => (None, 0),
        };
        let Some(deadline) = deadline else { return };
        let more_ms = (now_ms.saturating_add(ms).saturating_sub(*deadline))
            .min(limit_ms.saturating_sub(self.extended_ms));
        if more_ms > 0 {
            *deadline = deadline.saturating_add(more_ms);
            self.extended_ms += more_ms;
            effects.push(Effect::Persist);
        }
    }

    pub(super) fn on_main_pid(&mut self, run: u32, pid: i32, effects: &mut Vec<Effect>) {
        // Once the main process has ended all others are being killed: nobody can take over.
        if run == self.run && self.pid.is_some_and(|main| main != pid) {
            self.pid = Some(pid);
            if let Some(reload) = &mut self.reload
                && reload.kind == Care::Handover
            {
                reload.kind = Care::Successor;
            }
            effects.push(Effect::Persist);
        }
    }

    pub(super) fn on_oom(&mut self, run: u32, effects: &mut Vec<Effect>) {
        if run != self.run || !self.occupied {
            return;
        }
        self.oom_run = Some(run);
        if self.state == State::Running {
            self.reason = Some(
                "out of memory (cause=oom): the kernel killed one of its processes".to_owned(),
            );
        }
        effects.push(Effect::Persist);
    }
}

/// A watchdog needs nobody who asks.
fn is_asked_whether_alive(unit: &Unit) -> bool {
    unit.liveness
        .as_ref()
        .is_some_and(|liveness| match liveness.kind {
            LivenessKind::Watchdog => false,
            LivenessKind::Http | LivenessKind::Exec => true,
        })
}

fn reload_limit_ms(unit: &Unit) -> u64 {
    unit.reload.as_ref().map_or(RELOAD_LIMIT_MS, |reload| {
        reload.timeout_s.saturating_mul(1000)
    })
}

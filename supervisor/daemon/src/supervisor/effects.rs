//! Carrying out effects. What cannot be done is told to the machine as an event, or logged where no event fits.

use std::time::Duration;

use atalaya_core::link::{Action, ToInit};
use atalaya_core::machine::{Effect as UnitEffect, Event, Stage};
use atalaya_core::system::Effect;
use tokio::task::AbortHandle;

use super::keep::{errors_record, listen_record, run_record, store_record, unit_record};
use super::{Live, Message, Supervisor};
use crate::run::cgroup_of;
use crate::sandbox;
use crate::usage;

/// How long the log may take to reach the disk at the end.
const LOG_LIMIT: Duration = Duration::from_secs(5);

impl Supervisor {
    pub(super) fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Unit { unit, effect } => self.execute_unit(&unit, effect),
            Effect::Forget { unit } => {
                // The graph has become another.
                self.levels.clear();
                self.sockets.remove(&unit);
                self.stores.remove(&unit);
                for record in [
                    unit_record(&unit),
                    listen_record(&unit),
                    store_record(&unit),
                ] {
                    self.drop_kept(record);
                }
            }
            Effect::Ended { end, stuck } => {
                let left = if stuck.is_empty() {
                    String::new()
                } else {
                    format!(" (left: {})", stuck.join(", "))
                };
                let reason = format!("all services are stopped{left}");
                self.say("atalayad", &reason);
                let (hub, outbox) = (self.hub.clone(), self.outbox.clone());
                tokio::spawn(async move {
                    // A disk that does not answer must not hold up the end.
                    hub.flush(LOG_LIMIT).await;
                    drop(outbox.send(Message::Flushed { end, reason }));
                });
            }
        }
    }

    /// Nothing is left to be done here.
    pub(super) fn on_flushed(&mut self, end: Action, reason: String) {
        self.ended = Some(end);
        self.tell_init(&ToInit::Shutdown {
            action: end,
            reason,
        });
    }

    fn execute_unit(&mut self, unit: &str, effect: UnitEffect) {
        match effect {
            UnitEffect::Persist => {
                self.settle_descriptors(unit);
                self.keep_unit(unit);
                self.announce(unit);
            }
            UnitEffect::Spawn { run } => self.begin_start(unit, run),
            UnitEffect::Signal { run, signal } => self.signal(unit, run, signal),
            UnitEffect::KillCgroup { run } => {
                self.kill_cgroup(unit, run);
                self.tell_stuck(unit, run);
            }
            UnitEffect::StartReadiness { run } => self.start_readiness(unit, run, true),
            UnitEffect::StopReadiness { run } => {
                self.end_task(unit, run, |live| &mut live.readiness)
            }
            UnitEffect::StartLiveness { run } => self.start_liveness(unit, run),
            UnitEffect::StopLiveness { run } => self.end_task(unit, run, |live| &mut live.liveness),
            UnitEffect::Reload { run } => self.send_reload(unit, run),
            UnitEffect::Retire { run } => {
                self.lives.remove(unit);
                self.drop_kept(errors_record(unit, run));
                self.drop_kept(run_record(unit, run));
                self.clear_away(unit, run);
            }
        }
    }

    fn end_task(
        &mut self,
        unit: &str,
        run: u32,
        which: impl Fn(&mut Live) -> &mut Option<AbortHandle>,
    ) {
        if let Some(live) = self.lives.get_mut(unit).filter(|live| live.run == run)
            && let Some(task) = which(live).take()
        {
            task.abort();
        }
    }

    /// Names the processes that outlive SIGKILL, and what they wait for: it is all that a person can work with.
    fn tell_stuck(&mut self, name: &str, run: u32) {
        let is_stuck = self
            .system
            .unit(name)
            .is_some_and(|(_, machine)| machine.is_stuck());
        if !is_stuck {
            return;
        }
        for process in usage::processes(&cgroup_of(&self.options, name, run)) {
            self.say(name, &format!("{} and cannot be killed", process.words()));
        }
    }
}

pub(super) fn sandbox_failed(run: u32, report: sandbox::Report) -> Event {
    let stage = if report.stage == sandbox::Stage::Exec {
        Stage::Exec
    } else {
        Stage::Sandbox
    };
    Event::SandboxFailed {
        run,
        stage,
        error: report.error,
    }
}

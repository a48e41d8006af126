//! What PID 1 does about atalayad: a state machine without effects.
//!
//! ```text
//!            DataDone                Started               Hello (same version)
//! Preparing ----------> Due(now) ------------> Silent ------------------------> Greeted
//!                          ^  ^ NotStarted        |                                |
//!                          |  +-------------------+--------- Ended ----------------+
//!                          +--- back-off: 0.1 s, 0.2 s, 0.4 s, ...; from the fifth death within 60 s: 1, 2, 4 ... 10 min
//!
//! any of them --- atalayad does not fulfil a wish for the end, or is not there ---> Quelling (atalayad is killed)
//!             --- safe mode begins in a trial ------------------------------------>     |
//!                                                                                   Stopping (units, by their orders)
//! Greeted --- Shutdown ------------------------------------------------------------>  Ended
//! ```
//! The happy path: data are prepared, atalayad is started, says hello, sends heartbeats until it asks for the end of the
//! machine. A silent one is killed. A wish for the end (power button, Ctrl-Alt-Del, signal, control socket) is passed on to
//! atalayad, again after each of its deaths; if it takes too long or is not there, the units are stopped from here by the
//! orders that atalayad left. A wished restart of atalayad is no death.
//!
//! Safe mode: too many deaths. Units are left alone, what they say is drained and kept, atalayad is tried ever more seldom.
//!
//! Time is passed in, in milliseconds of one clock that is never set back.

pub mod control;
mod daemon;
pub mod event;
pub mod kept;
pub mod meanwhile;
pub mod restart;
pub mod statuses;
pub mod stop;
mod time;

use atalaya_core::link::{Action, Source, Status, ToInit, VERSION};
use daemon::{Alive, Daemon, mismatch};
pub use event::{Effect, Event};
use restart::Deaths;
use stop::StopUnits;

/// The least time that an atalayad at work gets for stopping the units.
const STOP_LIMIT_MS: u64 = 600_000;
/// What it gets beyond the units' own limits.
const STOP_MARGIN_MS: u64 = 120_000;
/// So long alive, and atalayad counts as healthy again.
const HEALTHY_MS: u64 = 60_000;
/// Units are stopped without waiting longer than this for a killed atalayad.
const QUELL_LIMIT_MS: u64 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    action: Action,
    source: Source,
    since: u64,
    /// How long an atalayad at work may take.
    patience: u64,
}

#[derive(Debug)]
enum Phase {
    Supervising,
    /// Waiting for a killed atalayad to be gone: it must not start what is being stopped.
    Quelling {
        until: u64,
    },
    /// `CollectOrders` was said.
    Collecting,
    Stopping(StopUnits),
    Ended,
}

/// The whole state.
#[derive(Debug)]
pub struct Supervise {
    daemon: Daemon,
    deaths: Deaths,
    last_death: Option<String>,
    wish: Option<Wish>,
    phase: Phase,
    /// How the machine ends once `phase` gets there.
    end: Option<(Action, String)>,
}

/// How things stand, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub safe_mode: bool,
    /// How the last atalayad died, in safe mode.
    pub reason: Option<String>,
    pub deaths: u32,
    pub next_try_ms: Option<u64>,
    pub pid: Option<i32>,
}

impl Default for Supervise {
    fn default() -> Self {
        Self {
            daemon: Daemon::NotYet,
            deaths: Deaths::default(),
            last_death: None,
            wish: None,
            phase: Phase::Supervising,
            end: None,
        }
    }
}

impl Supervise {
    /// Takes one event at time `now`.
    pub fn step(&mut self, now: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if matches!(self.phase, Phase::Ended) {
            return effects;
        }
        match event {
            Event::DataDone => {
                if self.daemon == Daemon::NotYet {
                    self.daemon = Daemon::Due(now);
                }
            }
            Event::Started { pid } => {
                if self.daemon == Daemon::Starting {
                    self.daemon = Daemon::Alive(Alive {
                        pid,
                        since: now,
                        heard: now,
                        greeted: false,
                        refused: None,
                        wished: None,
                        killed: None,
                    });
                }
            }
            Event::NotStarted { why } => {
                if self.daemon == Daemon::Starting {
                    self.died(
                        now,
                        0,
                        format!("it could not be started: {why}"),
                        &mut effects,
                    );
                }
            }
            Event::Heard(message) => self.heard(now, message, &mut effects),
            Event::Ended { pid, status } => self.child_ended(now, pid, status, &mut effects),
            Event::Wanted {
                action,
                source,
                units_ms,
            } => self.wanted(now, action, source, units_ms, &mut effects),
            Event::RestartWanted => self.restart(now, &mut effects),
            Event::OnTrial => {
                let how = self.last_death.as_deref().unwrap_or("no reason known");
                let reason = format!(
                    "this version is on trial, and its supervisor has died five times within a minute: {how}"
                );
                self.stop_units(now, Action::Reboot, reason, &mut effects);
            }
            Event::Orders(orders) => {
                if matches!(self.phase, Phase::Collecting) {
                    self.phase = Phase::Stopping(StopUnits::begin(now, orders, &mut effects));
                }
            }
            Event::UnitProcessEnded { cgroup, pid } => {
                if let Phase::Stopping(stop) = &mut self.phase {
                    stop.process_ended(now, &cgroup, pid, &mut effects);
                }
            }
            Event::Emptied { cgroup } => {
                if let Phase::Stopping(stop) = &mut self.phase {
                    stop.emptied(&cgroup, &mut effects);
                }
            }
            Event::Tick => {}
        }
        self.pass_time(now, &mut effects);
        effects
    }

    pub fn summary(&self, now: u64) -> Summary {
        let safe_mode = self.deaths.safe_mode();
        Summary {
            safe_mode,
            reason: self.last_death.clone().filter(|_| safe_mode),
            deaths: self.deaths.total(),
            next_try_ms: match self.daemon {
                Daemon::Due(at) => Some(at.saturating_sub(now)),
                Daemon::NotYet | Daemon::Starting | Daemon::Alive(_) => None,
            },
            pid: match self.daemon {
                Daemon::Alive(alive) => Some(alive.pid),
                Daemon::NotYet | Daemon::Starting | Daemon::Due(_) => None,
            },
        }
    }

    fn heard(&mut self, now: u64, message: ToInit, effects: &mut Vec<Effect>) {
        let Daemon::Alive(alive) = &mut self.daemon else {
            return; // from a dead one's buffer
        };
        alive.heard = now;
        let deaths = self.deaths.total();
        match message {
            ToInit::Hello { version } if version == VERSION => {
                alive.greeted = true;
                effects.push(Effect::Greet { deaths });
                if let Some(wish) = self.wish {
                    effects.push(Effect::Ask {
                        action: wish.action,
                        source: wish.source,
                    });
                }
            }
            ToInit::Hello { version } => {
                alive.greeted = false;
                alive.refused = Some(version);
                effects.push(Effect::Refuse { deaths });
                effects.push(Effect::Say(format!("atalayad: {}", mismatch(version))));
            }
            ToInit::Heartbeat => {
                if self.deaths.safe_mode()
                    && alive.greeted
                    && now.saturating_sub(alive.since) >= HEALTHY_MS
                {
                    self.deaths.forgive();
                    effects.push(Effect::Say(
                        "atalayad is healthy again: safe mode is over".to_owned(),
                    ));
                }
            }
            ToInit::Shutdown { action, reason } => {
                if alive.greeted && matches!(self.phase, Phase::Supervising) {
                    self.end = Some((action, reason));
                    self.finish(effects);
                }
            }
            // The driver keeps these; here they only count as signs of life.
            ToInit::Keep { .. } | ToInit::Drop { .. } | ToInit::Ack { .. } => {}
        }
    }

    fn child_ended(&mut self, now: u64, pid: i32, status: Status, effects: &mut Vec<Effect>) {
        let Daemon::Alive(alive) = self.daemon else {
            return;
        };
        if alive.pid != pid {
            return;
        }
        if alive.wished.is_some() {
            self.daemon = Daemon::Due(now);
            return;
        }
        let how = match (alive.refused, status) {
            (Some(version), _) => mismatch(version),
            (None, Status::Code(code)) => format!("it ended with status {code}"),
            (None, Status::Signal(signal)) => format!("it was ended by signal {signal}"),
        };
        self.died(now, now.saturating_sub(alive.since), how, effects);
    }

    fn wanted(
        &mut self,
        now: u64,
        action: Action,
        source: Source,
        units_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.wish.is_some() || !matches!(self.phase, Phase::Supervising) {
            return; // the first one counts, it is already under way
        }
        let patience = STOP_LIMIT_MS.max(units_ms.saturating_add(STOP_MARGIN_MS));
        self.wish = Some(Wish {
            action,
            source,
            since: now,
            patience,
        });
        match self.daemon {
            // No unit runs yet.
            Daemon::NotYet => {
                self.end = Some((action, by(source)));
                self.finish(effects);
            }
            Daemon::Alive(Alive { greeted: true, .. }) => {
                effects.push(Effect::Ask { action, source });
            }
            // Asked when it says hello.
            Daemon::Due(_) | Daemon::Starting | Daemon::Alive(_) => {}
        }
    }

    fn restart(&mut self, now: u64, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Supervising) {
            return;
        }
        match &mut self.daemon {
            Daemon::Due(at) => *at = now,
            Daemon::Alive(alive) if alive.wished.is_none() && alive.killed.is_none() => {
                alive.wished = Some(now);
                effects.push(Effect::Say("atalayad is restarted, as wished".to_owned()));
                effects.push(Effect::Terminate { pid: alive.pid });
            }
            Daemon::NotYet | Daemon::Starting | Daemon::Alive(_) => {}
        }
    }

    fn died(&mut self, now: u64, lived: u64, how: String, effects: &mut Vec<Effect>) {
        let was_safe = self.deaths.safe_mode();
        let delay = self.deaths.died(now, lived);
        self.daemon = Daemon::Due(now + delay);
        self.last_death = Some(how.clone());
        if !matches!(self.phase, Phase::Supervising) {
            return; // nobody starts it again
        }
        effects.push(Effect::Say(format!(
            "atalayad: {how}; it is started again in {}",
            duration(delay)
        )));
        if self.deaths.safe_mode() && !was_safe {
            effects.push(Effect::Say(
                "safe mode: atalayad died too often. Units go on running and the data are not touched, but nothing restarts \
                 a unit. `atalaya supervisor restart` tries at once; reboot, power-off and the power button work"
                    .to_owned(),
            ));
            effects.push(Effect::AssessTrial);
        }
    }

    fn stop_units(&mut self, now: u64, action: Action, reason: String, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Supervising) {
            return;
        }
        self.end = Some((action, reason));
        if let Daemon::Alive(alive) = self.daemon {
            effects.push(Effect::Kill { pid: alive.pid });
            let until = now + QUELL_LIMIT_MS;
            self.phase = Phase::Quelling { until };
        } else {
            self.phase = Phase::Collecting;
            effects.push(Effect::CollectOrders);
        }
    }

    fn finish(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Ended;
        if let Some((action, reason)) = self.end.take() {
            effects.push(Effect::End { action, reason });
        }
    }
}

fn by(source: Source) -> String {
    match source {
        Source::PowerButton => "power button",
        Source::CtrlAltDel => "Ctrl-Alt-Del",
        Source::Signal => "request to PID 1",
    }
    .to_owned()
}

fn duration(milliseconds: u64) -> String {
    if milliseconds >= 60_000 {
        return format!("{} min", milliseconds / 60_000);
    }
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

#[cfg(test)]
mod tests;

//! What PID 1 does about atalayad: a state machine without effects.
//!
//! ```text
//!            DataDone                Started               Hello (same version)
//! Preparing ----------> Due(now) ------------> Silent ------------------------> Greeted
//!                          ^  ^ NotStarted        |                                |
//!                          |  +-------------------+--------- Ended ----------------+
//!                          +--- back-off: 0.1 s, 0.2 s, 0.4 s, ...; from the fifth death within 60 s: 1, 2, 4 ... 10 min
//! ```
//! The happy path: data are prepared, atalayad is started, says hello, sends heartbeats until it asks for the end of the
//! machine. A silent one is killed. A wish for the end (power button, Ctrl-Alt-Del, signal) is passed on to atalayad,
//! again after each of its deaths, and fulfilled without it if it takes too long or is not there.
//!
//! Time is passed in, in milliseconds of one clock that is never set back.

pub mod kept;
pub mod restart;
pub mod statuses;

use atalaya_core::link::{Action, SILENCE_LIMIT_MS, Source, Status, ToInit, VERSION};
use restart::Deaths;

/// A new atalayad has to say hello within this time.
const GREETING_LIMIT_MS: u64 = 30_000;
/// All units' stop limits together (PostgreSQL alone may take 330 s), with room to spare.
const STOP_LIMIT_MS: u64 = 600_000;
/// A killed process that has not ended by then is stuck in the kernel.
const STUCK_LIMIT_MS: u64 = 30_000;
/// So long alive, and atalayad counts as healthy again.
const HEALTHY_MS: u64 = 60_000;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The child that prepares /data ended.
    DataDone,
    /// An effect `StartDaemon` worked.
    Started { pid: i32 },
    /// An effect `StartDaemon` did not work.
    NotStarted,
    /// A message from atalayad.
    Heard(ToInit),
    /// A child was reaped.
    Ended { pid: i32, status: Status },
    /// Somebody wants the machine to end.
    Wanted { action: Action, source: Source },
    /// Time has passed.
    Tick,
}

/// What to do about it, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    StartDaemon,
    /// SIGKILL to this process, which is atalayad.
    Kill {
        pid: i32,
    },
    /// Welcome, the records, the statuses.
    Greet {
        deaths: u32,
    },
    /// Welcome only: it speaks another version.
    Refuse {
        deaths: u32,
    },
    Ask {
        action: Action,
        source: Source,
    },
    /// A line for the console.
    Say(String),
    /// The end: nothing follows it.
    End {
        action: Action,
        reason: String,
        /// atalayad has stopped the units; otherwise they still run.
        units_stopped: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daemon {
    /// /data is being prepared.
    NotYet,
    /// To be started at this time.
    Due(u64),
    /// `StartDaemon` was said and not answered yet.
    Starting,
    Alive {
        pid: i32,
        since: u64,
        heard: u64,
        greeted: bool,
        killed: Option<u64>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wish {
    action: Action,
    source: Source,
    since: u64,
}

/// The whole state.
#[derive(Debug)]
pub struct Supervise {
    daemon: Daemon,
    deaths: Deaths,
    wish: Option<Wish>,
    ended: bool,
}

impl Default for Supervise {
    fn default() -> Self {
        Self {
            daemon: Daemon::NotYet,
            deaths: Deaths::default(),
            wish: None,
            ended: false,
        }
    }
}

impl Supervise {
    /// Takes one event at time `now`.
    pub fn step(&mut self, now: u64, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.ended {
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
                    self.daemon = Daemon::Alive {
                        pid,
                        since: now,
                        heard: now,
                        greeted: false,
                        killed: None,
                    };
                }
            }
            Event::NotStarted => {
                if self.daemon == Daemon::Starting {
                    self.died(now, 0, "it could not be started".to_owned(), &mut effects);
                }
            }
            Event::Heard(message) => self.heard(now, message, &mut effects),
            Event::Ended { pid, status } => {
                if let Daemon::Alive {
                    pid: own, since, ..
                } = self.daemon
                    && own == pid
                {
                    let how = match status {
                        Status::Code(code) => format!("it ended with status {code}"),
                        Status::Signal(signal) => format!("it was ended by signal {signal}"),
                    };
                    self.died(now, now.saturating_sub(since), how, &mut effects);
                }
            }
            Event::Wanted { action, source } => self.wanted(now, action, source, &mut effects),
            Event::Tick => {}
        }
        self.pass_time(now, &mut effects);
        effects
    }

    /// When `Tick` is due at the latest; `None`: nothing is waited for.
    pub fn deadline(&self) -> Option<u64> {
        if self.ended {
            return None;
        }
        let daemon = match self.daemon {
            Daemon::NotYet | Daemon::Starting => None,
            Daemon::Due(at) => Some(at),
            Daemon::Alive {
                killed: Some(_), ..
            } => None,
            Daemon::Alive {
                since,
                greeted: false,
                ..
            } => Some(since + GREETING_LIMIT_MS),
            Daemon::Alive { heard, .. } => Some(heard + SILENCE_LIMIT_MS),
        };
        let wish = self.wish.map(|wish| wish.since + self.patience());
        [daemon, wish].into_iter().flatten().min()
    }

    /// Whether the hardware watchdog may be fed: not while atalayad is stuck beyond SIGKILL.
    pub fn feeds_watchdog(&self, now: u64) -> bool {
        match self.daemon {
            Daemon::Alive {
                killed: Some(at), ..
            } => now.saturating_sub(at) < STUCK_LIMIT_MS,
            Daemon::NotYet
            | Daemon::Due(_)
            | Daemon::Starting
            | Daemon::Alive { killed: None, .. } => true,
        }
    }

    /// How often atalayad has died since the machine started.
    pub fn deaths(&self) -> u32 {
        self.deaths.total()
    }

    fn heard(&mut self, now: u64, message: ToInit, effects: &mut Vec<Effect>) {
        let Daemon::Alive {
            heard,
            greeted,
            since,
            ..
        } = &mut self.daemon
        else {
            return; // from a dead one's buffer
        };
        *heard = now;
        let deaths = self.deaths.total();
        match message {
            ToInit::Hello { version } if version == VERSION => {
                *greeted = true;
                effects.push(Effect::Greet { deaths });
                if let Some(wish) = self.wish {
                    effects.push(Effect::Ask {
                        action: wish.action,
                        source: wish.source,
                    });
                }
            }
            ToInit::Hello { version } => {
                effects.push(Effect::Refuse { deaths });
                effects.push(Effect::Say(format!(
                    "atalayad speaks version {version} of the link, init version {VERSION}: refused"
                )));
            }
            ToInit::Heartbeat => {
                if self.deaths.safe_mode() && now.saturating_sub(*since) >= HEALTHY_MS {
                    self.deaths.forgive();
                    effects.push(Effect::Say(
                        "atalayad is healthy again: safe mode is over".to_owned(),
                    ));
                }
            }
            ToInit::Shutdown { action, reason } => self.end(action, reason, true, effects),
            // The driver keeps these; here they only count as signs of life.
            ToInit::Keep { .. } | ToInit::Drop { .. } | ToInit::Ack { .. } => {}
        }
    }

    fn wanted(&mut self, now: u64, action: Action, source: Source, effects: &mut Vec<Effect>) {
        if self.wish.is_some() {
            return; // the first one counts, it is already under way
        }
        self.wish = Some(Wish {
            action,
            source,
            since: now,
        });
        match self.daemon {
            // No unit runs yet.
            Daemon::NotYet => self.end(action, by(source), true, effects),
            Daemon::Alive { greeted: true, .. } => effects.push(Effect::Ask { action, source }),
            // Asked when it says hello.
            Daemon::Due(_) | Daemon::Starting | Daemon::Alive { .. } => {}
        }
    }

    fn died(&mut self, now: u64, lived: u64, how: String, effects: &mut Vec<Effect>) {
        let was_safe = self.deaths.safe_mode();
        let delay = self.deaths.died(now, lived);
        let mut text = format!(
            "atalayad: {how}; it is started again in {} s",
            seconds(delay)
        );
        if self.deaths.safe_mode() && !was_safe {
            text.push_str(
                " (safe mode: it died too often; units keep running, but nothing restarts them)",
            );
        }
        effects.push(Effect::Say(text));
        self.daemon = Daemon::Due(now + delay);
    }

    fn pass_time(&mut self, now: u64, effects: &mut Vec<Effect>) {
        if self.ended {
            return;
        }
        if let Some(wish) = self.wish
            && now >= wish.since + self.patience()
        {
            effects.push(Effect::Say(
                "atalayad did not stop the units: init does it".to_owned(),
            ));
            self.end(wish.action, by(wish.source), false, effects);
            return;
        }
        match &mut self.daemon {
            Daemon::Due(at) if now >= *at => {
                self.daemon = Daemon::Starting;
                effects.push(Effect::StartDaemon);
            }
            Daemon::Alive {
                pid,
                since,
                heard,
                greeted,
                killed: killed @ None,
            } => {
                let (limit, from) = if *greeted {
                    (SILENCE_LIMIT_MS, *heard)
                } else {
                    (GREETING_LIMIT_MS, *since)
                };
                if now >= from + limit {
                    *killed = Some(now);
                    effects.push(Effect::Say(format!(
                        "atalayad was silent for {} s: killed",
                        limit / 1000
                    )));
                    effects.push(Effect::Kill { pid: *pid });
                }
            }
            Daemon::NotYet
            | Daemon::Due(_)
            | Daemon::Starting
            | Daemon::Alive {
                killed: Some(_), ..
            } => {}
        }
    }

    /// How long a wish may wait: long for an atalayad that is at work, short for one that is not there, and not at all in
    /// safe mode between two attempts.
    fn patience(&self) -> u64 {
        match self.daemon {
            Daemon::Alive { greeted: true, .. } => STOP_LIMIT_MS,
            Daemon::Due(_) if self.deaths.safe_mode() => 0,
            Daemon::NotYet | Daemon::Due(_) | Daemon::Starting | Daemon::Alive { .. } => {
                GREETING_LIMIT_MS
            }
        }
    }

    fn end(
        &mut self,
        action: Action,
        reason: String,
        units_stopped: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.ended = true;
        effects.push(Effect::End {
            action,
            reason,
            units_stopped,
        });
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

fn seconds(milliseconds: u64) -> String {
    format!("{}.{}", milliseconds / 1000, milliseconds % 1000 / 100)
}

#[cfg(test)]
mod tests;

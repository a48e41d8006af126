//! What the passing of time means to `Supervise`: its deadlines, and what is due.

use super::daemon::{Alive, Daemon, GREETING_LIMIT_MS};
use super::{Effect, Phase, Supervise, Wish, by};

/// A killed process that has not ended by then is stuck in the kernel.
const STUCK_LIMIT_MS: u64 = 30_000;

impl Supervise {
    /// When `Tick` is due at the latest; `None`: nothing is waited for.
    pub fn deadline(&self) -> Option<u64> {
        match &self.phase {
            Phase::Ended | Phase::Collecting => return None,
            Phase::Quelling { until } => return Some(*until),
            Phase::Stopping(stop) => return stop.deadline(),
            Phase::Supervising => {}
        }
        let daemon = match self.daemon {
            Daemon::NotYet | Daemon::Starting => None,
            Daemon::Due(at) => Some(at),
            Daemon::Alive(alive) => alive.limit().map(|(at, _)| at),
        };
        let wish = self.wish.map(|wish| wish.since + self.patience(wish));
        [daemon, wish].into_iter().flatten().min()
    }

    /// Whether the hardware watchdog may be fed: not while atalayad is stuck beyond SIGKILL.
    pub fn feeds_watchdog(&self, now: u64) -> bool {
        match (&self.phase, self.daemon) {
            (
                Phase::Supervising,
                Daemon::Alive(Alive {
                    killed: Some(at), ..
                }),
            ) => now.saturating_sub(at) < STUCK_LIMIT_MS,
            // Each step of the end has its own limit.
            _ => true,
        }
    }

    /// Whether init reads what units say: nobody else does, and for longer than their pipes last.
    pub fn drains(&self) -> bool {
        let greeted = matches!(self.daemon, Daemon::Alive(Alive { greeted: true, .. }));
        let alone = self.deaths.safe_mode() || !matches!(self.phase, Phase::Supervising);
        alone && !greeted
    }

    /// The cgroups whose emptiness is waited for.
    pub fn watched(&self) -> Vec<String> {
        match &self.phase {
            Phase::Stopping(stop) => stop.watched().map(str::to_owned).collect(),
            Phase::Supervising | Phase::Quelling { .. } | Phase::Collecting | Phase::Ended => {
                Vec::new()
            }
        }
    }

    pub(super) fn pass_time(&mut self, now: u64, effects: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Ended | Phase::Collecting => return,
            Phase::Quelling { until } => {
                let gone = !matches!(self.daemon, Daemon::Alive(_));
                if gone || now >= *until {
                    self.phase = Phase::Collecting;
                    effects.push(Effect::CollectOrders);
                }
                return;
            }
            Phase::Stopping(stop) => {
                stop.pass_time(now, effects);
                if stop.is_done() {
                    self.finish(effects);
                }
                return;
            }
            Phase::Supervising => {}
        }
        if let Some(wish) = self.wish
            && now >= wish.since + self.patience(wish)
        {
            let why = if self.deaths.safe_mode() {
                "safe mode"
            } else {
                "atalayad did not stop the units"
            };
            effects.push(Effect::Say(format!("{why}: init does it")));
            self.stop_units(now, wish.action, by(wish.source), effects);
            return;
        }
        match &mut self.daemon {
            Daemon::Due(at) if now >= *at => {
                self.daemon = Daemon::Starting;
                effects.push(Effect::StartDaemon);
            }
            Daemon::Alive(alive) => {
                if let Some((limit, why)) = alive.limit()
                    && now >= limit
                {
                    alive.killed = Some(now);
                    effects.push(Effect::Say(format!("atalayad {why}: killed")));
                    effects.push(Effect::Kill { pid: alive.pid });
                }
            }
            Daemon::NotYet | Daemon::Due(_) | Daemon::Starting => {}
        }
    }

    /// How long a wish may wait: long for an atalayad that is at work, short for one that is not there, and not at all in
    /// safe mode between two attempts.
    fn patience(&self, wish: Wish) -> u64 {
        match self.daemon {
            Daemon::Alive(Alive { greeted: true, .. }) => wish.patience,
            Daemon::Due(_) if self.deaths.safe_mode() => 0,
            Daemon::NotYet | Daemon::Due(_) | Daemon::Starting | Daemon::Alive(_) => {
                GREETING_LIMIT_MS
            }
        }
    }
}

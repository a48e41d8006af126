//! Stopping the units without atalayad, by the orders it left. Pure.
//!
//! ```text
//! level by level, the highest first; all runs of one level together:
//!
//! Waiting -> Asked (signal) --limit--> Insisted (then) --limit--> Killed (cgroup) --10 s--> Stuck
//!              |                          |                          ^
//!              +--- main process gone ----+--------------------------+
//! from each of them, when the cgroup is empty: Gone
//! ```
//! What is left when the main process has gone has lost its unit, and is killed, as atalayad does. A level is done when
//! each of its runs is Gone or Stuck, so that a process that waits for a device in the kernel delays the end by its
//! limits but does not prevent it.

use super::event::Effect;
use atalaya_core::link::StopOrder;

/// Processes die of SIGKILL at once unless they wait for a device (the same limit as atalayad's).
const KILL_LIMIT_MS: u64 = 10_000;
/// Between two lines that say what is waited for.
const PROGRESS_MS: u64 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Asked { since: u64 },
    Insisted { since: u64 },
    Killed { since: u64 },
    Stuck,
    Gone,
}

#[derive(Debug)]
struct Run {
    order: StopOrder,
    phase: Phase,
}

/// All runs and how far they are.
#[derive(Debug)]
pub struct StopUnits {
    runs: Vec<Run>,
    told: u64,
}

impl StopUnits {
    /// Begins with the highest level.
    pub fn begin(now: u64, orders: Vec<StopOrder>, effects: &mut Vec<Effect>) -> Self {
        if !orders.is_empty() {
            effects.push(Effect::Say(format!(
                "init stops {} units itself; that takes at most {} s",
                orders.len(),
                bound_ms(&orders).div_ceil(1000)
            )));
        }
        let runs = orders
            .into_iter()
            .map(|order| Run {
                order,
                phase: Phase::Waiting,
            })
            .collect();
        let mut all = Self { runs, told: now };
        all.pass_time(now, effects);
        all
    }

    pub fn process_ended(&mut self, now: u64, cgroup: &str, pid: i32, effects: &mut Vec<Effect>) {
        for run in &mut self.runs {
            if run.order.cgroup == cgroup && run.order.pid == Some(pid) {
                run.order.pid = None;
                match run.phase {
                    Phase::Asked { .. } | Phase::Insisted { .. } => run.kill(now, effects),
                    Phase::Waiting | Phase::Killed { .. } | Phase::Stuck | Phase::Gone => {}
                }
            }
        }
    }

    pub fn emptied(&mut self, cgroup: &str, effects: &mut Vec<Effect>) {
        for run in &mut self.runs {
            if run.order.cgroup == cgroup && run.phase != Phase::Gone {
                run.phase = Phase::Gone;
                effects.push(Effect::Say(format!("stopped: {}", run.order.description)));
            }
        }
    }

    /// Limits, the next level, progress.
    pub fn pass_time(&mut self, now: u64, effects: &mut Vec<Effect>) {
        for run in &mut self.runs {
            if run.limit().is_some_and(|limit| now >= limit) {
                run.press_on(now, effects);
            }
        }
        let level = self
            .runs
            .iter()
            .filter(|run| !run.is_over())
            .map(|run| run.order.level)
            .max();
        for run in &mut self.runs {
            if Some(run.order.level) == level && run.phase == Phase::Waiting {
                run.ask(now, effects);
                self.told = now;
            }
        }
        if now >= self.told.saturating_add(PROGRESS_MS) {
            self.told = now;
            let waiting: Vec<String> = self
                .runs
                .iter()
                .filter_map(|run| run.progress(now))
                .collect();
            if !waiting.is_empty() {
                effects.push(Effect::Say(format!("waiting for {}", waiting.join(", "))));
            }
        }
    }

    /// When `pass_time` is due; `None` when all is done.
    pub fn deadline(&self) -> Option<u64> {
        self.runs
            .iter()
            .filter_map(Run::limit)
            .min()
            .map(|limit| limit.min(self.told.saturating_add(PROGRESS_MS)))
    }

    pub fn is_done(&self) -> bool {
        self.runs.iter().all(Run::is_over)
    }

    /// The cgroups of the runs that are waited for.
    pub fn watched(&self) -> impl Iterator<Item = &str> {
        self.runs
            .iter()
            .filter(|run| !run.is_over())
            .map(|run| run.order.cgroup.as_str())
    }
}

impl Run {
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Stuck | Phase::Gone)
    }

    fn limit(&self) -> Option<u64> {
        match self.phase {
            Phase::Asked { since } => Some(since.saturating_add(self.order.timeout_ms)),
            Phase::Insisted { since } => Some(since.saturating_add(self.order.then_timeout_ms)),
            Phase::Killed { since } => Some(since.saturating_add(KILL_LIMIT_MS)),
            Phase::Waiting | Phase::Stuck | Phase::Gone => None,
        }
    }

    fn ask(&mut self, now: u64, effects: &mut Vec<Effect>) {
        let Some(pid) = self.order.pid else {
            self.kill(now, effects);
            return;
        };
        self.phase = Phase::Asked { since: now };
        effects.push(Effect::Say(format!(
            "stopping {}: {}, {} s",
            self.order.description,
            name(self.order.signal),
            seconds(self.order.timeout_ms)
        )));
        effects.push(self.signal(pid, self.order.signal));
    }

    fn press_on(&mut self, now: u64, effects: &mut Vec<Effect>) {
        match (self.phase, self.order.pid) {
            (Phase::Asked { .. }, Some(pid)) if self.order.then != libc::SIGKILL => {
                self.phase = Phase::Insisted { since: now };
                effects.push(Effect::Say(format!(
                    "{} did not stop within {} s: {}, {} s",
                    self.order.description,
                    seconds(self.order.timeout_ms),
                    name(self.order.then),
                    seconds(self.order.then_timeout_ms)
                )));
                effects.push(self.signal(pid, self.order.then));
            }
            (Phase::Asked { .. } | Phase::Insisted { .. }, _) => {
                effects.push(Effect::Say(format!(
                    "{} did not stop in time: all its processes are killed",
                    self.order.description
                )));
                self.kill(now, effects);
            }
            (Phase::Killed { .. }, _) => {
                self.phase = Phase::Stuck;
                effects.push(Effect::Say(format!(
                    "{} cannot be killed, it waits for a device: going on without it",
                    self.order.description
                )));
            }
            (Phase::Waiting | Phase::Stuck | Phase::Gone, _) => {}
        }
    }

    fn kill(&mut self, now: u64, effects: &mut Vec<Effect>) {
        self.phase = Phase::Killed { since: now };
        effects.push(Effect::KillRun {
            cgroup: self.order.cgroup.clone(),
        });
    }

    fn signal(&self, pid: i32, signal: i32) -> Effect {
        Effect::SignalMain {
            cgroup: self.order.cgroup.clone(),
            pid,
            signal,
        }
    }

    fn progress(&self, now: u64) -> Option<String> {
        let (since, limit) = match self.phase {
            Phase::Asked { since } => (since, self.order.timeout_ms),
            Phase::Insisted { since } => (since, self.order.then_timeout_ms),
            Phase::Killed { since } => (since, KILL_LIMIT_MS),
            Phase::Waiting | Phase::Stuck | Phase::Gone => return None,
        };
        Some(format!(
            "{} ({} of {} s)",
            self.order.description,
            seconds(now.saturating_sub(since)),
            seconds(limit)
        ))
    }
}

/// The longest time in which all of them are over.
pub fn bound_ms(orders: &[StopOrder]) -> u64 {
    let mut levels = std::collections::BTreeMap::<u32, u64>::new();
    for order in orders {
        let own = order
            .timeout_ms
            .saturating_add(order.then_timeout_ms)
            .saturating_add(KILL_LIMIT_MS);
        let longest = levels.entry(order.level).or_default();
        *longest = own.max(*longest);
    }
    levels.values().fold(0, |sum, own| sum.saturating_add(*own))
}

fn seconds(milliseconds: u64) -> u64 {
    milliseconds / 1000
}

fn name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(name: &str, level: u32, signal: i32, limits: (u64, u64), then: i32) -> StopOrder {
        StopOrder {
            description: name.to_owned(),
            cgroup: format!("{name}.1"),
            pid: Some(100 + level as i32),
            level,
            signal,
            timeout_ms: limits.0 * 1000,
            then,
            then_timeout_ms: limits.1 * 1000,
        }
    }

    fn acts(effects: &mut Vec<Effect>) -> Vec<Effect> {
        let all = std::mem::take(effects);
        all.into_iter()
            .filter(|effect| !matches!(effect, Effect::Say(_)))
            .collect()
    }

    fn signal(name: &str, pid: i32, signal: i32) -> Effect {
        let cgroup = format!("{name}.1");
        Effect::SignalMain {
            cgroup,
            pid,
            signal,
        }
    }

    fn kill(name: &str) -> Effect {
        let cgroup = format!("{name}.1");
        Effect::KillRun { cgroup }
    }

    #[test]
    fn postgres_gets_int_five_minutes_quit_thirty_seconds_and_only_then_kill() {
        let postgres = order("postgres", 0, libc::SIGINT, (300, 30), libc::SIGQUIT);
        let mut effects = Vec::new();
        let mut stop = StopUnits::begin(0, vec![postgres], &mut effects);
        assert!(format!("{effects:?}").contains("at most 340 s"));
        assert_eq!(acts(&mut effects), [signal("postgres", 100, libc::SIGINT)]);
        stop.pass_time(299_999, &mut effects);
        assert!(format!("{effects:?}").contains("postgres (299 of 300 s)"));
        assert_eq!(acts(&mut effects), []);
        stop.pass_time(300_000, &mut effects);
        assert_eq!(acts(&mut effects), [signal("postgres", 100, libc::SIGQUIT)]);
        stop.pass_time(329_999, &mut effects);
        assert_eq!(acts(&mut effects), []);
        stop.pass_time(330_000, &mut effects);
        assert_eq!(acts(&mut effects), [kill("postgres")]);
        assert!(!stop.is_done());
        stop.pass_time(340_000, &mut effects);
        assert!(stop.is_done());
        assert!(format!("{effects:?}").contains("cannot be killed"));
    }

    #[test]
    fn a_level_waits_for_the_one_above_it() {
        let orders = vec![
            order("postgres", 0, libc::SIGINT, (300, 30), libc::SIGQUIT),
            order("edge", 2, libc::SIGTERM, (10, 0), libc::SIGKILL),
            order("mattermost", 1, libc::SIGTERM, (30, 0), libc::SIGKILL),
        ];
        assert_eq!(bound_ms(&orders), 400_000);
        let mut effects = Vec::new();
        let mut stop = StopUnits::begin(0, orders, &mut effects);
        assert_eq!(acts(&mut effects), [signal("edge", 102, libc::SIGTERM)]);
        stop.process_ended(1000, "edge.1", 102, &mut effects);
        assert_eq!(acts(&mut effects), [kill("edge")]); // what it left behind
        stop.emptied("edge.1", &mut effects);
        stop.pass_time(1001, &mut effects);
        assert_eq!(
            acts(&mut effects),
            [signal("mattermost", 101, libc::SIGTERM)]
        );
        stop.pass_time(31_001, &mut effects);
        assert_eq!(acts(&mut effects), [kill("mattermost")]);
        stop.emptied("mattermost.1", &mut effects);
        stop.pass_time(31_002, &mut effects);
        assert_eq!(acts(&mut effects), [signal("postgres", 100, libc::SIGINT)]);
        stop.emptied("postgres.1", &mut effects);
        assert!(stop.is_done());
    }

    proptest! {
        #[test]
        fn it_always_ends_within_the_bound_and_in_order(
            specs in proptest::collection::vec((0u32..4, 0u64..400, 0u64..40, any::<bool>(), any::<bool>()), 0..8),
            steps in proptest::collection::vec((0u64..60_000, 0usize..8, 0u8..3), 0..60),
        ) {
            let orders: Vec<StopOrder> = specs.iter().enumerate().map(|(index, (level, first, second, kill, pid))| StopOrder {
                pid: pid.then_some(index as i32 + 100),
                ..order(&format!("u{index}"), *level, libc::SIGTERM, (*first, *second), if *kill { libc::SIGKILL } else { libc::SIGQUIT })
            }).collect();
            let bound = bound_ms(&orders);
            let levels: std::collections::BTreeMap<String, u32> =
                orders.iter().map(|order| (order.cgroup.clone(), order.level)).collect();
            let (mut now, mut effects) = (0, Vec::new());
            let mut gone = std::collections::BTreeSet::new();
            let mut stop = StopUnits::begin(now, orders, &mut effects);
            let sent_to = |effects: &mut Vec<Effect>| -> Vec<String> {
                acts(effects).into_iter().filter_map(|effect| match effect {
                    Effect::SignalMain { cgroup, .. } | Effect::KillRun { cgroup } => Some(cgroup),
                    _ => None,
                }).collect()
            };
            let mut order_seen: Vec<u32> = sent_to(&mut effects).iter().map(|cgroup| levels[cgroup]).collect();
            for (passed, index, what) in steps {
                // The driver never sleeps past a deadline.
                now = stop.deadline().map_or(now, |deadline| deadline.min(now + passed));
                let cgroup = format!("u{index}.1");
                match what {
                    0 => stop.process_ended(now, &cgroup, index as i32 + 100, &mut effects),
                    1 => { stop.emptied(&cgroup, &mut effects); gone.insert(cgroup); }
                    _ => {}
                }
                stop.pass_time(now, &mut effects);
                for cgroup in sent_to(&mut effects) {
                    prop_assert!(!gone.contains(&cgroup), "nothing is sent to what is gone: {cgroup}");
                    order_seen.push(levels[&cgroup]);
                }
                prop_assert!(stop.is_done() || stop.deadline().is_some_and(|deadline| deadline >= now));
            }
            prop_assert!(order_seen.windows(2).all(|pair| pair[0] >= pair[1]), "{order_seen:?}");
            while let Some(deadline) = stop.deadline() {
                now = deadline;
                stop.pass_time(now, &mut effects);
            }
            prop_assert!(stop.is_done() && now <= bound, "{now} {bound}");
        }
    }
}

//! Whether what a trial waits for still gets anywhere. A migration may take hours; one that neither writes nor computes for as long as the
//! configuration says (`update.migration_patience_seconds`, a quarter of an hour if it says nothing) will not end. What was seen comes in with the
//! time.

use std::collections::BTreeMap;
use std::path::Path;

use atalaya_core::appliance::{Update, parse_public};
use atalaya_sys::cgroup::Cgroup;

/// Processor time that counts as work, in microseconds for each minute that has passed: what waits in a loop uses less.
const WORK_US_PER_MINUTE: u64 = 1_000_000;

/// How long a migration may get nowhere, in milliseconds, by the configuration in force: `file` holds no secret, and is there once the unit `seed`
/// is done. Reads the disk.
pub fn read_patience_ms(file: &Path) -> u64 {
    let appliance = std::fs::read(file)
        .ok()
        .and_then(|text| parse_public(&text).ok());
    let update = appliance.map_or_else(Update::default, |appliance| appliance.update);
    update.migration_patience_seconds.saturating_mul(1000)
}

/// What was seen at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub now_ms: u64,
    /// How far the database's log is: it grows with whatever is written.
    pub written: Option<String>,
    /// Processor time of the processes that work on it, in microseconds.
    pub cpu_us: BTreeMap<i32, u64>,
}

/// Of the processes that are there now. Not the cgroup's own figure: the checks are in that too, and are many. Reads /proc.
pub fn computed(cgroups: &[Cgroup]) -> BTreeMap<i32, u64> {
    let pids = cgroups.iter().filter_map(|cgroup| cgroup.pids().ok());
    pids.flatten()
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, cpu_us(&stat)?))
        })
        .collect()
}

/// User and system time of /proc/PID/stat (proc(5)): the 14th and 15th field, in hundredths of a second. The second one is in brackets and may hold
/// anything.
fn cpu_us(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).take(2);
    let mut ticks = || times.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * 10_000)
}

/// When there was progress last, and what was seen then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    last: Seen,
}

impl Watch {
    pub fn begin(seen: Seen) -> Self {
        Self { last: seen }
    }

    /// Whether it is stuck by now.
    pub fn is_stuck(&mut self, seen: Seen, patience_ms: u64) -> bool {
        let waited_ms = seen.now_ms.saturating_sub(self.last.now_ms);
        // What has begun since counts whole, what has ended not at all.
        let before = |pid| self.last.cpu_us.get(pid).copied().unwrap_or_default();
        let worked_us: u64 = (seen.cpu_us.iter())
            .map(|(pid, now)| now.saturating_sub(before(pid)))
            .sum();
        let enough_us = (waited_ms / 60_000)
            .max(1)
            .saturating_mul(WORK_US_PER_MINUTE);
        if seen.written != self.last.written || worked_us >= enough_us {
            self.last = seen;
            return false;
        }
        waited_ms >= patience_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE_MS: u64 = 15 * 60 * 1000;

    #[test]
    fn the_configuration_says_how_long() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("appliance.toml");
        assert_eq!(read_patience_ms(&file), PATIENCE_MS, "not there yet");
        for (text, expected) in [
            ("update.migration_patience_seconds = 60", 60_000),
            ("", PATIENCE_MS),
            ("update.migration_patience_seconds = 1", PATIENCE_MS),
        ] {
            atalaya_sys::durable::write(&file, text.as_bytes(), 0o644, None).unwrap();
            assert_eq!(read_patience_ms(&file), expected, "{text}");
        }
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 9 9 20 0 1 0 5";
        assert_eq!(cpu_us(stat), Some(1_750_000));
        assert_eq!(cpu_us("7 (a) S 1"), None);
    }

    #[test]
    fn what_has_ended_is_no_work_and_what_is_new_is() {
        let at = |minute: u64, cpu: &[(i32, u64)]| Seen {
            now_ms: minute * 60_000,
            written: None,
            cpu_us: cpu.iter().copied().collect(),
        };
        let mut watch = Watch::begin(at(0, &[(1, 9_000_000), (2, 9_000_000)]));
        assert!(watch.is_stuck(at(15, &[(1, 9_000_000), (3, 200_000)]), PATIENCE_MS));
        assert!(!watch.is_stuck(at(15, &[(1, 9_000_000), (3, 15_000_000)]), PATIENCE_MS));
    }

    fn seen(minute: u64, written: &str, cpu_ms: u64) -> Seen {
        Seen {
            now_ms: minute * 60_000,
            written: Some(written.to_owned()),
            cpu_us: [(7, cpu_ms * 1000)].into(),
        }
    }

    #[test]
    fn what_writes_or_computes_is_never_stuck_and_what_does_neither_is_after_its_time() {
        let mut writes = Watch::begin(seen(0, "0", 0));
        let mut computes = writes.clone();
        let mut idles = writes.clone();
        for minute in 1..15 {
            assert!(!writes.is_stuck(seen(minute, &minute.to_string(), 0), PATIENCE_MS));
            assert!(!computes.is_stuck(seen(minute, "0", minute * 30_000), PATIENCE_MS));
            assert!(
                !idles.is_stuck(seen(minute, "0", minute * 50), PATIENCE_MS),
                "{minute}"
            );
        }
        assert!(!writes.is_stuck(seen(15, "15", 0), PATIENCE_MS));
        assert!(!computes.is_stuck(seen(15, "0", 15 * 30_000), PATIENCE_MS));
        assert!(idles.is_stuck(seen(15, "0", 750), PATIENCE_MS));
        // It had come far before it stopped.
        assert!(!writes.is_stuck(seen(29, "15", 0), PATIENCE_MS));
        assert!(writes.is_stuck(seen(30, "15", 0), PATIENCE_MS));
    }
}

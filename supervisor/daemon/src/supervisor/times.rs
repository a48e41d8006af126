//! How long things take: the first start of each unit, for `atalaya boot`, and the progress of stops, for the consoles. It
//! observes; nobody waits for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use atalaya_core::boot::Span;
use atalaya_core::machine::{Machine, StartPhase, State};
use atalaya_core::unit::Unit;
use atalaya_core::why::stop_progress;
use atalaya_core::words::limit;

/// A stop that takes less is not worth a word, in milliseconds.
const FIRST_WORD_MS: u64 = 5_000;
/// From one word about it to the next, in milliseconds.
const NEXT_WORD_MS: u64 = 10_000;

pub(super) struct Times {
    /// When this atalayad began.
    pub began_ms: u64,
    /// First starts of this boot. They outlive atalayad in a file.
    spans: BTreeMap<String, Span>,
    changed: bool,
    file: PathBuf,
    /// What had passed of a unit's stop when it was last told.
    told_ms: BTreeMap<String, u64>,
}

impl Times {
    /// Goes on with what an earlier atalayad of this boot has seen. `run` is /run/atalaya.
    pub(super) fn begin(run: &Path, began_ms: u64) -> Self {
        let file = run.join("spans.json");
        let spans: Vec<Span> = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            began_ms,
            spans: spans
                .into_iter()
                .map(|span| (span.unit.clone(), span))
                .collect(),
            changed: false,
            file,
            told_ms: BTreeMap::new(),
        }
    }

    /// In the order of the starts.
    pub(super) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.spans.values().cloned().collect();
        spans.sort_by_key(|span| span.started_ms);
        spans
    }

    /// A unit has changed.
    pub(super) fn observe(&mut self, name: &str, machine: &Machine, now_ms: u64) {
        match machine.state() {
            State::Starting(StartPhase::Forking) => {
                if !self.spans.contains_key(name) {
                    let span = Span {
                        unit: name.to_owned(),
                        started_ms: now_ms,
                        ready_ms: None,
                    };
                    self.spans.insert(name.to_owned(), span);
                    self.changed = true;
                }
            }
            State::Running | State::Done => {
                if let Some(span) = self.spans.get_mut(name)
                    && span.ready_ms.is_none()
                    && machine.is_ready()
                {
                    span.ready_ms = Some(machine.ready_since_ms().unwrap_or(now_ms));
                    self.changed = true;
                }
            }
            State::Starting(_)
            | State::Stopped
            | State::Waiting
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    /// Writes down what is new. On a tmpfs; what is lost costs a row of a table.
    pub(super) fn keep(&mut self) {
        if std::mem::take(&mut self.changed)
            && let Ok(bytes) = serde_json::to_vec(&self.spans())
        {
            let temporary = self.file.with_extension("new");
            let written = fs::File::create(&temporary)
                .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))
                .and_then(|()| fs::rename(&temporary, &self.file));
            drop(written);
        }
    }

    /// A line about a stop that takes its time, now and then.
    pub(super) fn tell_stop(
        &mut self,
        unit: &Unit,
        machine: &Machine,
        now_ms: u64,
    ) -> Option<String> {
        let Some(progress) = stop_progress(unit, machine, now_ms) else {
            self.told_ms.remove(&unit.name);
            return None;
        };
        let due_ms = self
            .told_ms
            .get(&unit.name)
            .map_or(FIRST_WORD_MS, |told_ms| told_ms + NEXT_WORD_MS);
        if progress.passed_ms < due_ms {
            return None;
        }
        self.told_ms.insert(unit.name.clone(), progress.passed_ms);
        Some(format!(
            "stopping {}: {} of at most {}",
            unit.description,
            limit(progress.passed_ms),
            limit(progress.limit_ms)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atalaya_core::machine::{Event, ExitStatus};
    use atalaya_core::unit::parse_unit;

    fn unit() -> Unit {
        let text = "description = \"PostgreSQL\"\ntype = \"service\"\nexec = [\"/x\"]\n\
                    [stop]\nsignal = \"INT\"\ntimeout_s = 300\nthen = \"QUIT\"\nthen_timeout_s = 30\n";
        parse_unit("postgres", "x.toml", text).unwrap()
    }

    #[test]
    fn a_first_start_is_kept_across_atalayads_and_a_second_one_is_not_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut times = Times::begin(directory.path(), 0);
        let (unit, mut machine) = (unit(), Machine::default());
        let mut step = |times: &mut Times, now_ms: u64, event: Event| {
            machine.step(&unit, now_ms, event);
            times.observe("postgres", &machine, now_ms);
        };
        step(&mut times, 100, Event::Start);
        step(&mut times, 110, Event::Spawned { run: 1, pid: 1 });
        step(&mut times, 900, Event::Executed { run: 1 });
        let first = Span {
            unit: "postgres".into(),
            started_ms: 100,
            ready_ms: Some(900),
        };
        assert_eq!(times.spans(), std::slice::from_ref(&first));
        times.keep();
        let mut times = Times::begin(directory.path(), 5000);
        let status = ExitStatus::Code(1);
        step(&mut times, 6000, Event::Exited { run: 1, status });
        step(&mut times, 6000, Event::Emptied { run: 1 });
        step(&mut times, 60_000, Event::Tick);
        step(&mut times, 60_100, Event::Spawned { run: 2, pid: 2 });
        step(&mut times, 60_200, Event::Executed { run: 2 });
        assert_eq!(times.spans(), [first]);
    }

    #[test]
    fn a_long_stop_is_told_now_and_then_with_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let mut times = Times::begin(directory.path(), 0);
        let (unit, mut machine) = (unit(), Machine::default());
        for event in [
            Event::Start,
            Event::Spawned { run: 1, pid: 1 },
            Event::Executed { run: 1 },
            Event::Stop,
        ] {
            machine.step(&unit, 0, event);
        }
        let told: Vec<(u64, String)> = (0..30)
            .map(|second| second * 1000)
            .filter_map(|now_ms| Some((now_ms, times.tell_stop(&unit, &machine, now_ms)?)))
            .collect();
        assert_eq!(
            told,
            [
                (
                    5000,
                    "stopping PostgreSQL: 5 seconds of at most 5 minutes 40 seconds".to_owned()
                ),
                (
                    15_000,
                    "stopping PostgreSQL: 15 seconds of at most 5 minutes 40 seconds".to_owned()
                ),
                (
                    25_000,
                    "stopping PostgreSQL: 25 seconds of at most 5 minutes 40 seconds".to_owned()
                ),
            ]
        );
    }
}

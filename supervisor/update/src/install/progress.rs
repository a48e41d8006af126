//! How far the installation is, for whoever waits: a file that is replaced about once a second.

use std::collections::VecDeque;
use std::path::PathBuf;

use atalaya_core::update::task::{Progress, Step};
use atalaya_sys::{durable, host};

use super::source::Meter;

const EVERY_MS: u64 = 1000;
/// The pace is that of so many reports: a stall shows, a hiccup does not.
const PACE_OF: usize = 15;

#[derive(Debug)]
pub struct Report {
    file: PathBuf,
    meter: Meter,
    progress: Progress,
    /// When how much was done.
    past: VecDeque<(u64, u64)>,
}

impl Report {
    pub fn new(file: PathBuf, meter: Meter) -> Self {
        let progress = Progress {
            done: 0,
            total: 0,
            reused: 0,
            fetched: 0,
            step: Step::Verify,
            seconds_left: None,
        };
        let mut report = Self {
            file,
            meter,
            progress,
            past: VecDeque::new(),
        };
        report.write(host::boottime_ms());
        report
    }

    pub fn begin(&mut self, step: Step, total: u64) {
        self.progress.step = step;
        self.progress.done = 0;
        self.progress.total = total;
        self.past.clear();
        self.write(host::boottime_ms());
    }

    pub fn add(&mut self, bytes: u64) {
        self.progress.done += bytes;
        let now = host::boottime_ms();
        let due = self
            .past
            .back()
            .is_none_or(|(last, _)| now >= last + EVERY_MS);
        if due {
            self.write(now);
        }
    }

    pub fn add_reused(&mut self, bytes: u64) {
        self.progress.reused += bytes;
        self.add(bytes);
    }

    pub fn progress(&mut self) -> Progress {
        self.progress.fetched = self.meter.bytes();
        self.progress.clone()
    }

    fn write(&mut self, now: u64) {
        self.past.push_back((now, self.progress.done));
        if self.past.len() > PACE_OF {
            self.past.pop_front();
        }
        self.progress.seconds_left = seconds_left(&self.past, self.progress.total);
        let progress = self.progress();
        let written = serde_json::to_vec(&progress)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                durable::write(&self.file, &text, 0o644, None).map_err(|error| error.chain())
            });
        // Nobody's update fails because nobody could be told of it.
        if let Err(error) = written {
            eprintln!("{error}");
        }
    }
}

/// Of (milliseconds, done), the oldest first.
fn seconds_left(past: &VecDeque<(u64, u64)>, total: u64) -> Option<u64> {
    let ((from, before), (to, done)) = (past.front()?, past.back()?);
    let (time, work) = (to.checked_sub(*from)?, done.checked_sub(*before)?);
    if work == 0 || time == 0 {
        return None;
    }
    let left = u128::from(total.saturating_sub(*done)) * u128::from(time);
    u64::try_from(left / u128::from(work) / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_at_the_present_pace() {
        let past = |values: &[(u64, u64)]| values.iter().copied().collect::<VecDeque<_>>();
        assert_eq!(seconds_left(&past(&[]), 100), None);
        assert_eq!(seconds_left(&past(&[(1000, 0)]), 100), None);
        assert_eq!(seconds_left(&past(&[(1000, 10), (9000, 10)]), 100), None);
        assert_eq!(
            seconds_left(&past(&[(1000, 0), (2000, 5), (3000, 20)]), 100),
            Some(8)
        );
        assert_eq!(seconds_left(&past(&[(0, 0), (1000, 100)]), 100), Some(0));
    }

    #[test]
    fn the_file_says_what_was_fetched_and_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("progress.json");
        let mut report = Report::new(file.clone(), Meter::default());
        report.begin(Step::Write, 100);
        report.add_reused(60);
        report.begin(Step::Compare, 100);
        let read: Progress = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(read, report.progress());
        assert_eq!((read.step, read.done, read.reused), (Step::Compare, 0, 60));
    }
}

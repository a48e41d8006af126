//! The running version's part: install, prove that it works itself, copy, arm. Until `Armed` is recorded any failure leaves everything as it was.

use super::asks::needed_generations;
use super::course::Course;
use super::event::{Effect, Failure, Notice, Phase, Work};
use crate::update::assess::OtherSlot;
use crate::update::record::{Candidate, Mark, Stage, Wanted};
use crate::update::task::{Asked, Drop, EspReport, Outcome, Source, Staged};

/// An installation that a reboot interrupts is begun again so often.
const ATTEMPTS: u32 = 3;

impl Course {
    pub(super) fn installed(&mut self, outcome: Outcome<Staged>, other: &OtherSlot) {
        if self.run.phase != Phase::Installing {
            return;
        }
        let kept = self.record.kept.as_ref();
        if kept.is_some_and(|kept| other.lacks(&kept.installed.image.root_hash)) {
            self.record.kept = None;
        }
        let staged = match outcome {
            Outcome::Done(staged) if !self.run.cancelled => staged,
            Outcome::Done(_) => return self.fail(&Failure::of("it was cancelled")),
            Outcome::Refused(refusal) => return self.fail(&refusal.into()),
        };
        if let Some(failure) = self.unfit(&staged, other) {
            return self.fail(&failure);
        }
        let Some(wanted) = self.record.wanted.take() else {
            return self.fail(&Failure::of("nobody asked for it"));
        };
        self.stage(staged, &wanted);
        if wanted.arm {
            self.go(Phase::Baseline);
        } else {
            let version = self.version();
            self.act(Effect::Tell(Notice::Staged(version)));
            self.rest();
        }
    }

    /// What the verification has refused already; here so that no answer can lead past it.
    fn unfit(&self, staged: &Staged, other: &OtherSlot) -> Option<Failure> {
        let image = &staged.image;
        if image.root_hash == self.record.good.image.root_hash {
            Some(Failure::of("it is the version that is running"))
        } else if image.epoch < self.record.epoch_floor {
            Some(Failure::of("it is below the epoch floor"))
        } else if other.lacks(&image.root_hash) {
            Some(Failure::of("the slot does not hold what was written to it"))
        } else {
            None
        }
    }

    fn stage(&mut self, staged: Staged, wanted: &Wanted) {
        // Its slot is the candidate's now.
        self.record.kept = None;
        self.record.key_set = self.record.key_set.max(staged.key_set);
        self.record.candidate = Some(Candidate {
            image: staged.image,
            slot: self.record.good.slot.other(),
            source: wanted.shown.clone(),
            entry: None,
            generation: None,
            way_back: false,
            asked: wanted.asked.clone(),
            loader: Some(staged.loader),
            interfaces: Vec::new(),
            closed: None,
            boots: 0,
            marks: vec![Mark {
                stage: Stage::Writing,
                at: wanted.at,
            }],
            reason: None,
        });
        self.mark(Stage::Staged);
        self.write();
        // What is left of earlier updates makes room for this one's copy.
        let needed = needed_generations(&self.record);
        let generations: Vec<u32> = (1..=self.record.last_generation)
            .filter(|number| !needed.contains(number))
            .collect();
        if !generations.is_empty() {
            self.act(Effect::Start(Work::Drop(Drop { generations })));
        }
    }

    pub(super) fn baseline(&mut self, result: Result<(), Failure>) {
        if self.run.cancelled {
            return self.fail(&Failure::of("it was cancelled"));
        }
        if let Err(mut failure) = result {
            failure.what = format!(
                "the running version does not pass the probe itself: {}",
                failure.what
            );
            return self.fail(&failure);
        }
        if self.record.good.image.uki.is_empty() {
            return self.fail(&Failure::of(
                "the running version's own entry was not found on the boot partition, so there would be no way back to it. Restart the machine",
            ));
        }
        // A number is never given twice: what an earlier attempt has left under it would not be told from this one's.
        self.record.last_generation += 1;
        if let Some(candidate) = self.record.candidate.as_mut() {
            candidate.generation = Some(self.record.last_generation);
        }
        self.write();
        self.go(Phase::Beforehand);
    }

    pub(super) fn copied_beforehand(&mut self) {
        if self.run.cancelled {
            return self.fail(&Failure::of("it was cancelled"));
        }
        self.run.closed = Some(self.now);
        self.go_behind_doors(Phase::Closing);
    }

    pub(super) fn stopped(&mut self, result: Result<Vec<String>, Failure>) {
        if self.run.phase != Phase::Closing {
            return;
        }
        if self.run.way_back {
            return self.stopped_for_the_way_back(result);
        }
        match result {
            _ if self.run.cancelled => self.fail(&Failure::of("it was cancelled")),
            Err(failure) => self.fail(&failure),
            Ok(interfaces) => {
                self.run.interfaces = interfaces;
                self.go(Phase::Copying);
            }
        }
    }

    /// What is left behind is left as it is, so that it need not have been stopped in order.
    fn stopped_for_the_way_back(&mut self, result: Result<Vec<String>, Failure>) {
        if self.run.cancelled {
            self.reopen();
            return self.rest();
        }
        let Some(kept) = self.record.kept.clone() else {
            self.reopen();
            return self.rest();
        };
        self.run.interfaces = result.unwrap_or_default();
        self.record.candidate = Some(Candidate {
            image: kept.installed.image,
            slot: kept.installed.slot,
            source: "kept".to_owned(),
            entry: None,
            generation: Some(kept.installed.generation),
            way_back: true,
            asked: Asked::default(),
            loader: None,
            interfaces: Vec::new(),
            closed: None,
            boots: 0,
            marks: Vec::new(),
            reason: None,
        });
        self.arm_entry();
    }

    /// From here on the next boot may be the new version's: recorded first, then put on the boot partition.
    pub(super) fn arm_entry(&mut self) {
        let kept = self.record.kept.as_ref();
        let highest = kept.map_or(0, |kept| kept.installed.entry);
        let entry = self
            .record
            .last_entry
            .max(self.record.good.entry)
            .max(highest)
            + 1;
        self.record.last_entry = entry;
        if let Some(candidate) = self.record.candidate.as_mut() {
            candidate.entry = Some(entry);
            candidate.closed = self.run.closed;
            candidate.interfaces.clone_from(&self.run.interfaces);
        }
        self.mark(Stage::Armed);
        self.write();
        self.go(Phase::Arming);
    }

    pub(super) fn armed(&mut self, outcome: Outcome<EspReport>) {
        let failure = match outcome {
            Outcome::Done(report) if self.is_armed(&report) => return self.go(Phase::Leaving),
            Outcome::Done(_) => {
                Failure::of("the boot partition does not hold the new version's entry")
            }
            Outcome::Refused(refusal) => refusal.into(),
        };
        // The record first: whatever the boot partition says then, the new version gives way.
        self.note_failure(&failure);
        self.go(Phase::Disarming);
    }

    /// Both entries, and the new one with its tries.
    fn is_armed(&self, report: &EspReport) -> bool {
        let number = self.record.candidate.as_ref().and_then(|c| c.entry);
        let is_counted = |number: u32| {
            report
                .entries
                .iter()
                .any(|entry| entry.number == number && entry.left.is_some_and(|left| left > 0))
        };
        let good = self.record.good.entry;
        let is_safe = report
            .entries
            .iter()
            .any(|entry| entry.number == good && entry.left.is_none());
        is_safe && number.is_some_and(is_counted)
    }

    pub(super) fn disarmed(&mut self, outcome: Outcome<EspReport>) {
        if let Outcome::Refused(refusal) = outcome {
            self.alarm(format!(
                "the boot partition could not be put back: {}. The next start is the new version's, which gives way to this one",
                refusal.what
            ));
        }
        let reason = self
            .record
            .history
            .last()
            .and_then(|past| past.reason.clone());
        self.reopen();
        if let Some(reason) = reason {
            self.act(Effect::Tell(Notice::Failed(reason)));
        }
        self.rest();
    }

    /// The boot partition is in order; an installation that a reboot has interrupted goes on, if it can be had again.
    pub(super) fn resume_or_rest(&mut self) {
        let Some(wanted) = self
            .record
            .wanted
            .as_mut()
            .filter(|_| self.record.stage == Stage::Writing)
        else {
            return self.rest();
        };
        match wanted.source {
            Source::File(_) => self.fail(&Failure::of(
                "the machine restarted while the bundle was being sent. Send it again: what has arrived is not written twice",
            )),
            Source::Http(_) | Source::Usb(_) if wanted.attempts >= ATTEMPTS => {
                self.fail(&Failure::of(
                    "the machine restarted again and again while the bundle was being written",
                ));
            }
            Source::Http(_) | Source::Usb(_) => {
                wanted.attempts += 1;
                self.write();
                self.go(Phase::Installing);
            }
        }
    }

    pub(super) fn version(&self) -> String {
        let candidate = self.record.candidate.as_ref();
        candidate.map_or_else(String::new, |candidate| candidate.image.version.clone())
    }
}

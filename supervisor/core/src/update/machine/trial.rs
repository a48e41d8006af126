//! The new version's part, and the former one's when it takes over again. What is good is opened; what is not gives its place up at once.

use super::course::Course;
use super::event::{Effect, Failure, Notice, Phase};
use crate::update::record::{Installed, Kept, Past, Reason, Stage};
use crate::update::task::{EspReport, FoundEntry, Outcome};

impl Course {
    /// The loader did not count this boot, or the entry has lost its counter: it has it again now, or nobody could help it.
    pub(super) fn recounted(&mut self, outcome: Outcome<EspReport>) {
        match outcome {
            Outcome::Done(_) => self.run.counted = true,
            Outcome::Refused(refusal) => self.alarm(refusal.what),
        }
        if let Some(reason) = self.run.failure.take() {
            return self.give_up(reason);
        }
        let candidate = self.record.candidate.as_ref();
        let copies = candidate.is_some_and(|candidate| candidate.boots > 1 && !candidate.way_back);
        self.go(if copies {
            Phase::CopyingAnew
        } else {
            Phase::Starting
        });
    }

    pub(super) fn blessed(&mut self, outcome: Outcome<EspReport>) {
        let failure = match outcome {
            _ if self.run.failure.is_some() => None,
            Outcome::Done(report) if self.is_blessed(&report) => return self.open(),
            Outcome::Done(_) => Some(Failure::of(
                "the boot partition does not hold the new version as good",
            )),
            Outcome::Refused(refusal) => Some(refusal.into()),
        };
        let told = failure.map(|failure| self.reason(&failure));
        if let Some(reason) = self.run.failure.take().or(told) {
            self.give_up(reason);
        }
    }

    fn is_blessed(&self, report: &EspReport) -> bool {
        let number = self.record.candidate.as_ref().and_then(|c| c.entry);
        let ours = |entry: &FoundEntry| Some(entry.number) == number;
        let mut entries = report.entries.iter().filter(|entry| ours(entry));
        entries.next().is_some_and(|entry| entry.left.is_none()) && entries.next().is_none()
    }

    /// The commit point. Before it nothing has happened; after it nothing is taken back by itself.
    fn open(&mut self) {
        let Some(candidate) = self.record.candidate.clone() else {
            return;
        };
        let (Some(entry), Some(generation)) = (candidate.entry, candidate.generation) else {
            return;
        };
        self.mark(Stage::Blessed);
        self.write();
        self.mark(Stage::Opened);
        let downtime = self.downtime();
        let good = Installed {
            image: candidate.image,
            slot: candidate.slot,
            entry,
            generation,
        };
        let former = std::mem::replace(&mut self.record.good, good);
        let marks = self.record.candidate.as_ref().map(|c| c.marks.clone());
        self.record.remember(Past {
            from: former.image.version.clone(),
            to: self.record.good.image.version.clone(),
            outcome: Stage::Opened,
            marks: marks.unwrap_or_default(),
            downtime,
            reason: None,
        });
        self.record.kept = Some(Kept {
            installed: former,
            until: self.now,
        });
        self.record.epoch_floor = self.record.epoch_floor.max(self.record.good.image.epoch);
        if candidate.loader.is_some() {
            self.record.loader = candidate.loader;
        }
        self.write();
        self.opened();
    }

    /// Durable: the machine is everybody's again.
    pub(super) fn opened(&mut self) {
        let version = self.record.good.image.version.clone();
        self.act(Effect::MarkBlessed);
        self.act(Effect::Release);
        self.admit();
        self.act(Effect::Tell(Notice::Opened(version)));
        self.rest();
        self.go(Phase::Healing);
    }

    /// The reason is recorded before the entry goes: whatever happens in between, nobody tries this version again.
    pub(super) fn give_up(&mut self, reason: Reason) {
        if let Some(candidate) = self.record.candidate.as_mut() {
            candidate.reason = Some(reason.clone());
        }
        self.write();
        self.leave_to_good(reason);
    }

    pub(super) fn leave_to_good(&mut self, reason: Reason) {
        self.act(Effect::Tell(Notice::GivingUp(reason)));
        self.go(Phase::GivingUp);
    }

    pub(super) fn reason(&self, failure: &Failure) -> Reason {
        Reason::new(self.record.stage, &failure.what, &failure.log)
    }

    pub(super) fn given_up(&mut self, outcome: Outcome<EspReport>) {
        match outcome {
            Outcome::Done(_) => self.go(Phase::Leaving),
            // The counter ends what this could not.
            Outcome::Refused(_) if self.run.counted => self.go(Phase::Leaving),
            Outcome::Refused(refusal) => {
                self.act(Effect::Tell(Notice::Stranded(format!(
                    "this version gives way to version {}, but the boot partition cannot be written: {}. The data of version {0} are as they were. \
                     Restart and choose version {0} in the boot menu",
                    self.record.good.image.version, refusal.what
                ))));
                self.go(Phase::Stranded);
            }
        }
    }

    /// First boot of this version on this disk: which entry is its own?
    pub(super) fn found(&mut self, outcome: Outcome<EspReport>) {
        let report = match outcome {
            Outcome::Done(report) => report,
            Outcome::Refused(refusal) => {
                self.alarm(format!(
                    "the boot partition could not be read: {}",
                    refusal.what
                ));
                return self.resume_or_rest();
            }
        };
        let highest = report.entries.iter().map(|entry| entry.number).max();
        let root_hash = &self.record.good.image.root_hash;
        let own = report
            .entries
            .iter()
            .filter(|entry| entry.root_hash.as_ref() == Some(root_hash))
            .max_by_key(|entry| (entry.left.is_none(), entry.number));
        let Some(own) = own.cloned() else {
            self.alarm("the boot partition holds no entry of the running version".to_owned());
            return self.resume_or_rest();
        };
        self.record.good.image.uki = own.uki;
        self.record.good.entry = own.number;
        self.record.last_entry = self.record.last_entry.max(highest.unwrap_or(0));
        self.write();
        self.go(Phase::Healing);
    }

    pub(super) fn healed(&mut self, outcome: Outcome<EspReport>) {
        match outcome {
            Outcome::Done(report) if report.lost_loader => self.alarm(
                "the boot loader that belongs to this version is neither on the boot partition nor on /data: the one that is there is left as it \
                 is. The next update brings a loader again"
                    .to_owned(),
            ),
            Outcome::Done(_) => {}
            Outcome::Refused(refusal) => self.alarm(format!(
                "the boot partition is not as it should be: {}",
                refusal.what
            )),
        }
        self.resume_or_rest();
    }

    /// The new version never reported. If the loader has used up its tries, that was its own fault, and its data tell why; if not, nobody has
    /// written to its copy, which is worth nothing.
    pub(super) fn looked(&mut self, outcome: Outcome<EspReport>) {
        let number = self.record.candidate.as_ref().and_then(|c| c.entry);
        let is_used_up = match outcome {
            Outcome::Done(report) => report
                .entries
                .iter()
                .any(|entry| Some(entry.number) == number && entry.left == Some(0)),
            Outcome::Refused(_) => false,
        };
        if is_used_up {
            let what = format!(
                "version {} was started as often as it may be, and each time it ended before it could report anything",
                self.version()
            );
            let reason = Reason::new(Stage::Armed, &what, &[]);
            if let Some(candidate) = self.record.candidate.as_mut() {
                candidate.reason = Some(reason.clone());
            }
            if let Some(past) = self.record.history.last_mut() {
                past.reason = Some(reason);
            }
            self.record.quarantine_candidate(self.now);
            self.write();
        } else if let Some(candidate) = self.record.candidate.as_mut()
            && !candidate.way_back
        {
            candidate.generation = None;
            self.write();
        }
        self.go(Phase::TakingBack);
    }

    pub(super) fn taken_back(&mut self, outcome: Outcome<EspReport>) {
        if let Outcome::Refused(refusal) = outcome {
            self.alarm(format!(
                "the boot partition could not be put back: {}. The next start may be the new version's, which gives way to this one",
                refusal.what
            ));
        }
        self.admit();
        let reason = self
            .record
            .candidate
            .as_ref()
            .and_then(|c| c.reason.clone());
        if let Some(reason) = reason {
            self.act(Effect::Tell(Notice::TakenBack(reason)));
        }
        if self.run.ready {
            self.returned();
        } else {
            self.go(Phase::Returning);
        }
    }

    pub(super) fn returned(&mut self) {
        let downtime = self.downtime();
        if let Some(past) = self.record.history.last_mut()
            && downtime.is_some()
        {
            past.downtime = downtime;
            self.write();
        }
        self.rest();
    }
}

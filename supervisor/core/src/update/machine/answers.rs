//! Whose answer it is: one event, and each phase in which it means something. In all others nobody waits for it.

use super::course::Course;
use super::event::{Effect, Failure, Notice, Phase};
use crate::update::task::{Copied, EspReport, Outcome};

impl Course {
    pub(super) fn copied(&mut self, outcome: Outcome<Copied>) {
        match (self.run.phase, outcome) {
            (Phase::Beforehand, Outcome::Done(_)) => self.copied_beforehand(),
            (Phase::Copying, Outcome::Done(_)) if self.run.cancelled => {
                self.fail(&Failure::of("it was cancelled"));
            }
            (Phase::Copying, Outcome::Done(_)) => self.arm_entry(),
            (Phase::Beforehand | Phase::Copying, Outcome::Refused(refusal)) => {
                self.fail(&refusal.into());
            }
            (Phase::CopyingAnew, Outcome::Done(_)) => self.go(Phase::Starting),
            (Phase::CopyingAnew, Outcome::Refused(refusal)) => {
                let reason = self.reason(&refusal.into());
                self.give_up(reason);
            }
            (
                Phase::Rest
                | Phase::Finding
                | Phase::Healing
                | Phase::Installing
                | Phase::Baseline
                | Phase::Closing
                | Phase::Arming
                | Phase::Disarming
                | Phase::Leaving
                | Phase::Recounting
                | Phase::Starting
                | Phase::Probing
                | Phase::Blessing
                | Phase::GivingUp
                | Phase::Looking
                | Phase::TakingBack
                | Phase::Returning
                | Phase::Stranded,
                Outcome::Done(_) | Outcome::Refused(_),
            ) => {}
        }
    }

    pub(super) fn entries(&mut self, outcome: Outcome<EspReport>) {
        match self.run.phase {
            Phase::Finding => self.found(outcome),
            Phase::Healing => self.healed(outcome),
            Phase::Arming => self.armed(outcome),
            Phase::Disarming => self.disarmed(outcome),
            Phase::Recounting => self.recounted(outcome),
            Phase::Blessing => self.blessed(outcome),
            Phase::GivingUp => self.given_up(outcome),
            Phase::Looking => self.looked(outcome),
            Phase::TakingBack => self.taken_back(outcome),
            Phase::Rest
            | Phase::Installing
            | Phase::Baseline
            | Phase::Beforehand
            | Phase::Closing
            | Phase::Copying
            | Phase::Leaving
            | Phase::CopyingAnew
            | Phase::Starting
            | Phase::Probing
            | Phase::Returning
            | Phase::Stranded => {}
        }
    }

    pub(super) fn probed(&mut self, result: Result<(), Failure>) {
        match (self.run.phase, result) {
            (Phase::Baseline, result) => self.baseline(result),
            (Phase::Probing, Ok(())) => self.go(Phase::Blessing),
            (Phase::Probing, Err(failure)) => {
                let reason = self.reason(&failure);
                self.give_up(reason);
            }
            (
                Phase::Rest
                | Phase::Finding
                | Phase::Healing
                | Phase::Installing
                | Phase::Beforehand
                | Phase::Closing
                | Phase::Copying
                | Phase::Arming
                | Phase::Disarming
                | Phase::Leaving
                | Phase::Recounting
                | Phase::CopyingAnew
                | Phase::Starting
                | Phase::Blessing
                | Phase::GivingUp
                | Phase::Looking
                | Phase::TakingBack
                | Phase::Returning
                | Phase::Stranded,
                Ok(()) | Err(_),
            ) => {}
        }
    }

    pub(super) fn ready(&mut self) {
        match self.run.phase {
            Phase::Starting => self.go(Phase::Probing),
            Phase::Looking | Phase::TakingBack => self.run.ready = true,
            Phase::Returning => self.returned(),
            Phase::Rest
            | Phase::Finding
            | Phase::Healing
            | Phase::Installing
            | Phase::Baseline
            | Phase::Beforehand
            | Phase::Closing
            | Phase::Copying
            | Phase::Arming
            | Phase::Disarming
            | Phase::Leaving
            | Phase::Recounting
            | Phase::CopyingAnew
            | Phase::Probing
            | Phase::Blessing
            | Phase::GivingUp
            | Phase::Stranded => {}
        }
    }

    pub(super) fn broken(&mut self, failure: &Failure) {
        let reason = self.reason(failure);
        match self.run.phase {
            Phase::CopyingAnew | Phase::Starting | Phase::Probing => self.give_up(reason),
            // The boot partition is being written: one thing after the other.
            Phase::Recounting | Phase::Blessing => self.run.failure = Some(reason),
            Phase::Rest
            | Phase::Finding
            | Phase::Healing
            | Phase::Installing
            | Phase::Baseline
            | Phase::Beforehand
            | Phase::Closing
            | Phase::Copying
            | Phase::Arming
            | Phase::Disarming
            | Phase::Leaving
            | Phase::GivingUp
            | Phase::Looking
            | Phase::TakingBack
            | Phase::Returning
            | Phase::Stranded => {}
        }
    }

    /// It may have reached the disk all the same. So nobody goes on as if it had, or as if it had not.
    pub(super) fn unrecorded(&mut self, why: &str) {
        let what = format!("the update record could not be written: {why}");
        match self.run.phase {
            Phase::Closing | Phase::Copying if self.record.is_between() => {
                self.alarm(what);
                self.go(Phase::Leaving);
            }
            Phase::Rest
            | Phase::Installing
            | Phase::Baseline
            | Phase::Beforehand
            | Phase::Closing
            | Phase::Copying
            | Phase::Finding
            | Phase::Healing
            | Phase::Returning => {
                self.reopen();
                self.alarm(what);
                self.rest();
            }
            Phase::Looking => {
                self.alarm(what);
                self.go(Phase::TakingBack);
            }
            // The record may say that it was opened; where it says `Armed`, nobody may be served. Only a boot tells.
            Phase::Arming | Phase::Blessing => {
                self.alarm(what);
                self.go(Phase::Leaving);
            }
            Phase::Recounting | Phase::CopyingAnew | Phase::Starting | Phase::Probing => {
                let reason = self.reason(&Failure {
                    what,
                    log: Vec::new(),
                });
                self.leave_to_good(reason);
            }
            Phase::Disarming | Phase::Leaving | Phase::GivingUp | Phase::Stranded => {
                self.act(Effect::Tell(Notice::Alarm(what)))
            }
            // How long it took is not worth more than that.
            Phase::TakingBack => {
                self.admit();
                self.alarm(what);
                self.rest();
            }
        }
    }
}

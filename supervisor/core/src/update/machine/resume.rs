//! atalayad was restarted in the middle. The record on the disk may be one step ahead of the run, because it is written first; then what follows
//! from the record is done, and never what came before it.

use super::course::{Course, doors};
use super::event::{Effect, Notice, Phase, Run, Step};
use crate::update::record::{Record, Stage};

/// What a restarted atalayad does first, with the record and the run that it found. Whatever is asked for again may be under way or done.
pub fn resume(record: &Record, run: &Run, now: u64) -> Step {
    let mut course = Course::new(record, run, now);
    let is_behind = course.is_behind();
    let is_open = matches!(doors(record, run), Effect::Admit { open: true, .. });
    if !run.done && (is_open || !is_behind) {
        course.stand();
    }
    if is_behind {
        course.catch_up();
    } else {
        course.go(run.phase);
    }
    course.end()
}

impl Course {
    /// How things stand in this phase, as the last atalayad may not have come to it.
    fn stand(&mut self) {
        match self.run.phase {
            Phase::Rest
            | Phase::Finding
            | Phase::Healing
            | Phase::Installing
            | Phase::Baseline
            | Phase::Beforehand => {
                if self.run.counted {
                    self.act(Effect::MarkBlessed);
                }
                self.act(Effect::Release);
                self.act(Effect::StartServices);
            }
            Phase::Looking | Phase::TakingBack | Phase::Probing | Phase::Blessing => {
                self.act(Effect::StartServices);
            }
            Phase::Closing
            | Phase::Copying
            | Phase::Arming
            | Phase::Disarming
            | Phase::Leaving
            | Phase::Recounting
            | Phase::CopyingAnew
            | Phase::Starting
            | Phase::GivingUp
            | Phase::Returning
            | Phase::Stranded => {}
        }
        let doors = doors(&self.record, &self.run);
        self.act(doors);
    }

    fn is_behind(&self) -> bool {
        let is_given_up = self
            .record
            .candidate
            .as_ref()
            .is_some_and(|candidate| candidate.reason.is_some());
        let stage = self.record.stage;
        match self.run.phase {
            Phase::Rest => stage == Stage::Writing,
            Phase::Installing => stage != Stage::Writing,
            Phase::Baseline | Phase::Beforehand => stage != Stage::Staged,
            Phase::Closing | Phase::Copying => {
                stage == Stage::Armed || (stage != Stage::Staged && !self.run.way_back)
            }
            Phase::Arming => stage != Stage::Armed,
            Phase::Recounting
            | Phase::CopyingAnew
            | Phase::Starting
            | Phase::Probing
            | Phase::Blessing => is_given_up || stage == Stage::Opened,
            Phase::Finding
            | Phase::Healing
            | Phase::Disarming
            | Phase::Leaving
            | Phase::GivingUp
            | Phase::Looking
            | Phase::TakingBack
            | Phase::Returning
            | Phase::Stranded => false,
        }
    }

    /// By the stage that was reached.
    fn catch_up(&mut self) {
        match self.record.stage {
            Stage::Writing => self.resume_or_rest(),
            Stage::Armed => self.go(Phase::Arming),
            Stage::Opened => self.opened(),
            Stage::Failed if self.run.phase == Phase::Arming => self.go(Phase::Disarming),
            Stage::Trial | Stage::Blessed => self.go(Phase::GivingUp),
            Stage::Staged => {
                let version = self.version();
                self.act(Effect::Tell(Notice::Staged(version)));
                self.rest();
            }
            Stage::Failed | Stage::Idle | Stage::RolledBack => {
                self.reopen();
                self.rest();
            }
        }
    }
}

//! What somebody asks for: to begin, to go on, to go back, to cancel, and to drop what nobody needs.

use super::course::{Course, awaited};
use super::event::{Effect, Phase, Run, Work};
use super::refusals;
use crate::update::assess::OtherSlot;
use crate::update::record::{Record, Stage, Wanted};
use crate::update::task::{Asked, Drop, Refusal, Source};

/// So long the kept version's data, and those of a version that failed, stay unless space is short: 14 days.
pub const KEEP_S: u64 = 14 * 24 * 3600;

impl Course {
    pub(super) fn begin(
        &mut self,
        source: Source,
        shown: String,
        asked: Asked,
        arm: bool,
    ) -> Result<(), Refusal> {
        self.must_rest()?;
        // The kept version stays on offer until its slot is known to be written.
        self.record.stage = Stage::Writing;
        self.record.candidate = None;
        self.record.wanted = Some(Wanted {
            source,
            shown,
            asked,
            arm,
            at: self.now,
            attempts: 1,
        });
        self.run = Run::of(Phase::Rest);
        self.write();
        self.go(Phase::Installing);
        Ok(())
    }

    pub(super) fn arm(&mut self) -> Result<(), Refusal> {
        self.must_rest()?;
        if self.record.stage != Stage::Staged || self.record.candidate.is_none() {
            return Err(refusals::nothing_to_arm());
        }
        self.go(Phase::Baseline);
        Ok(())
    }

    pub(super) fn roll_back(&mut self, other: &OtherSlot) -> Result<(), Refusal> {
        if !self.run.previous {
            self.must_rest()?;
        } else if self.run.phase != Phase::Stranded {
            return Err(refusals::busy(self.run.phase));
        }
        let Some(kept) = &self.record.kept else {
            return Err(refusals::nothing_kept());
        };
        if kept.installed.image.epoch < self.record.epoch_floor {
            return Err(refusals::below_floor(&self.record, kept));
        }
        // Where the kept version itself is running, its slot is the good one.
        if !self.run.previous && !other.holds(&kept.installed.image.root_hash) {
            return Err(refusals::slot_is_not_kept(kept));
        }
        self.run.way_back = true;
        self.run.closed = Some(self.now);
        self.go_behind_doors(Phase::Closing);
        Ok(())
    }

    pub(super) fn cancel(&mut self) -> Result<(), Refusal> {
        match self.run.phase {
            Phase::Installing
            | Phase::Baseline
            | Phase::Beforehand
            | Phase::Closing
            | Phase::Copying => {
                self.run.cancelled = true;
                // The answer that is waited for comes sooner.
                let awaited = awaited(&self.record, &self.run);
                self.effects.extend(awaited.and_then(as_cancel));
                Ok(())
            }
            Phase::Rest | Phase::Finding | Phase::Healing => Err(refusals::nothing_to_cancel()),
            Phase::Arming
            | Phase::Disarming
            | Phase::Leaving
            | Phase::Recounting
            | Phase::CopyingAnew
            | Phase::Starting
            | Phase::Probing
            | Phase::Blessing
            | Phase::GivingUp
            | Phase::Looking
            | Phase::TakingBack
            | Phase::Returning
            | Phase::Stranded => Err(refusals::too_late(self.run.phase)),
        }
    }

    pub(super) fn tidy(&mut self, present: &[u32], short: bool) {
        if self.run.phase != Phase::Rest {
            return;
        }
        let now = self.now;
        let is_over = |since: u64| short || now.saturating_sub(since) > KEEP_S;
        let before = self.record.clone();
        if self
            .record
            .kept
            .as_ref()
            .is_some_and(|kept| is_over(kept.until))
        {
            self.record.kept = None;
        }
        if let Some(candidate) = self.record.candidate.as_mut() {
            let ended = candidate.marks.last().map_or(0, |mark| mark.at);
            let is_waiting = before.stage == Stage::Staged;
            if !is_waiting && is_over(ended) {
                candidate.generation = None;
            }
        }
        let needed = needed_generations(&self.record);
        let generations: Vec<u32> = present
            .iter()
            .copied()
            .filter(|number| !needed.contains(number))
            .collect();
        if self.record != before {
            self.write();
        }
        if !generations.is_empty() {
            self.act(Effect::Start(Work::Drop(Drop { generations })));
        }
    }

    fn must_rest(&self) -> Result<(), Refusal> {
        if self.run.phase == Phase::Rest {
            Ok(())
        } else {
            Err(refusals::busy(self.run.phase))
        }
    }
}

/// What can be ended early. The probe ends by itself, and units that are being stopped are not left half way.
fn as_cancel(effect: Effect) -> Option<Effect> {
    match effect {
        Effect::Start(work @ (Work::Install { .. } | Work::Copy(_))) => Some(Effect::Cancel(work)),
        _ => None,
    }
}

/// The good one's, the kept one's, and for diagnosis that of an update that failed.
pub(super) fn needed_generations(record: &Record) -> Vec<u32> {
    let kept = record.kept.as_ref().map(|kept| kept.installed.generation);
    let tried = record.candidate.as_ref().and_then(|c| c.generation);
    [Some(record.good.generation), kept, tried]
        .into_iter()
        .flatten()
        .collect()
}

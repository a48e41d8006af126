//! Where a boot begins, from what it was assessed to be.

use super::course::Course;
use super::event::{Effect, Notice, Phase, Run, Step, Work};
use super::requests;
use crate::update::assess::Mode;
use crate::update::record::Record;

/// The first step of a boot; `record` is the one of the plan, already durable.
pub fn boot(record: &Record, mode: &Mode) -> Step {
    let mut course = Course::new(record, &Run::of(Phase::Rest), 0);
    match mode {
        Mode::Ordinary => {
            course.act(Effect::StartServices);
            course.admit();
            course.go(if course.record.good.image.uki.is_empty() {
                Phase::Finding
            } else {
                Phase::Healing
            });
        }
        Mode::Trial {
            boot,
            copy,
            counted,
        } => trial(&mut course, *boot, copy.is_some(), *counted),
        Mode::TakenBack(_) => taken_back(&mut course),
        Mode::GiveWay { why, counted } => {
            course.run.counted = *counted;
            course.alarm(why.clone());
            course.go_behind_doors(Phase::GivingUp);
        }
        Mode::Stranded {
            why,
            previous,
            heals,
        } => {
            course.run.previous = *previous;
            course.act(Effect::Tell(Notice::Stranded(why.clone())));
            if *heals {
                let request = requests::at_rest(record);
                course.act(Effect::Start(Work::Esp(request)));
            }
            course.go_behind_doors(Phase::Stranded);
        }
    }
    course.end()
}

fn trial(course: &mut Course, boot: u32, copies: bool, counted: bool) {
    let candidate = course.record.candidate.as_ref();
    course.run.closed = candidate.and_then(|candidate| candidate.closed);
    course.run.counted = counted;
    if !counted {
        course.alarm(format!(
            "the boot loader did not count start {boot} of the new version: if it hangs now, it is not taken back by itself until it was started \
             once more"
        ));
        course.go_behind_doors(Phase::Recounting);
    } else if copies {
        course.go_behind_doors(Phase::CopyingAnew);
    } else {
        course.go_behind_doors(Phase::Starting);
    }
}

fn taken_back(course: &mut Course) {
    let candidate = course.record.candidate.as_ref();
    // Only the loader knows whether a version that never said anything was started at all.
    let is_unknown = candidate.is_some_and(|candidate| candidate.boots == 0);
    course.run.closed = candidate.and_then(|candidate| candidate.closed);
    course.act(Effect::StartServices);
    course.go_behind_doors(if is_unknown {
        Phase::Looking
    } else {
        Phase::TakingBack
    });
}

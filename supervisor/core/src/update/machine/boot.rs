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
        Mode::Ordinary => ordinary(&mut course),
        Mode::Trial {
            boot,
            copy,
            counted,
        } => trial(&mut course, *boot, copy.is_some(), *counted),
        Mode::TakenBack(_) => taken_back(&mut course),
        Mode::GiveWay { why, counted } => {
            course.run.counted = *counted;
            course.shut_out(starting_again(record));
            course.alarm(why.clone());
            course.go(Phase::GivingUp);
        }
        Mode::Stranded {
            why,
            previous,
            heals,
        } => {
            course.run.previous = *previous;
            course.shut_out("This server needs its administrator.".to_owned());
            course.act(Effect::Tell(Notice::Stranded(why.clone())));
            if *heals {
                let request = requests::at_rest(record);
                course.act(Effect::Start(Work::Esp(request)));
            }
            course.go(Phase::Stranded);
        }
    }
    course.end()
}

fn ordinary(course: &mut Course) {
    course.act(Effect::StartServices);
    course.admit();
    course.go(if course.record.good.image.uki.is_empty() {
        Phase::Finding
    } else {
        Phase::Healing
    });
}

fn trial(course: &mut Course, boot: u32, copies: bool, counted: bool) {
    let candidate = course.record.candidate.as_ref();
    let version = candidate.map_or("", |candidate| &candidate.image.version);
    let why = format!("The update to version {version} is being tried out.");
    course.run.closed = candidate.and_then(|candidate| candidate.closed);
    course.run.counted = counted;
    course.shut_out(why);
    if !counted {
        course.alarm(format!(
            "the boot loader did not count start {boot} of the new version: if it hangs now, it is not taken back by itself until it was started \
             once more"
        ));
        course.go(Phase::Recounting);
    } else if copies {
        course.go(Phase::CopyingAnew);
    } else {
        course.go(Phase::Starting);
    }
}

fn taken_back(course: &mut Course) {
    let candidate = course.record.candidate.as_ref();
    // Only the loader knows whether a version that never said anything was started at all.
    let is_unknown = candidate.is_some_and(|candidate| candidate.boots == 0);
    course.run.closed = candidate.and_then(|candidate| candidate.closed);
    let why = starting_again(&course.record);
    course.shut_out(why);
    course.act(Effect::StartServices);
    course.go(if is_unknown {
        Phase::Looking
    } else {
        Phase::TakingBack
    });
}

fn starting_again(record: &Record) -> String {
    format!("Version {} is starting again.", record.good.image.version)
}

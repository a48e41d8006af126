//! One event: who answers for it.

use super::course::Course;
use super::event::{Event, Run, Step};
use crate::update::record::Record;
use crate::update::task::Refusal;

/// What follows from an event at `now`, seconds since 1970.
///
/// # Errors
/// It was asked for by somebody and cannot be done. Nothing has changed.
pub fn step(record: &Record, run: &Run, now: u64, event: Event) -> Result<Step, Refusal> {
    let mut course = Course::new(record, run, now);
    match event {
        Event::Begin {
            source,
            shown,
            asked,
            arm,
        } => course.begin(source, shown, asked, arm)?,
        Event::Arm => course.arm()?,
        Event::Rollback(other) => course.roll_back(&other)?,
        Event::Cancel => course.cancel()?,
        Event::Tidy { present, short } => course.tidy(&present, short),
        Event::Installed(outcome, other) => course.installed(outcome, &other),
        Event::Copied(outcome) => course.copied(outcome),
        Event::Entries(outcome) => course.entries(outcome),
        Event::Probed(result) => course.probed(result),
        Event::Stopped(result) => course.stopped(result),
        Event::Ready => course.ready(),
        Event::Broken(failure) => course.broken(&failure),
        Event::Unrecorded(why) => course.unrecorded(&why),
    }
    Ok(course.end())
}

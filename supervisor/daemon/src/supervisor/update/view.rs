//! What people and programs are shown of updates. Derived from the record and from what is under way.

use std::time::Duration;

use atalaya_core::update::machine::{Event, Phase, doing, step};
use atalaya_core::update::record::{Past, Record, Stage};
use serde_json::{Value, json};

use super::super::Supervisor;
use super::{Course, now_s};
use crate::clock::format_wall;
use crate::update::exchange;

impl Supervisor {
    pub(in crate::supervisor) fn update_view(&self) -> Value {
        let running = json!({
            "version": self.release.version,
            "slot": self.options.slot,
        });
        let Some(course) = &self.updates.course else {
            return json!({
                "words": "this machine cannot be updated", "busy": false, "settling": false, "receiving": false, "running": running,
                "good": running, "rollback": { "refused": "There is no version to go back to." },
                "alarms": self.updates.alarms,
            });
        };
        let record = &course.record;
        let is_installing = course.phase() == Phase::Installing;
        let progress = is_installing
            .then(|| exchange::progress(&self.options.update()))
            .flatten();
        json!({
            "stage": record.stage,
            "words": self.update_words(course),
            "busy": is_busy(course),
            "settling": is_settling(course),
            "receiving": is_installing,
            "running": running,
            "good": record.good,
            "candidate": record.candidate,
            "source": source(record),
            "progress": progress,
            "error": error(course),
            "rollback": rollback(course),
            "quarantine": record.quarantine,
            "epoch_floor": record.epoch_floor,
            "key_set": record.key_set,
            "last": record.history.last().map(past),
            "usb": course.stick.is_in(),
            "stick": course.stick.shown(),
            "alarms": self.updates.alarms,
        })
    }

    /// For the status: short.
    pub(in crate::supervisor) fn update_summary(&self) -> Value {
        let Some(course) = &self.updates.course else {
            return Value::Null;
        };
        json!({
            "stage": course.record.stage,
            "busy": is_busy(course),
            "words": self.update_words(course),
            "stick": course.stick.shown(),
            "last": course.record.history.last().map(past),
        })
    }

    pub(in crate::supervisor) fn update_history(&self) -> Value {
        let course = self.updates.course.as_ref();
        let history = course.map_or_else(Vec::new, |course| {
            course.record.history.iter().map(past).collect::<Vec<_>>()
        });
        json!({ "history": history })
    }

    fn update_words(&self, course: &Course) -> String {
        let phase = course.phase();
        if phase != Phase::Rest {
            return doing(phase).to_owned();
        }
        let version = course.record.candidate.as_ref();
        let version = version.map_or("", |candidate| candidate.image.version.as_str());
        match course.record.stage {
            Stage::Staged => format!("version {version} is in place and waits for a word"),
            Stage::RolledBack => {
                format!("none is under way; version {version} was taken back, no data was lost")
            }
            Stage::Failed => {
                "none is under way; the last one was ended before anything was changed".to_owned()
            }
            Stage::Idle
            | Stage::Writing
            | Stage::Armed
            | Stage::Trial
            | Stage::Blessed
            | Stage::Opened => "none is under way".to_owned(),
        }
    }
}

impl Course {
    /// Of the step that is being taken, else of the last one.
    pub(super) fn phase(&self) -> Phase {
        self.next.as_ref().unwrap_or(&self.run).phase
    }
}

/// Whether somebody may wait for its end. The boot partition is compared in every boot: that is none.
fn is_busy(course: &Course) -> bool {
    let is_at_rest = matches!(
        course.phase(),
        Phase::Rest | Phase::Finding | Phase::Healing | Phase::Stranded
    );
    !is_at_rest || course.is_occupied()
}

/// Nothing is under way, and yet a wish would be refused for a moment: a client waits.
fn is_settling(course: &Course) -> bool {
    let is_comparing = matches!(course.phase(), Phase::Finding | Phase::Healing);
    is_comparing || (course.phase() == Phase::Rest && course.is_occupied())
}

/// Before the bundle has told what it holds there is only the wish.
fn source(record: &Record) -> Option<&str> {
    let wanted = record.wanted.as_ref().map(|wanted| &wanted.shown);
    let candidate = record.candidate.as_ref().map(|candidate| &candidate.source);
    wanted.or(candidate).map(String::as_str)
}

/// Why the last one came to nothing, in three sentences.
fn error(course: &Course) -> Value {
    let last = course.record.history.last();
    let reason = last.and_then(|past| past.reason.as_ref());
    match (course.record.stage, reason) {
        (Stage::Failed, Some(reason)) => json!({
            "what": reason.what, "stage": reason.stage, "log": reason.log,
            "data": "What runs was not changed, no data was lost.",
            "next": "Try again when the cause is gone.",
        }),
        (Stage::RolledBack, Some(reason)) => json!({
            "what": reason.what, "stage": reason.stage, "log": reason.log,
            "data": "Everything is as it was before the update, no data was lost.",
            "next": "This version is not tried again by itself. See: atalaya update history",
        }),
        (_, Some(_) | None) => Value::Null,
    }
}

/// To what one can go back, and what is lost then; or why one cannot.
fn rollback(course: &Course) -> Value {
    let kept = course.record.kept.as_ref();
    let wish = Event::Rollback(course.other.clone());
    match (kept, step(&course.record, &course.run, now_s(), wish)) {
        (Some(kept), Ok(_)) => json!({
            "version": kept.installed.image.version,
            "until": format_wall(Duration::from_secs(kept.until)),
        }),
        (_, Err(refusal)) => json!({ "refused": refusal.what, "next": refusal.next }),
        (None, Ok(_)) => json!({ "refused": "There is no version to go back to." }),
    }
}

fn past(past: &Past) -> Value {
    let mut shown = json!(past);
    let began = past
        .marks
        .first()
        .map(|mark| format_wall(Duration::from_secs(mark.at)));
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("began".to_owned(), json!(began));
    }
    shown
}

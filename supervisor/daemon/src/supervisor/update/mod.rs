//! The driver of updates. `atalaya_core::update` decides; here its effects are carried out one after the other and what comes of them is told back
//! as events. The record is written on a thread and is durable before anything that follows from it; this task alone has it written.
//!
//! ```text
//! wishes, ends of units, readiness --> Event --> machine::step --> record (/data/update), run (/run/atalaya/update), effects
//!                                        ^                                                                            |
//!                                        +---- units update-install|copy|esp|drop, probe <----- start, cancel, stop --+
//! ```
//! Happy path: [`begin`](Supervisor::begin_updates) before any unit starts says which generation this boot uses and whether users come in; then
//! each step's effects, in their order. A step whose record cannot be written has not happened. A new atalayad takes up the plan and the run of
//! its boot from /run, and does again what is being waited for.

mod boot;
mod carry_out;
mod look;
mod probing;
mod request;
mod services;
mod stick;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use atalaya_core::update::assess::{Mode, OtherSlot};
use atalaya_core::update::machine::{self, Effect, Event, Run, Step, Work};
use atalaya_core::update::record::Record;
use atalaya_core::update::task::Refusal;
use atalaya_sys::durable;
use serde::{Deserialize, Serialize};

pub(super) use services::uses_generation;

use super::{Message, Supervisor};
use crate::clock::wall_ms;
use crate::maintenance::Maintenance;
use crate::update::network::Before;
use crate::update::store::{self, Newest};
use crate::update::{probe, progress};

/// What the owner of state holds of updates.
#[derive(Default)]
pub(super) struct Updates {
    /// None: this machine was not started from a slot, or has no data.
    course: Option<Course>,
    /// Users are shut out because of an update.
    pub(super) hold: Option<Maintenance>,
    /// What somebody has to look at.
    pub(super) alarms: Vec<String>,
    /// Why the last wish came to nothing.
    refused: Option<Refusal>,
}

/// The update of this boot.
struct Course {
    /// /data/update
    directory: PathBuf,
    /// As it was last written.
    record: Record,
    newest: Newest,
    mode: Mode,
    run: Run,
    other: OtherSlot,
    /// The next run, while its record is being written.
    next: Option<Run>,
    /// Of the present step, not carried out yet.
    effects: VecDeque<Effect>,
    /// Not decided yet.
    events: VecDeque<Event>,
    is_writing: bool,
    /// An earlier atalayad has begun this: what it started may be under way.
    is_resumed: bool,
    /// Units whose end is waited for, with the number of their run before.
    awaited: BTreeMap<&'static str, u32>,
    /// Units whose request is being put together.
    preparing: BTreeSet<&'static str>,
    /// What was asked of units in this phase: the numbers of the requests, of the probe the number of its run before. A restarted atalayad finds
    /// them with the run.
    asked: BTreeMap<String, u64>,
    /// What the probe has reported, while what it posted is being removed.
    probed: Option<Result<probe::Report, String>>,
    services: Option<services::Wait>,
    /// What has to wait for something else, in the order in which it is to be begun.
    later: Vec<Work>,
    /// The trial was told to be broken already.
    is_broken: bool,
    /// What the trial compares itself with; before one, what is known of it so far.
    before: Before,
    migration: look::Migration,
    stall: look::Stall,
    tidied_ms: u64,
    /// When the network was let go after the trial, until the machine's addresses were compared with those from before.
    released_ms: Option<u64>,
    stick: stick::Stick,
}

/// What a thread has to tell.
pub enum News {
    /// The record is durable; or it could not be written, and this one was found.
    Written(Box<Record>, Result<Newest, String>),
    /// A unit's request was put together.
    Prepared(&'static str, Result<u64, String>),
    /// An answer that took a look at the disk.
    Happened(Event),
    /// With what the slot that is not running holds now.
    Other(OtherSlot, Event),
    /// How far a migration is, and how long it may stay there, in milliseconds.
    Seen(progress::Seen, u64),
}

fn now_s() -> u64 {
    wall_ms() / 1000
}

impl Supervisor {
    pub(super) fn on_update(&mut self, news: News) {
        let Some(course) = &mut self.updates.course else {
            return;
        };
        match news {
            News::Written(record, Ok(newest)) => {
                course.is_writing = false;
                course.newest = newest;
                course.record = *record;
            }
            News::Written(found, Err(error)) => {
                course.is_writing = false;
                course.record = *found;
                course.effects.clear();
                course.next = None;
                course.events.push_front(Event::Unrecorded(error));
            }
            News::Prepared(carry_out::LOOK, prepared) => self.on_prepared_look(prepared),
            News::Prepared(name, prepared) => self.on_prepared_work(name, prepared),
            News::Happened(event) => course.events.push_back(event),
            News::Other(other, event) => {
                course.other = other;
                course.events.push_back(event);
            }
            News::Seen(seen, patience_ms) => self.on_seen(seen, patience_ms),
        }
        self.go_on_updating();
    }

    pub(super) fn feed(&mut self, event: Event) {
        if let Some(course) = &mut self.updates.course {
            course.events.push_back(event);
        }
    }

    /// Carries out what there is to do, until it has to wait for the disk or for something to happen.
    pub(super) fn go_on_updating(&mut self) {
        while let Some(effect) = self.next_effect() {
            self.carry_out_update(effect);
        }
    }

    fn next_effect(&mut self) -> Option<Effect> {
        let run_file = run_file(&self.options.update());
        let course = self.updates.course.as_mut()?;
        loop {
            if course.is_writing {
                return None;
            }
            if let Some(effect) = course.effects.pop_front() {
                // Until the last record of the step is written, the step may still not have happened.
                let is_record = |effect: &Effect| matches!(effect, Effect::WriteRecord(_));
                if !is_record(&effect) && !course.effects.iter().any(is_record) {
                    course.take_run(&run_file);
                }
                return Some(effect);
            }
            course.take_run(&run_file);
            course.note_done(&run_file);
            let event = course.events.pop_front()?;
            course.is_resumed = false;
            // Only wishes are refused, and those are asked before they come here.
            if let Ok(step) = machine::step(&course.record, &course.run, now_s(), event) {
                course.begin(step);
            }
        }
    }

    fn write_record(&mut self, record: Box<Record>) {
        let Some(course) = &mut self.updates.course else {
            return;
        };
        course.is_writing = true;
        let (directory, newest) = (course.directory.clone(), course.newest);
        let before = course.record.clone();
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || {
            let written = store::write(&directory, newest, &record);
            let record = match written {
                Ok(_) => record,
                // It may be there all the same; what is decided next must not deny it.
                Err(_) => Box::new(store::read_again(&directory).unwrap_or(before)),
            };
            drop(outbox.send(Message::Update(News::Written(record, written))));
        });
    }
}

impl Course {
    /// Its record counts when it is written, its run from the first thing that is done on.
    fn begin(&mut self, step: Step) {
        self.effects = step.effects.into();
        self.next = Some(step.run);
    }

    /// It is at work on a step.
    fn is_occupied(&self) -> bool {
        self.is_writing || !self.effects.is_empty() || !self.events.is_empty()
    }

    /// A restarted atalayad has not to do again what was done on the way into this phase.
    fn note_done(&mut self, file: &Path) {
        if !self.run.done {
            self.run.done = true;
            self.keep_run(file);
        }
    }

    fn take_run(&mut self, file: &Path) {
        let Some(run) = self.next.take() else {
            return;
        };
        if run.phase != self.run.phase {
            self.migration = look::Migration::default();
            self.stall = look::Stall::default();
            self.asked.clear();
        }
        self.run = run;
        self.keep_run(file);
    }

    /// In memory: what cannot be kept there is told by what fails next.
    fn keep_run(&self, file: &Path) {
        let kept = KeptRun {
            run: self.run.clone(),
            asked: self.asked.clone(),
        };
        if let Ok(text) = serde_json::to_vec(&kept) {
            drop(durable::write(file, &text, 0o600, None));
        }
    }
}

/// What a restarted atalayad takes up.
#[derive(Serialize, Deserialize)]
struct KeptRun {
    #[serde(flatten)]
    run: Run,
    #[serde(default)]
    asked: BTreeMap<String, u64>,
}

/// What is known of this boot only.
fn run_file(update: &Path) -> PathBuf {
    update.join("run.json")
}

//! A stick with an update: found by its label, looked at by the unit `update-look`, offered to whoever stands in front of the machine, and
//! installed when he says so. What he is shown was verified, and what is installed is verified again: by the same rules as any other update,
//! and with no exception to them.
//!
//! ```text
//! Absent --put in--> Found --at rest--> Looking --answer--> Offered | Refused --an update--> Found
//!   ^------------------------- pulled out: from anywhere -------------------------------------'
//! ```

use atalaya_core::system::Input;
use atalaya_core::update::machine::Phase;
use atalaya_core::update::task::{Asked, Look, Looked, Outcome, Refusal, Source};
use atalaya_sys::medium::UPDATE;
use serde_json::{Value, json};

use super::super::serve::Answer;
use super::super::{Message, Supervisor};
use super::News;
use super::carry_out::{LOOK, read_schema, rules_of};
use crate::update::{Wish, exchange};

/// How the source of such an update is shown in the history.
const SHOWN: &str = "a stick, at the console";

#[derive(Default)]
pub(super) enum Stick {
    #[default]
    Absent,
    /// Nobody has looked at it yet.
    Found,
    /// The unit's run before it was started, and the request's number; none while the request is being put together.
    Looking(Option<(u32, u64)>),
    Offered(Looked),
    Refused(Refusal),
}

impl Stick {
    pub(super) fn is_in(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// What the screens and programs are told.
    pub(super) fn shown(&self) -> Value {
        match self {
            Self::Absent | Self::Found => Value::Null,
            Self::Looking(_) => json!({}),
            Self::Offered(looked) => json!(looked),
            Self::Refused(refusal) => json!({
                "refused": { "what": refusal.what, "data": refusal.data, "next": refusal.next },
            }),
        }
    }
}

impl Supervisor {
    /// Every two seconds.
    pub(super) fn look_for_stick(&mut self) {
        let is_in = UPDATE
            .names()
            .any(|label| self.options.labels.join(label).exists());
        let Some(course) = &mut self.updates.course else {
            return;
        };
        if !is_in {
            course.stick = Stick::Absent;
            return;
        }
        let is_new = !course.stick.is_in();
        // After an update the answer may be another.
        let is_at_rest = matches!(course.phase(), Phase::Rest);
        if is_new || !is_at_rest {
            course.stick = Stick::Found;
        }
        if matches!(course.stick, Stick::Found) && is_at_rest && !course.is_occupied() {
            self.begin_to_look(is_new);
        } else {
            self.see_what_was_found();
        }
    }

    fn begin_to_look(&mut self, is_new: bool) {
        if is_new {
            self.say(
                "update",
                "a stick with an update is in, it is being looked at",
            );
        }
        if self.system.unit(LOOK).is_none() {
            self.refuse_stick("this image has no unit that looks at sticks".to_owned());
            return;
        }
        let Some(course) = &mut self.updates.course else {
            return;
        };
        course.stick = Stick::Looking(None);
        let (record, release) = (course.record.clone(), self.release.clone());
        let update = self.options.update();
        let schema = self.schema_file(record.good.generation);
        let outbox = self.outbox.clone();
        // The schema stands on the disk, which may not answer.
        tokio::task::spawn_blocking(move || {
            let schema = schema.and_then(|path| read_schema(&path));
            let rules = rules_of(&record, &release, schema, &Asked::default());
            let asked = exchange::ask(&update, "look", Look { rules });
            drop(outbox.send(Message::Update(News::Prepared(LOOK, asked))));
        });
    }

    /// Its request is there.
    pub(super) fn on_prepared_look(&mut self, prepared: Result<u64, String>) {
        let number = match prepared {
            Ok(number) => number,
            Err(error) => return self.refuse_stick(error),
        };
        let before = self.system.unit(LOOK).map_or(0, |(_, unit)| unit.run());
        let Some(course) = &mut self.updates.course else {
            return;
        };
        // It may have been pulled out meanwhile.
        if matches!(course.stick, Stick::Looking(None)) {
            course.stick = Stick::Looking(Some((before, number)));
            self.apply(Input::Restart(LOOK.to_owned()));
        }
    }

    fn see_what_was_found(&mut self) {
        let Some(course) = &self.updates.course else {
            return;
        };
        let Stick::Looking(Some((before, number))) = course.stick else {
            return;
        };
        if !self.has_ended(LOOK, before) {
            return;
        }
        match exchange::answer::<Looked>(&self.options.update(), "look", number) {
            Ok(Outcome::Done(looked)) => {
                self.say(
                    "update",
                    &format!(
                        "the stick holds version {}. To install it: press u on this machine's screen, or atalaya update install usb",
                        looked.version
                    ),
                );
                self.set_stick(Stick::Offered(looked));
            }
            Ok(Outcome::Refused(refusal)) => {
                self.say(
                    "update",
                    &format!("the stick: {} {}", refusal.what, refusal.next),
                );
                self.set_stick(Stick::Refused(refusal));
            }
            Err(error) => self.refuse_stick(error),
        }
    }

    fn refuse_stick(&mut self, error: String) {
        let refusal = Refusal {
            code: "unit".to_owned(),
            what: format!("The stick could not be looked at: {error}."),
            data: "Nothing was changed.".to_owned(),
            next: "Pull it out and put it in again.".to_owned(),
        };
        self.say("update", &format!("{} {}", refusal.what, refusal.next));
        self.set_stick(Stick::Refused(refusal));
    }

    fn set_stick(&mut self, stick: Stick) {
        if let Some(course) = &mut self.updates.course {
            course.stick = stick;
        }
    }

    /// Somebody at the machine has been shown this version and wants it.
    pub(in crate::supervisor) fn install_stick(&mut self, version: &str) -> Answer {
        let stick = self.updates.course.as_ref().map(|course| &course.stick);
        match stick {
            Some(Stick::Offered(looked)) if looked.version == version => self.install(Wish {
                source: Source::Usb(UPDATE.whole.to_owned()),
                shown: SHOWN.to_owned(),
                asked: Asked::default(),
            }),
            Some(_) | None => Answer::refusal(
                409,
                &format!("no stick with version {version} is offered"),
                "Nothing was changed.",
                "Look at what the screen says of the stick now.",
            ),
        }
    }
}

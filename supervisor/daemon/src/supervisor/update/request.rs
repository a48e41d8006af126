//! What administrators ask of updates. A refusal is the machine's; here are the words around it.

use atalaya_core::update::machine::{self, Event};
use atalaya_core::update::task::{Refusal, Source};

use super::super::Supervisor;
use super::super::serve::Answer;
use super::now_s;
use crate::api::make_pipe;
use crate::update::Wish;

impl Supervisor {
    pub(in crate::supervisor) fn install(&mut self, wish: Wish) -> Answer {
        let mut source = wish.source;
        if let Source::File(path) = &mut source {
            let pipe = self.options.update().join("bundle");
            *path = pipe.to_string_lossy().into_owned();
            if self.may_ask()
                && let Err(error) = make_pipe(&pipe, (0, 0))
            {
                return Answer::refusal(500, &error, "Nothing was changed.", "See: atalaya status");
            }
        }
        self.ask_update(Event::Begin {
            source,
            shown: wish.shown,
            asked: wish.asked,
            arm: true,
        })
    }

    pub(in crate::supervisor) fn cancel_update(&mut self) -> Answer {
        self.ask_update(Event::Cancel)
    }

    pub(in crate::supervisor) fn roll_back(&mut self) -> Answer {
        let other = self
            .updates
            .course
            .as_ref()
            .map(|course| course.other.clone());
        match other {
            Some(other) => self.ask_update(Event::Rollback(other)),
            None => no_updates(),
        }
    }

    /// Nothing is half done.
    fn may_ask(&self) -> bool {
        (self.updates.course.as_ref()).is_some_and(|course| !course.is_occupied())
    }

    fn ask_update(&mut self, event: Event) -> Answer {
        if self.system.end().is_some() {
            return Answer::refusal(
                409,
                "the machine is being stopped",
                "Nothing was changed.",
                "Wait until it has started again.",
            );
        }
        let Some(course) = &mut self.updates.course else {
            return no_updates();
        };
        if course.is_occupied() {
            return Answer::refusal(
                409,
                "the update is just taking a step",
                "Nothing was changed.",
                "Ask again in a few seconds.",
            );
        }
        match machine::step(&course.record, &course.run, now_s(), event) {
            Err(refusal) => refuse(&refusal),
            Ok(step) => {
                course.begin(step);
                self.updates.refused = None;
                self.go_on_updating();
                Answer {
                    status: 202,
                    body: self.update_view(),
                }
            }
        }
    }
}

fn refuse(refusal: &Refusal) -> Answer {
    Answer::refusal(409, &refusal.what, &refusal.data, &refusal.next)
}

fn no_updates() -> Answer {
    Answer::refusal(
        409,
        "this machine cannot be updated: it was not started from a slot, or its data partition is not there",
        "Nothing was changed.",
        "See: atalaya status",
    )
}

//! The probe of an update: what it has reported, the removal of what it has posted, and what both mean.

use atalaya_core::machine::State;
use atalaya_core::system::Input;
use atalaya_core::update::machine::{Event, Failure};

use super::super::Supervisor;
use super::carry_out::{CLEAN, PROBE};
use crate::update::probe;

impl Supervisor {
    /// Whatever it has found, what it posted goes.
    pub(super) fn on_probed(&mut self) {
        let voice = self.report.voices.get(PROBE);
        let line = voice.map(|voice| voice.last()).unwrap_or_default();
        let clean = self.system.unit(CLEAN).map(|(_, machine)| machine.run());
        let Some(course) = &mut self.updates.course else {
            return;
        };
        course.probed = Some(probe::parse(&line));
        match clean {
            Some(before) => {
                course.awaited.insert(CLEAN, before);
                self.apply(Input::Restart(CLEAN.to_owned()));
            }
            None => self.tell_probed(),
        }
    }

    pub(super) fn on_cleaned(&mut self) {
        let machine = self.system.unit(CLEAN).map(|(_, machine)| machine);
        let is_clean = machine.is_some_and(|machine| *machine.state() == State::Done);
        let why = (!is_clean).then(|| self.end_of(CLEAN, "it ended without a word"));
        let course = self.updates.course.as_mut();
        if let Some(Ok(report)) = course.and_then(|course| course.probed.as_mut()) {
            report.cleaned(why);
        }
        self.tell_probed();
    }

    fn tell_probed(&mut self) {
        let course = self.updates.course.as_mut();
        if let Some(report) = course.and_then(|course| course.probed.take()) {
            let passed = self.assess_probe(report);
            self.feed(Event::Probed(passed));
        }
    }

    fn assess_probe(&mut self, report: Result<probe::Report, String>) -> Result<(), Failure> {
        let is_trial = self.is_on_trial();
        let course = self.updates.course.as_ref();
        let before = course.map_or_else(Vec::new, |course| course.before.skipped.clone());
        let assessed = report.and_then(|report| {
            if is_trial {
                probe::assess_trial(&report, &before)
            } else {
                probe::assess_before(&report)
            }
        });
        match assessed {
            Ok(passed) => {
                for alarm in passed.alarms {
                    self.alarm(alarm);
                }
                if let Some(course) = &mut self.updates.course {
                    course.before.skipped = passed.skipped;
                }
                Ok(())
            }
            Err(what) => Err(Failure {
                what,
                log: self.last_words("mattermost"),
            }),
        }
    }
}

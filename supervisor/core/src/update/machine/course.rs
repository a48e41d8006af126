//! A step in the making: the record, what is waited for, and the effects so far. What a phase waits for follows from the phase and the record
//! alone, so that a restarted atalayad can ask for it again.

use super::event::{Effect, Failure, Notice, Phase, Run, Step, Work};
use super::requests;
use crate::update::record::{Mark, Past, Reason, Record, Stage};
use crate::update::task::{Copy, Refusal};

pub(super) struct Course {
    pub record: Record,
    pub run: Run,
    /// Seconds since 1970.
    pub now: u64,
    pub effects: Vec<Effect>,
}

impl Course {
    pub fn new(record: &Record, run: &Run, now: u64) -> Self {
        Self {
            record: record.clone(),
            run: Run {
                done: false,
                ..run.clone()
            },
            now,
            effects: Vec::new(),
        }
    }

    pub fn end(self) -> Step {
        Step {
            record: self.record,
            run: self.run,
            effects: self.effects,
        }
    }

    /// Before everything that is done in this step, whatever asks for it.
    pub fn write(&mut self) {
        let record = Box::new(self.record.clone());
        let is_record = |effect: &Effect| matches!(effect, Effect::WriteRecord(_));
        let written = self.effects.iter().take_while(|e| is_record(e)).count();
        self.effects.insert(written, Effect::WriteRecord(record));
    }

    pub fn act(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn alarm(&mut self, text: String) {
        self.act(Effect::Tell(Notice::Alarm(text)));
    }

    /// And asks for what that phase waits for.
    pub fn go(&mut self, phase: Phase) {
        self.run.phase = phase;
        self.effects.extend(awaited(&self.record, &self.run));
    }

    /// The course is over in this boot.
    pub fn rest(&mut self) {
        let phase = if self.run.previous {
            Phase::Stranded
        } else {
            Phase::Rest
        };
        self.run = Run {
            counted: self.run.counted,
            previous: self.run.previous,
            ..Run::of(phase)
        };
    }

    pub fn mark(&mut self, stage: Stage) {
        let at = self.now;
        self.record.stage = stage;
        if let Some(candidate) = self.record.candidate.as_mut() {
            candidate.marks.push(Mark { stage, at });
        }
    }

    pub fn admit(&mut self) {
        self.act(Effect::Admit {
            open: true,
            why: String::new(),
        });
    }

    /// To this phase, in which users are out, and they read why.
    pub fn go_behind_doors(&mut self, phase: Phase) {
        self.run.phase = phase;
        let doors = doors(&self.record, &self.run);
        self.act(doors);
        self.go(phase);
    }

    /// Everybody goes on with the version that is running, if they were stopped.
    pub fn reopen(&mut self) {
        if self.run.closed.is_some() && !self.run.previous {
            self.act(Effect::StartServices);
            self.admit();
        }
    }

    /// From closing to now.
    pub fn downtime(&self) -> Option<u64> {
        Some(self.now.saturating_sub(self.run.closed?))
    }

    /// The update has ended before anything was at stake: notes it, and says why.
    pub fn note_failure(&mut self, failure: &Failure) -> Reason {
        let reason = if self.run.cancelled {
            Reason::new(self.record.stage, "it was cancelled", &[])
        } else {
            Reason::new(self.record.stage, &failure.what, &failure.log)
        };
        let downtime = self.downtime();
        self.mark(Stage::Failed);
        let wanted = self.record.wanted.take();
        let from = self.record.good.image.version.clone();
        let (to, marks) = match (&mut self.record.candidate, wanted) {
            (_, Some(wanted)) => {
                let began = Mark {
                    stage: Stage::Writing,
                    at: wanted.at,
                };
                let ended = Mark {
                    stage: Stage::Failed,
                    at: self.now,
                };
                (wanted.shown, vec![began, ended])
            }
            (Some(candidate), None) => {
                candidate.reason = Some(reason.clone());
                (candidate.image.version.clone(), candidate.marks.clone())
            }
            (None, None) => (String::new(), Vec::new()),
        };
        self.record.remember(Past {
            from,
            to,
            outcome: Stage::Failed,
            marks,
            downtime,
            reason: Some(reason.clone()),
        });
        self.write();
        reason
    }

    /// The same, and everybody goes on.
    pub fn fail(&mut self, failure: &Failure) {
        let reason = self.note_failure(failure);
        self.reopen();
        self.act(Effect::Tell(Notice::Failed(reason)));
        self.rest();
    }
}

impl Failure {
    pub(super) fn of(what: &str) -> Self {
        Self {
            what: what.to_owned(),
            log: Vec::new(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let what = refusal.what.trim_end_matches('.');
        Self::of(format!("{what}. {}", refusal.next).trim_end())
    }
}

/// Whether users are let in during this phase, and what they read if not.
pub(super) fn doors(record: &Record, run: &Run) -> Effect {
    let new = match (&record.candidate, &record.kept) {
        (_, Some(kept)) if run.way_back => &kept.installed.image.version,
        (Some(candidate), _) => &candidate.image.version,
        (None, _) => &record.good.image.version,
    };
    let why = match run.phase {
        Phase::Rest
        | Phase::Finding
        | Phase::Healing
        | Phase::Installing
        | Phase::Baseline
        | Phase::Beforehand
        | Phase::Returning => String::new(),
        Phase::Closing | Phase::Copying | Phase::Arming | Phase::Leaving if run.way_back => {
            format!("This server goes back to version {new}.")
        }
        Phase::Closing | Phase::Copying | Phase::Arming => {
            format!("This server is being updated to version {new}.")
        }
        Phase::Recounting
        | Phase::CopyingAnew
        | Phase::Starting
        | Phase::Probing
        | Phase::Blessing => format!("The update to version {new} is being tried out."),
        Phase::Leaving => "This server is restarting.".to_owned(),
        Phase::Disarming | Phase::GivingUp | Phase::Looking | Phase::TakingBack => {
            format!("Version {} is starting again.", record.good.image.version)
        }
        Phase::Stranded => "This server needs its administrator.".to_owned(),
    };
    let open = why.is_empty();
    Effect::Admit { open, why }
}

/// What this phase waits for.
pub(super) fn awaited(record: &Record, run: &Run) -> Option<Effect> {
    let candidate = record.candidate.as_ref();
    let esp = |request| Some(Effect::Start(Work::Esp(request)));
    match run.phase {
        Phase::Rest | Phase::Stranded => None,
        Phase::Finding | Phase::Looking => esp(requests::look()),
        Phase::Healing | Phase::Disarming | Phase::TakingBack => esp(requests::at_rest(record)),
        Phase::Installing => record.wanted.as_ref().map(|wanted| {
            Effect::Start(Work::Install {
                source: wanted.source.clone(),
                slot: record.good.slot.other(),
                asked: wanted.asked.clone(),
            })
        }),
        Phase::Baseline | Phase::Probing => Some(Effect::Start(Work::Probe)),
        Phase::Beforehand => copy(record, true),
        Phase::Copying | Phase::CopyingAnew => copy(record, false),
        Phase::Closing => Some(Effect::StopServices),
        Phase::Arming | Phase::Recounting => {
            candidate.and_then(|candidate| esp(requests::armed(record, candidate)))
        }
        Phase::Blessing => {
            candidate.and_then(|candidate| esp(requests::blessed(record, candidate)))
        }
        Phase::GivingUp => esp(requests::only_good(record)),
        Phase::Starting | Phase::Returning => Some(Effect::StartServices),
        Phase::Leaving => Some(Effect::Reboot(leaving(record))),
    }
}

fn copy(record: &Record, beforehand: bool) -> Option<Effect> {
    let to = record.candidate.as_ref()?.generation?;
    Some(Effect::Start(Work::Copy(Copy {
        from: record.good.generation,
        to,
        beforehand,
    })))
}

fn leaving(record: &Record) -> String {
    match (&record.candidate, record.is_between()) {
        (Some(candidate), true) if candidate.reason.is_none() => {
            format!("update to version {}", candidate.image.version)
        }
        _ => format!("back to version {}", record.good.image.version),
    }
}

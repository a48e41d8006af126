//! The effects of an update. Each is carried out when those before it are; what takes long is a unit's work or a thread's.

use std::path::{Path, PathBuf};

use atalaya_core::link::Action;
use atalaya_core::machine::State;
use atalaya_core::system::Input;
use atalaya_core::update::assess::Mode;
use atalaya_core::update::machine::{self, Effect, Event, Notice, Phase, Work};
use atalaya_core::update::record::{Reason, Record};
use atalaya_core::update::task::{self, Asked, Outcome, Refusal, Rules, Source};
use atalaya_sys::durable;

use super::super::{Message, Supervisor};
use super::{News, run_file};
use crate::clock::{boottime_ms, wall_now};
use crate::maintenance::{self, Maintenance};
use crate::release::Release;
use crate::update::exchange;

pub(super) const INSTALL: &str = "update-install";
pub(super) const LOOK: &str = "update-look";
pub(super) const COPY: &str = "update-copy";
pub(super) const ESP: &str = "update-esp";
pub(super) const DROP: &str = "update-drop";
pub(super) const PROBE: &str = "probe";
/// Removes what the probe has posted.
pub(super) const CLEAN: &str = "probe-clean";

/// After so long the start of the machine is waited for no more, in milliseconds.
const START_LIMIT_MS: u64 = 180_000;

impl Supervisor {
    pub(super) fn carry_out_update(&mut self, effect: Effect) {
        match effect {
            Effect::WriteRecord(record) => self.write_record(record),
            Effect::Start(work) if self.has_to_wait(&work) => {
                if let Some(course) = &mut self.updates.course {
                    course.later.push(work);
                }
            }
            Effect::Start(work) => self.start_work(work),
            Effect::Cancel(work) => self.cancel_work(&work),
            Effect::StopServices => self.stop_services(),
            Effect::StartServices => self.start_services(),
            Effect::Release => self.release_network(),
            Effect::Admit { open: true, .. } => self.hold(None),
            Effect::Admit { open: false, why } => self.hold(Some(why)),
            Effect::MarkBlessed => {
                // In memory. Without it init only stays stricter than it need be until the next boot.
                let path = self.options.run.join("blessed");
                drop(durable::write(&path, b"", 0o644, None));
            }
            Effect::Reboot(why) => self.end(Action::Reboot, &why),
            Effect::Tell(notice) => self.tell_notice(notice),
        }
    }

    /// Users are let in, as far as the update is concerned, or read why not.
    fn hold(&mut self, why: Option<String>) {
        let hold = why.map(|message| Maintenance {
            message: Some(message),
            since: wall_now(),
        });
        // In memory: it ends with the boot, and the next boot's plan says whether it begins with one.
        let path = self.options.update().join("hold.json");
        if let Err(error) = maintenance::keep(&path, hold.as_ref()) {
            self.hub
                .push("atalayad", &format!("the hold could not be kept: {error}"));
        }
        self.updates.hold = hold;
        self.publish();
    }

    fn tell_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Staged(version) => {
                self.say("update", &format!("version {version} is in place and waits for a word"));
            }
            Notice::Failed(reason) => self.say_reason("the update was ended, nothing was changed", &reason),
            Notice::GivingUp(reason) => self.say_reason(
                "the new version has not passed its trial: the machine goes back to the former one, no data is lost",
                &reason,
            ),
            Notice::Opened(version) => {
                self.say("update", &format!("version {version} has passed its trial, users are let in"));
            }
            Notice::TakenBack(reason) => self.say_reason(
                "the former version serves again, no data was lost: the new one has not passed its trial",
                &reason,
            ),
            Notice::Alarm(text) => self.alarm(text),
            Notice::Stranded(text) => {
                self.say("update", &text);
                self.updates.alarms.push(text);
            }
        }
    }

    fn say_reason(&mut self, what: &str, reason: &Reason) {
        self.say("update", &format!("{what}. {}", reason.what));
        for line in &reason.log {
            self.say("update", &format!("| {line}"));
        }
    }

    /// Somebody has to look at it; nothing ends because of it.
    pub(super) fn alarm(&mut self, text: String) {
        self.say("update", &text);
        if !self.updates.alarms.contains(&text) {
            self.updates.alarms.push(text);
        }
    }

    /// Comparing the boot partition reads and hashes it: the start of the machine comes first.
    fn may_wait(&self) -> bool {
        self.updates.course.as_ref().is_some_and(|course| {
            matches!(course.mode, Mode::Ordinary)
                && matches!(course.run.phase, Phase::Finding | Phase::Healing)
                && course.services.is_some()
                && boottime_ms().saturating_sub(self.report.times.began_ms) < START_LIMIT_MS
        })
    }

    /// One unit does one thing at a time, and an answer to what it was asked before is none to this. And the space is looked at when what nobody
    /// needs any more is gone.
    fn has_to_wait(&self, work: &Work) -> bool {
        let Some(course) = &self.updates.course else {
            return false;
        };
        let name = unit_of(work);
        let is_anothers = !course.asked.contains_key(name) && self.is_at_work(name);
        let is_drop = |work: &Work| matches!(work, Work::Drop(_));
        let is_dropping = self.is_at_work(DROP) || course.later.iter().any(is_drop);
        let needs_room = matches!(work, Work::Copy(copy) if copy.beforehand);
        self.may_wait() || is_anothers || (needs_room && is_dropping)
    }

    fn is_at_work(&self, name: &str) -> bool {
        let course = self.updates.course.as_ref();
        let unit = self.system.unit(name).map(|(_, unit)| unit);
        course.is_some_and(|course| course.preparing.contains(name))
            || unit.is_some_and(|unit| unit.is_active() || matches!(unit.state(), State::Waiting))
    }

    /// Users are in, or will not be soon; a unit has ended.
    pub(super) fn start_what_waited(&mut self) {
        while let Some(work) = self.next_waiting() {
            self.start_work(work);
        }
    }

    fn next_waiting(&mut self) -> Option<Work> {
        let later = &self.updates.course.as_ref()?.later;
        let at = later.iter().position(|work| !self.has_to_wait(work))?;
        Some(self.updates.course.as_mut()?.later.remove(at))
    }

    /// What has not been begun has ended with that.
    fn cancel_work(&mut self, work: &Work) {
        let name = unit_of(work);
        let course = self.updates.course.as_mut();
        let waiting = course.and_then(|course| {
            let is_it = |later: &Work| unit_of(later) == name;
            let at = course.later.iter().position(is_it)?;
            Some(course.later.remove(at))
        });
        match waiting {
            Some(_) => self.on_work_ended(name),
            None => self.apply(Input::Stop(name.to_owned())),
        }
    }

    fn start_work(&mut self, work: Work) {
        let name = unit_of(&work);
        let Some((_, unit)) = self.system.unit(name) else {
            self.on_work_ended(name);
            return;
        };
        let run = unit.run();
        let is_active = self.is_at_work(name);
        let update = self.options.update();
        let Some(course) = &mut self.updates.course else {
            return;
        };
        // What an earlier atalayad sent through its own hands ended with it.
        let was_sent = course.is_resumed
            && matches!(
                &work,
                Work::Install {
                    source: Source::File(_),
                    ..
                }
            );
        let asked = course.asked.get(name).copied();
        let has_answer = asked.is_some_and(|number| match name {
            PROBE => u64::from(run) > number,
            _ => exchange::has_answer(&update, short(name), number),
        });
        if asked.is_some() && is_active {
            course.awaited.insert(name, run.saturating_sub(1));
            if was_sent {
                self.apply(Input::Stop(name.to_owned()));
            }
            return;
        }
        if has_answer || was_sent {
            self.on_work_ended(name);
            return;
        }
        course.awaited.remove(name);
        course.preparing.insert(name);
        let (record, release) = (course.record.clone(), self.release.clone());
        let schema = self.schema_file(record.good.generation);
        let outbox = self.outbox.clone();
        // The schema stands on the disk, which may not answer.
        tokio::task::spawn_blocking(move || {
            let schema = schema.and_then(|path| read_schema(&path));
            let asked = match work {
                Work::Probe => Ok(u64::from(run)),
                work => ask(&update, work, &record, &release, schema),
            };
            drop(outbox.send(Message::Update(News::Prepared(name, asked))));
        });
    }

    /// Where the schema of that generation's database is kept.
    pub(super) fn schema_file(&self, generation: u32) -> Option<PathBuf> {
        let data = self.options.data.as_ref()?;
        Some(data.join(format!("gen/{generation}/release/mattermost.json")))
    }

    /// Its request is there.
    pub(super) fn on_prepared_work(&mut self, name: &'static str, prepared: Result<u64, String>) {
        let run_file = run_file(&self.options.update());
        if let Some(course) = &mut self.updates.course {
            course.preparing.remove(name);
            // Nobody waits for a removal's answer, and the next one may follow in the same phase.
            if let Ok(number) = &prepared
                && name != DROP
            {
                course.asked.insert(name.to_owned(), *number);
                course.keep_run(&run_file);
            }
        }
        if let Err(error) = prepared {
            let refusal = Refusal {
                code: "request".to_owned(),
                what: format!("{name} could not be asked: {error}"),
                data: "What runs was not changed.".to_owned(),
                next: "See: atalaya status".to_owned(),
            };
            self.feed(match name {
                INSTALL => {
                    let course = self.updates.course.as_ref();
                    let other = course.map(|course| course.other.clone());
                    let other = other.unwrap_or(atalaya_core::update::assess::OtherSlot::Unknown);
                    Event::Installed(Outcome::Refused(refusal), other)
                }
                COPY => Event::Copied(Outcome::Refused(refusal)),
                ESP => Event::Entries(Outcome::Refused(refusal)),
                _ => return,
            });
            return;
        }
        let before = self.system.unit(name).map_or(0, |(_, unit)| unit.run());
        if let Some(course) = &mut self.updates.course {
            course.awaited.insert(name, before);
        }
        self.apply(Input::Restart(name.to_owned()));
    }
}

pub(super) fn unit_of(work: &Work) -> &'static str {
    match work {
        Work::Install { .. } => INSTALL,
        Work::Copy(_) => COPY,
        Work::Esp(_) => ESP,
        Work::Drop(_) => DROP,
        Work::Probe => PROBE,
    }
}

/// As its files are called.
pub(super) fn short(unit: &str) -> &str {
    unit.strip_prefix("update-").unwrap_or(unit)
}

fn ask(
    update: &Path,
    work: Work,
    record: &Record,
    release: &Release,
    schema: Option<u64>,
) -> Result<u64, String> {
    match work {
        Work::Install {
            source,
            slot,
            asked,
        } => {
            let rules = rules_of(record, release, schema, &asked);
            exchange::ask(
                update,
                "install",
                task::Install {
                    source,
                    slot,
                    rules,
                },
            )
        }
        Work::Copy(copy) => exchange::ask(update, "copy", copy),
        Work::Esp(esp) => exchange::ask(update, "esp", esp),
        Work::Drop(drop) => exchange::ask(update, "drop", drop),
        Work::Probe => Ok(0),
    }
}

/// What a bundle is judged by.
pub(super) fn rules_of(
    record: &Record,
    release: &Release,
    schema: Option<u64>,
    asked: &Asked,
) -> Rules {
    let of_machine = Rules {
        running: record.good.image.clone(),
        product: "atalaya".to_owned(),
        kind: release.mattermost.kind.clone(),
        architecture: std::env::consts::ARCH.to_owned(),
        schema,
        postgresql: release.postgresql.clone(),
        epoch_floor: 0,
        key_set: 0,
        quarantine: Vec::new(),
        allow_downgrade: false,
        allow_quarantined: false,
        // The appliance has no other than its own.
        external_database: false,
        external_backup: None,
    };
    machine::rules(record, asked, of_machine)
}

/// Of the database as the last complete start left it.
pub(super) fn read_schema(path: &Path) -> Option<u64> {
    let text = std::fs::read(path).ok()?;
    let record: atalaya_core::release::Record = serde_json::from_slice(&text).ok()?;
    Some(record.schema)
}

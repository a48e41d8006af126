//! The effects of an update. Each is carried out when those before it are; what takes long is a unit's work or a thread's.

use std::path::Path;

use atalaya_core::link::Action;
use atalaya_core::machine::State;
use atalaya_core::system::Input;
use atalaya_core::update::assess::Mode;
use atalaya_core::update::machine::{self, Effect, Event, Notice, Phase, Work};
use atalaya_core::update::record::{Reason, Record};
use atalaya_core::update::task::{self, Outcome, Refusal, Rules, Source};
use atalaya_sys::durable;

use super::super::{Message, Supervisor};
use super::News;
use crate::clock::{boottime_ms, wall_now};
use crate::maintenance::{self, Maintenance};
use crate::release::Release;
use crate::update::exchange;

pub(super) const INSTALL: &str = "update-install";
pub(super) const COPY: &str = "update-copy";
pub(super) const ESP: &str = "update-esp";
pub(super) const DROP: &str = "update-drop";
pub(super) const PROBE: &str = "probe";

/// After so long the start of the machine is waited for no more, in milliseconds.
const START_LIMIT_MS: u64 = 180_000;

impl Supervisor {
    pub(super) fn carry_out_update(&mut self, effect: Effect) {
        match effect {
            Effect::WriteRecord(record) => self.write_record(record),
            Effect::Start(work) if self.may_wait() => {
                if let Some(course) = &mut self.updates.course {
                    course.later = Some(work);
                }
            }
            Effect::Start(work) => self.start_work(work),
            Effect::Cancel(work) => self.apply(Input::Stop(unit_of(&work).to_owned())),
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

    /// Users are in, or will not be soon.
    pub(super) fn start_what_waited(&mut self) {
        let is_over = !self.may_wait();
        let course = self.updates.course.as_mut();
        let later = course
            .filter(|_| is_over)
            .and_then(|course| course.later.take());
        if let Some(work) = later {
            self.start_work(work);
        }
    }

    fn start_work(&mut self, work: Work) {
        let name = unit_of(&work);
        let Some((_, unit)) = self.system.unit(name) else {
            self.on_work_ended(name);
            return;
        };
        let before = unit.run();
        let is_active = unit.is_active() || matches!(unit.state(), State::Waiting);
        let Some(course) = &mut self.updates.course else {
            return;
        };
        if std::mem::take(&mut course.is_resumed) && before > 0 {
            // An earlier atalayad has started it. What it sent through its own hands ended with it.
            course.awaited.insert(name, before - 1);
            let was_sent = matches!(
                &work,
                Work::Install {
                    source: Source::File(_),
                    ..
                }
            );
            if was_sent && is_active {
                self.apply(Input::Stop(name.to_owned()));
            }
            if is_active || has_answer(&self.options.update(), name) || was_sent {
                return;
            }
        }
        let Some(course) = &mut self.updates.course else {
            return;
        };
        if is_active {
            // What is under way already is waited for.
            course.awaited.insert(name, before.saturating_sub(1));
            return;
        }
        course.awaited.remove(name);
        let (record, release) = (course.record.clone(), self.release.clone());
        let update = self.options.update();
        let schema = self.options.data.as_ref().map(|data| {
            data.join(format!(
                "gen/{}/release/mattermost.json",
                record.good.generation
            ))
        });
        let outbox = self.outbox.clone();
        // The schema stands on the disk, which may not answer.
        tokio::task::spawn_blocking(move || {
            let schema = schema.and_then(|path| read_schema(&path));
            let asked = ask(&update, work, &record, &release, schema);
            drop(outbox.send(Message::Update(News::Prepared(name, asked))));
        });
    }

    /// Its request is there.
    pub(super) fn on_prepared_work(&mut self, name: &'static str, prepared: Result<(), String>) {
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

fn unit_of(work: &Work) -> &'static str {
    match work {
        Work::Install { .. } => INSTALL,
        Work::Copy(_) => COPY,
        Work::Esp(_) => ESP,
        Work::Drop(_) => DROP,
        Work::Probe => PROBE,
    }
}

fn has_answer(update: &Path, unit: &str) -> bool {
    let short = unit.strip_prefix("update-").unwrap_or(unit);
    unit == PROBE || update.join(short).join("result.json").exists()
}

fn ask(
    update: &Path,
    work: Work,
    record: &Record,
    release: &Release,
    schema: Option<u64>,
) -> Result<(), String> {
    match work {
        Work::Install {
            source,
            slot,
            asked,
        } => {
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
            let rules = machine::rules(record, &asked, of_machine);
            exchange::ask(
                update,
                "install",
                &task::Install {
                    source,
                    slot,
                    rules,
                },
            )
        }
        Work::Copy(copy) => exchange::ask(update, "copy", &copy),
        Work::Esp(esp) => exchange::ask(update, "esp", &esp),
        Work::Drop(drop) => exchange::ask(update, "drop", &drop),
        Work::Probe => Ok(()),
    }
}

/// Of the database as the last complete start left it.
fn read_schema(path: &Path) -> Option<u64> {
    let text = std::fs::read(path).ok()?;
    let record: atalaya_core::release::Record = serde_json::from_slice(&text).ok()?;
    Some(record.schema)
}

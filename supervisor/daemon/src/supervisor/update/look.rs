//! What is looked at while an update goes on: whether the units that it has started have ended, and whether what takes long still gets anywhere.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use atalaya_core::machine::State;
use atalaya_core::system::Input;
use atalaya_core::update::machine::{Event, Failure, Phase};
use atalaya_core::update::task::{Copied, EspReport, Outcome, Refusal, Staged};
use atalaya_sys::cgroup::Cgroup;

use super::super::{Message, Supervisor};
use super::News;
use super::carry_out::{CLEAN, COPY, DROP, ESP, INSTALL, PROBE, short, unit_of};
use crate::clock::boottime_ms;
use crate::run::cgroup_of;
use crate::update::progress::{Seen, Watch, computed, read_patience_ms};
use crate::update::{boot, exchange};

/// Between two looks at a migration, in milliseconds.
const LOOK_EVERY_MS: u64 = 10_000;
/// Between two looks at what nobody needs any more, in milliseconds.
const TIDY_EVERY_MS: u64 = 3_600_000;
/// Without a byte for so long, an installation has ended, in milliseconds.
const STALLED_MS: u64 = 15 * 60 * 1000;
/// How long the network may take to give the machine its addresses, in milliseconds.
const ADDRESS_MS: u64 = 30_000;
/// Carries the database over to another major version.
const PG_UPGRADE: &str = "pg-upgrade";
/// Who works while a migration goes on.
const MIGRATING: [&str; 5] = [
    PG_UPGRADE,
    "postgres",
    "mattermost",
    "initdb",
    "first-administrator",
];

/// The watch over a migration.
#[derive(Default)]
pub(super) struct Migration {
    watch: Option<Watch>,
    looked_ms: u64,
    is_looking: bool,
}

/// The watch over an installation.
#[derive(Default)]
pub(super) struct Stall {
    /// What was done and fetched, and when that changed last.
    seen: Option<(u64, u64, u64)>,
    is_stalled: bool,
}

impl Supervisor {
    /// After everything that happens. When the machine ends, all units end with it, which says nothing of them: what this boot has begun is taken up
    /// by the next.
    pub(in crate::supervisor) fn look_at_update(&mut self) {
        if self.updates.course.is_none() || self.system.end().is_some() {
            return self.go_on_updating();
        }
        self.look_at_ends();
        self.look_at_services();
        if self.is_on_trial() {
            self.tell_what_failed();
        }
        self.start_what_waited();
        self.go_on_updating();
    }

    /// Every two seconds: at what tells nobody when it changes.
    pub(in crate::supervisor) fn look_after_update(&mut self) {
        if self.updates.course.is_none() || self.system.end().is_some() {
            return;
        }
        self.look_for_stick();
        self.look_at_addresses();
        self.look_at_migration();
        self.look_at_installation();
        self.look_at_leftovers();
        self.go_on_updating();
    }

    fn look_at_ends(&mut self) {
        let Some(course) = &self.updates.course else {
            return;
        };
        let ended: Vec<&'static str> = (course.awaited.iter())
            .filter(|(name, before)| self.has_ended(name, **before))
            .map(|(name, _)| *name)
            .collect();
        for name in ended {
            let Some(course) = &mut self.updates.course else {
                return;
            };
            course.awaited.remove(name);
            if course.later.iter().any(|work| unit_of(work) == name) {
                // It had still to do with what was before; what is waited for comes now.
                course.asked.remove(name);
            } else {
                self.on_work_ended(name);
            }
        }
    }

    pub(super) fn has_ended(&self, name: &str, before: u32) -> bool {
        let Some((_, machine)) = self.system.unit(name) else {
            return true;
        };
        let is_over = match machine.state() {
            State::Done | State::Failed { .. } | State::Stopped => true,
            State::Waiting
            | State::Starting(_)
            | State::Running
            | State::Stopping { .. }
            | State::Backoff { .. } => false,
        };
        machine.run() > before && is_over && !machine.is_active()
    }

    pub(super) fn on_work_ended(&mut self, name: &'static str) {
        let update = self.options.update();
        match name {
            INSTALL => {
                let outcome = self.outcome::<Staged>(INSTALL, &update);
                let Some(data) = self.options.data.clone() else {
                    return;
                };
                let places = self.slot_places(data);
                let outbox = self.outbox.clone();
                tokio::task::spawn_blocking(move || {
                    let other = boot::look_other(&places);
                    let event = Event::Installed(outcome, other.clone());
                    drop(outbox.send(Message::Update(News::Other(other, event))));
                });
            }
            COPY => {
                let outcome = self.outcome::<Copied>(COPY, &update);
                self.feed(Event::Copied(outcome));
            }
            ESP => {
                let outcome = self.outcome::<EspReport>(ESP, &update);
                if let Outcome::Done(report) = &outcome {
                    for step in &report.steps {
                        self.hub
                            .push("atalayad", &format!("boot partition: {step}"));
                    }
                }
                self.feed(Event::Entries(outcome));
            }
            PROBE => self.on_probed(),
            CLEAN => self.on_cleaned(),
            _ => {}
        }
    }

    /// What the unit has answered; where it could not, why.
    fn outcome<T: serde::de::DeserializeOwned>(&mut self, name: &str, update: &Path) -> Outcome<T> {
        let asked =
            (self.updates.course.as_ref()).and_then(|course| course.asked.get(name).copied());
        let is_stalled = (self.updates.course.as_mut())
            .is_some_and(|course| name == INSTALL && std::mem::take(&mut course.stall.is_stalled));
        if is_stalled {
            return Outcome::Refused(Refusal {
                code: "stalled".to_owned(),
                what: "nothing more of the bundle came for 15 minutes".to_owned(),
                data: "What runs was not changed.".to_owned(),
                next: "Check the line to where it comes from and try again: what has arrived is not written twice.".to_owned(),
            });
        }
        let answer = asked.map_or_else(
            || Err("it was not begun".to_owned()),
            |number| exchange::answer(update, short(name), number),
        );
        match answer {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused(Refusal {
                code: "unit".to_owned(),
                what: format!(
                    "{name} ended without an answer: {}",
                    self.end_of(name, &error)
                ),
                data: "What runs was not changed.".to_owned(),
                next: format!("See: atalaya logs -u {name}"),
            }),
        }
    }

    pub(super) fn end_of(&self, name: &str, error: &str) -> String {
        let machine = self.system.unit(name).map(|(_, machine)| machine);
        match machine.map(|machine| machine.state()) {
            Some(State::Failed { stage, reason }) => format!("it failed at {stage}: {reason}"),
            Some(State::Stopped) => "it was stopped".to_owned(),
            Some(
                State::Done
                | State::Waiting
                | State::Starting(_)
                | State::Running
                | State::Stopping { .. }
                | State::Backoff { .. },
            ) => error.to_owned(),
            None => "there is no such unit in this image".to_owned(),
        }
    }

    /// After a trial: the network may have given the machine another address than the one that its units were told.
    fn look_at_addresses(&mut self) {
        let now = boottime_ms();
        let facts = &self.report.facts;
        let Some(course) = &mut self.updates.course else {
            return;
        };
        let is_due = course
            .released_ms
            .is_some_and(|at| now.saturating_sub(at) >= ADDRESS_MS);
        if !is_due || facts.addresses.is_empty() {
            return;
        }
        course.released_ms = None;
        let before = &course.before.addresses;
        let is_reached = facts
            .addresses
            .iter()
            .any(|address| before.contains(address));
        let is_told = |address: &String| {
            facts
                .site
                .as_ref()
                .is_some_and(|site| site.contains(address))
        };
        if is_reached || !before.iter().any(is_told) {
            return;
        }
        self.say(
            "update",
            "the network has given this machine another address than before: what is served under its address starts again",
        );
        self.apply(Input::Restart("site-render".to_owned()));
    }

    /// Units have limits of their own; a migration has none, as long as it gets anywhere.
    fn look_at_migration(&mut self) {
        let now = boottime_ms();
        let Some(course) = &mut self.updates.course else {
            return;
        };
        let is_due = matches!(course.run.phase, Phase::Starting)
            && !course.migration.is_looking
            && now.saturating_sub(course.migration.looked_ms) >= LOOK_EVERY_MS;
        let Some(data) = self.options.data.clone().filter(|_| is_due) else {
            return;
        };
        course.migration.is_looking = true;
        course.migration.looked_ms = now;
        let cgroups: Vec<Cgroup> = (MIGRATING.iter())
            .filter_map(|name| self.system.unit(name))
            .map(|(unit, machine)| cgroup_of(&self.options, &unit.name, machine.run()))
            .collect();
        let generation = self.options.generation.unwrap_or_default();
        let (configuration, given) = (
            self.options.run.join("appliance.toml"),
            self.options.patience_ms,
        );
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || {
            let seen = Seen {
                now_ms: now,
                written: written(&data.join(format!("gen/{generation}/postgres"))),
                cpu_us: computed(&cgroups),
            };
            let patience_ms = given.unwrap_or_else(|| read_patience_ms(&configuration));
            drop(outbox.send(Message::Update(News::Seen(seen, patience_ms))));
        });
    }

    pub(super) fn on_seen(&mut self, seen: Seen, patience_ms: u64) {
        let Some(course) = &mut self.updates.course else {
            return;
        };
        course.migration.is_looking = false;
        if !matches!(course.run.phase, Phase::Starting) {
            return;
        }
        let is_stuck = match &mut course.migration.watch {
            Some(watch) => watch.is_stuck(seen, patience_ms),
            None => {
                course.migration.watch = Some(Watch::begin(seen));
                false
            }
        };
        if is_stuck {
            let waits_for = self.words();
            let what = format!(
                "nothing was written and nothing computed for {} while it waited ({waits_for})",
                atalaya_core::words::limit(patience_ms)
            );
            let log = self.last_words(self.migrating());
            self.break_trial(Failure { what, log });
        }
    }

    /// Whose words tell most of a migration.
    fn migrating(&self) -> &'static str {
        let unit = self.system.unit(PG_UPGRADE);
        if unit.is_some_and(|(_, machine)| machine.is_active()) {
            PG_UPGRADE
        } else {
            "mattermost"
        }
    }

    /// One that gets no further is ended: a deadline for lines that are silent for ever.
    fn look_at_installation(&mut self) {
        let (now, update) = (boottime_ms(), self.options.update());
        let Some(course) = &mut self.updates.course else {
            return;
        };
        if !matches!(course.run.phase, Phase::Installing) || course.stall.is_stalled {
            return;
        }
        let (done, fetched) = exchange::progress(&update)
            .map_or((0, 0), |progress| (progress.done, progress.fetched));
        match course.stall.seen {
            Some((before, read, since)) if (before, read) == (done, fetched) => {
                if now.saturating_sub(since) >= STALLED_MS {
                    course.stall.is_stalled = true;
                    self.apply(Input::Stop(INSTALL.to_owned()));
                }
            }
            Some(_) | None => course.stall.seen = Some((done, fetched, now)),
        }
    }

    /// Old generations go after a while, or when their space is needed.
    fn look_at_leftovers(&mut self) {
        let (now, short) = (boottime_ms(), self.room() != "enough");
        let Some(course) = &mut self.updates.course else {
            return;
        };
        let pause = if short {
            TIDY_EVERY_MS / 60
        } else {
            TIDY_EVERY_MS
        };
        let is_due = course.tidied_ms == 0 || now.saturating_sub(course.tidied_ms) >= pause;
        let Some(data) = self.options.data.clone() else {
            return;
        };
        if !is_due || !matches!(course.run.phase, Phase::Rest) || course.awaited.contains_key(DROP)
        {
            return;
        }
        course.tidied_ms = now.max(1);
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || {
            let mut present = boot::generations(&data);
            present.extend(boot::leftovers(&data));
            let news = News::Happened(Event::Tidy { present, short });
            drop(outbox.send(Message::Update(news)));
        });
    }
}

/// How far the database's log is: the newest time at which a file of it changed, and how many there are.
fn written(postgres: &Path) -> Option<String> {
    let versions = std::fs::read_dir(postgres).ok()?;
    let places = versions
        .flatten()
        .map(|version| version.path().join("pg_wal"));
    let files: Vec<PathBuf> = places
        .filter_map(|place| std::fs::read_dir(place).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .collect();
    let times = files.iter().filter_map(|file| {
        let changed = std::fs::metadata(file).ok()?.modified().ok()?;
        Some(changed.duration_since(UNIX_EPOCH).ok()?.as_nanos())
    });
    Some(format!("{:?} {}", times.max(), files.len()))
}

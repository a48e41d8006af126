//! What people and programs are shown: the state as JSON. Everything in it is derived from the units' states or was found out by
//! looking; nothing is decided here.

use std::collections::BTreeSet;

use atalaya_core::boot::slowest_chain;
use atalaya_core::machine::{Desired, Machine, State};
use atalaya_core::unit::{Kind, Unit};
use atalaya_core::why::{explain, is_wrong};
use atalaya_core::words::size;
use serde_json::{Value, json};

use super::Supervisor;
use super::certificate::Certificate;
use super::facts::Figures;
use crate::clock::{boottime_ms, wall_ms, wall_now};
use crate::run::cgroup_of;
use crate::space::Level;
use crate::upstream::describe;
use crate::usage::{Process, Usage, processes};

/// Last lines of a unit that are shown with its cause.
const LAST_WORDS: usize = 6;
/// The unit with which users come in.
const END_OF_START: &str = "first-administrator";

impl Supervisor {
    pub(super) fn status(&self) -> Value {
        let facts = &self.report.facts;
        let units: Vec<Value> = self
            .system
            .units()
            .map(|(unit, machine)| self.view(unit, machine))
            .collect();
        json!({
            "state": self.words(),
            "wrong": self.wrong(),
            "admit": self.is_admitting(),
            "maintenance": self.maintenance,
            "stopping": self.system.end(),
            "version": self.release.version,
            "build": self.release.build,
            "slot": self.options.slot,
            "boot_id": self.hub.boot(),
            "mattermost": self.release.mattermost.version,
            "standin": self.release.is_standin(),
            "postgresql": self.release.postgresql,
            "site": facts.site,
            "addresses": facts.addresses,
            "fingerprint": facts.fingerprint(),
            "certificate": facts.certificate.clone().map(|mut report| {
                if let (Some(read), Some(fields)) = (Certificate::read(&report), report.as_object_mut()) {
                    fields.insert("words".to_owned(), json!(read.words(now_s())));
                }
                report
            }),
            "seed": facts.seed,
            "update": self.update_summary(),
            "probe_user": facts.probe_user,
            "data": self.options.data.is_some(),
            "room": self.room(),
            "disk": self.footing.room.map(|room| json!({ "total": room.total, "free": room.free })),
            "last_boot": self.hub.last_boot(),
            "time": wall_now(),
            // The image has no other.
            "zone": "UTC",
            "up_ms": boottime_ms(),
            "supervisor": { "pid": std::process::id(), "started_ms": self.report.times.began_ms },
            "figures": Figures::read(),
            "units": units,
        })
    }

    /// All that a screen shows. What is only for somebody in front of the machine is only here.
    pub(super) fn screen(&self) -> Value {
        let mut screen = self.status();
        if let Some(fields) = screen.as_object_mut() {
            fields.insert("messages".to_owned(), json!(self.console.messages()));
            fields.insert("first_log_in".to_owned(), json!(self.report.facts.password));
            fields.insert("units".to_owned(), json!(self.units()));
        }
        screen
    }

    /// Every unit with what it uses.
    pub(super) fn units(&self) -> Vec<Value> {
        self.system
            .units()
            .map(|(unit, machine)| self.view_with_usage(unit, machine))
            .collect()
    }

    pub(super) fn view_with_usage(&self, unit: &Unit, machine: &Machine) -> Value {
        let mut view = self.view(unit, machine);
        if let Some(fields) = view.as_object_mut() {
            let usage = machine.is_active().then(|| {
                let cgroup = cgroup_of(&self.options, &unit.name, machine.run());
                Usage::read(&cgroup)
            });
            fields.insert("usage".to_owned(), json!(usage));
        }
        view
    }

    pub(super) fn view(&self, unit: &Unit, machine: &Machine) -> Value {
        let now = boottime_ms();
        let live = self.lives.get(&unit.name);
        json!({
            "name": unit.name,
            "description": unit.description,
            "type": unit.kind,
            "state": machine.state().word(),
            "words": describe(machine),
            "desired": match machine.desired() { Desired::Up => "up", Desired::Down => "down" },
            "ready": machine.is_ready(),
            "wrong": is_wrong(machine),
            "reloading": machine.is_reloading(),
            "handing_over": machine.is_handing_over(),
            "ready_since_ms": machine.ready_since_ms(),
            "running_for_ms": machine.running_since_ms().map(|since| now.saturating_sub(since)),
            "reason": machine.reason(),
            "pid": machine.pid(),
            "run": machine.run(),
            "last_exit": machine.last_end(),
            "says": live.and_then(|live| live.words.as_deref()),
            "listens": (self.sockets.get(&unit.name)).map(|sockets| {
                sockets.iter().map(|socket| &socket.place).collect::<Vec<_>>()
            }),
            "stored": self.stores.get(&unit.name).map_or(0, Vec::len),
            "last_lines": matches!(machine.state(), State::Failed { .. } | State::Backoff { .. })
                .then(|| self.last_words(&unit.name)),
            "cannot_be_killed": machine.is_stuck().then(|| {
                let cgroup = cgroup_of(&self.options, &unit.name, machine.run());
                processes(&cgroup).iter().map(Process::words).collect::<Vec<_>>()
            }),
            "result": match unit.kind {
                Kind::Oneshot => self.report.voices.get(&unit.name).map(|voice| voice.last()),
                Kind::Service => None,
            },
        })
    }

    pub(super) fn why(&self, name: &str) -> Option<Value> {
        let why = explain(&self.system, name, boottime_ms())?;
        let words = if why.wrong {
            self.last_words(&why.cause)
        } else {
            Vec::new()
        };
        let mut value = json!(why);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("last_words".to_owned(), json!(words));
        }
        Some(value)
    }

    /// What it needs, what needs it, and what a stop of it would stop too.
    pub(super) fn deps(&self, name: &str) -> Option<Value> {
        let (unit, _) = self.system.unit(name)?;
        let graph = self.system.graph();
        let describe_all = |names: &mut dyn Iterator<Item = &str>| -> Vec<Value> {
            names
                .filter_map(|name| self.system.unit(name))
                .map(|(unit, machine)| {
                    json!({ "name": unit.name, "description": unit.description, "state": machine.state().word(),
                            "ready": machine.is_ready() })
                })
                .collect()
        };
        let mut above = BTreeSet::new();
        let mut to_visit = vec![name];
        while let Some(name) = to_visit.pop() {
            for dependant in graph.dependants(name) {
                if above.insert(dependant) {
                    to_visit.push(dependant);
                }
            }
        }
        let stops_too = |name: &&&str| {
            self.system
                .unit(name)
                .is_some_and(|(_, machine)| machine.is_active() || *machine.state() == State::Done)
        };
        Some(json!({
            "name": name,
            "requires": describe_all(&mut unit.requires.iter().map(String::as_str)),
            "after": describe_all(&mut unit.after.iter().map(String::as_str)),
            "required_by": describe_all(&mut graph.dependants(name)),
            "before": describe_all(&mut graph.followers(name).filter(|other| {
                graph.dependants(name).all(|dependant| dependant != *other)
            })),
            "stops_too": describe_all(&mut above.iter().filter(stops_too).copied()),
        }))
    }

    /// What the start took.
    pub(super) fn boot(&self) -> Value {
        let spans = self.report.times.spans();
        let needs = |name: &str| {
            self.system.unit(name).map_or_else(Vec::new, |(unit, _)| {
                unit.requires.iter().chain(&unit.after).cloned().collect()
            })
        };
        json!({
            "supervisor_ms": self.report.times.began_ms,
            "chain": slowest_chain(&spans, Some(END_OF_START), needs),
            "units": spans,
        })
    }

    /// The newest lines of a unit that are in memory.
    pub(super) fn last_words(&self, name: &str) -> Vec<String> {
        let lines = self.hub.last_words(name, LAST_WORDS);
        lines
            .iter()
            .map(|line| line.chars().take(400).collect())
            .collect()
    }

    /// What is wrong, the worst first, a sentence each.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.options.data.is_none() {
            wrong.push("The data partition is not there: nothing is kept.".to_owned());
        }
        if self.footing.level != Level::Enough
            && let Some(room) = self.footing.room
        {
            wrong.push(format!(
                "There is little room on /data: {} are free of {}. Make the disk larger, or let users delete files.",
                size(room.free),
                size(room.total)
            ));
        }
        wrong.extend(self.updates.alarms.iter().cloned());
        let now = boottime_ms();
        let mut failing: Vec<_> = self
            .system
            .units()
            .filter(|(_, machine)| is_wrong(machine))
            .collect();
        failing.sort_by_key(|(_, machine)| !matches!(machine.state(), State::Failed { .. }));
        wrong.extend(failing.iter().filter_map(|(unit, _)| {
            explain(&self.system, &unit.name, now)?
                .chain
                .into_iter()
                .next()
        }));
        if let Some(error) = self
            .report
            .facts
            .seed
            .as_ref()
            .and_then(|seed| seed.error.as_ref())
        {
            wrong.push(format!(
                "The seed was refused, and what was set before holds: {error}"
            ));
        }
        let facts = &self.report.facts;
        let certificate = facts.certificate.as_ref().and_then(Certificate::read);
        wrong.extend(certificate.and_then(|certificate| certificate.wrong(now_s())));
        wrong.extend(facts.settings.wrong());
        wrong
    }
}

/// Seconds since 1970.
fn now_s() -> i64 {
    i64::try_from(wall_ms() / 1000).unwrap_or(i64::MAX)
}

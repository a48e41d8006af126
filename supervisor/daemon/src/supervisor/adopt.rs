//! Taking over from an atalayad that died: from the records and descriptors that init kept, and the exits that nobody
//! has acknowledged. Units that run go on running; they notice nothing.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use atalaya_core::link::{Action, FromInit, ToInit};
use atalaya_core::machine::{Machine, StartPhase, State};
use atalaya_core::system::Input;
use serde::{Deserialize, Serialize};

use super::{Live, Supervisor};
use crate::link::Message;
use crate::run::{cgroup_name, cgroup_of, parse_cgroup_name};

/// Of everything kept. A record of another version is left alone.
const VERSION: u32 = 1;

/// How one unit fares.
#[derive(Serialize, Deserialize)]
pub(super) struct UnitRecord {
    version: u32,
    machine: Machine,
}

impl UnitRecord {
    pub(super) fn new(machine: &Machine) -> Self {
        Self {
            version: VERSION,
            machine: machine.clone(),
        }
    }
}

/// What concerns all units.
#[derive(Serialize, Deserialize)]
struct SystemRecord {
    version: u32,
    /// The wanted units were started in this boot.
    started: bool,
    /// What is being stopped, as soon as nothing needs it.
    stopping: Vec<String>,
    end: Option<Action>,
}

impl Supervisor {
    pub(super) fn adopt(&mut self, kept: Vec<Message>) {
        let mut system: Option<SystemRecord> = None;
        let mut runs: BTreeMap<String, Vec<OwnedFd>> = BTreeMap::new();
        let mut names = Vec::new();
        let mut later = Vec::new();
        for Message { message, fds } in kept {
            match message {
                FromInit::Kept { name, record } => match name.split_once('/') {
                    Some(("unit", unit)) => names.extend(self.restore(unit, &record)),
                    Some(("run", run)) => drop(runs.insert(run.to_owned(), fds)),
                    _ if name == "system" => system = serde_json::from_str(&record).ok(),
                    _ => {}
                },
                FromInit::Exited { .. } | FromInit::Request { .. } => {
                    later.push(Message { message, fds })
                }
                FromInit::Welcome { deaths, .. } if deaths > 0 => {
                    self.say(
                        "atalayad",
                        &format!("started again after its death number {deaths} in this boot"),
                    );
                }
                FromInit::Drained { .. }
                | FromInit::Notified { .. }
                | FromInit::Welcome { .. }
                | FromInit::KeptEnd => {}
            }
        }
        let mut restored = Vec::new();
        for unit in names {
            let pid = self.take_over(&unit, &mut runs, &later);
            restored.push((unit, pid));
        }
        self.apply(Input::Adopt(restored));
        for message in later {
            self.on_link(message);
        }
        let system = system.filter(|record| record.version == VERSION);
        if !system.as_ref().is_some_and(|record| record.started) {
            self.apply(Input::StartWanted);
            self.keep_system();
        }
        let Some(system) = system else { return };
        for unit in system.stopping {
            self.apply(Input::Stop(unit));
        }
        if let Some(end) = system.end {
            self.end(end, "the former atalayad");
        }
    }

    /// The unit's name, if it is one of this image's and its record can be used.
    fn restore(&mut self, unit: &str, record: &str) -> Option<String> {
        let record = serde_json::from_str::<UnitRecord>(record).ok();
        let Some(record) = record.filter(|record| record.version == VERSION) else {
            let text = format!("the kept record of {unit} cannot be read and is left alone");
            self.hub.push("atalayad", &text);
            return None;
        };
        self.system.restore(unit, record.machine).ok()?;
        self.remember(unit);
        Some(unit.to_owned())
    }

    /// Takes up the unit's pipe, socket and process; tells its pid.
    fn take_over(
        &mut self,
        unit: &str,
        runs: &mut BTreeMap<String, Vec<OwnedFd>>,
        later: &[Message],
    ) -> Option<i32> {
        let (_, machine) = self.system.unit(unit)?;
        if !machine.is_active() {
            return None;
        }
        let run = machine.run();
        let pid = machine.pid().or_else(|| self.find_main(unit, run, later));
        let mut live = Live::new(run);
        let mut fds = runs
            .remove(&cgroup_name(unit, run))
            .unwrap_or_default()
            .into_iter();
        if let Some(log) = fds.next() {
            live.pump = Some(self.start_pump(unit, log));
        }
        if let Some(notify) = fds.next() {
            live.tasks.extend(self.watch_notify(unit, run, notify));
        }
        live.pidfd = fds
            .next()
            .or_else(|| pid.and_then(|pid| atalaya_sys::pidfd::open(pid).ok()));
        self.lives.insert(unit.to_owned(), live);
        pid
    }

    /// The process of a run whose record was never completed: atalayad died between making it and writing it down.
    fn find_main(&self, unit: &str, run: u32, later: &[Message]) -> Option<i32> {
        let (_, machine) = self.system.unit(unit)?;
        if *machine.state() != State::Starting(StartPhase::Forking) {
            return None;
        }
        let ended = later.iter().find_map(|message| match &message.message {
            FromInit::Exited { pid, cgroup, .. }
                if parse_cgroup_name(cgroup) == Some((unit, run)) =>
            {
                Some(*pid)
            }
            FromInit::Exited { .. }
            | FromInit::Welcome { .. }
            | FromInit::Kept { .. }
            | FromInit::Drained { .. }
            | FromInit::Notified { .. }
            | FromInit::KeptEnd
            | FromInit::Request { .. } => None,
        });
        // The first process of a new cgroup has the lowest pid but for a wrap of the counter.
        ended.or_else(|| {
            cgroup_of(&self.options, unit, run)
                .pids()
                .ok()?
                .into_iter()
                .min()
        })
    }

    pub(super) fn keep_system(&mut self) {
        let record = SystemRecord {
            version: VERSION,
            started: true,
            stopping: self.system.stopping().map(str::to_owned).collect(),
            end: self.system.end(),
        };
        if let Ok(record) = serde_json::to_string(&record) {
            self.tell_init(&ToInit::Keep {
                name: "system".to_owned(),
                record,
                stop: None,
            });
        }
    }
}

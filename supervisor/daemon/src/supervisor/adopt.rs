//! Taking over from an atalayad that died: from the records and descriptors that init kept, what it heard meanwhile, and
//! the exits that nobody has acknowledged. Units that run go on running; they notice nothing.
//!
//! What another version has written down is left alone, and so are the processes that it speaks of: such a unit is not
//! started, and no start of it succeeds while they live.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use atalaya_core::link::{Action, FromInit};
use atalaya_core::machine::{Machine, StartPhase, State};
use atalaya_core::system::Input;
use atalaya_sys::cgroup::Cgroup;
use serde::{Deserialize, Serialize};

use super::{Live, Supervisor};
use crate::link::Message;
use crate::listen::{Place, Socket};
use crate::notify::{self, Heard};
use crate::run::{cgroup_name, cgroup_of, parse_cgroup_name};

/// Of everything kept. A record of another version is left alone.
const VERSION: u32 = 3;
/// Of what a unit said while nobody read, init keeps at most so much, in bytes.
const DRAINED_LIMIT: u64 = 64 * 1024;

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

/// Read first: the rest of another version's record may be anything.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
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

/// The record, if it is of this version.
///
/// # Errors
/// What to say about it.
fn read_record<'a, R: Deserialize<'a>>(record: &'a str) -> Result<R, String> {
    match serde_json::from_str::<Versioned>(record) {
        Ok(Versioned { version }) if version != VERSION => Err(format!(
            "is of version {version} and this atalayad speaks version {VERSION}"
        )),
        Ok(_) => serde_json::from_str(record).map_err(|error| format!("cannot be read ({error})")),
        Err(error) => Err(format!("cannot be read ({error})")),
    }
}

/// What init kept of one run.
#[derive(Default)]
struct Kept {
    fds: Vec<OwnedFd>,
    errors: Vec<OwnedFd>,
    drained: Option<(OwnedFd, u64)>,
    notified: Vec<Heard>,
}

impl Supervisor {
    pub(super) fn adopt(&mut self, kept: Vec<Message>) {
        let mut system = None;
        let mut runs: BTreeMap<String, Kept> = BTreeMap::new();
        let mut names = Vec::new();
        let mut later = Vec::new();
        for Message { message, fds } in kept {
            match message {
                FromInit::Kept { name, record } => match name.split_once('/') {
                    Some(("unit", unit)) => names.extend(self.restore(unit, &record)),
                    Some(("run", run)) => runs.entry(run.to_owned()).or_default().fds = fds,
                    Some(("err", run)) => runs.entry(run.to_owned()).or_default().errors = fds,
                    Some(("listen", unit)) => self.restore_sockets(unit, &record, fds),
                    Some(("store", unit)) => self.restore_store(unit, &record, fds),
                    _ if name == "system" => system = Some(record),
                    _ => {}
                },
                FromInit::Drained { name, dropped } => {
                    if let (Some(run), Some(text)) =
                        (name.strip_prefix("run/"), fds.into_iter().next())
                    {
                        runs.entry(run.to_owned()).or_default().drained = Some((text, dropped));
                    }
                }
                // init has checked its sender.
                FromInit::Notified { name, text, .. } => {
                    if let (Some(run), Ok(words)) =
                        (name.strip_prefix("run/"), notify::parse(text.as_bytes()))
                    {
                        let heard = Heard { words, fds };
                        runs.entry(run.to_owned()).or_default().notified.push(heard);
                    }
                }
                FromInit::Exited { .. } | FromInit::Request { .. } => {
                    later.push(Message { message, fds })
                }
                FromInit::Welcome { deaths, .. } if deaths > 0 => {
                    self.say(
                        "atalayad",
                        &format!("started again after its death number {deaths} in this boot"),
                    );
                }
                FromInit::Welcome { .. } | FromInit::KeptEnd => {}
            }
        }
        let mut restored = Vec::new();
        let mut said = Vec::new();
        for unit in names {
            let pid = self.take_over(&unit, &mut runs, &later, &mut said);
            restored.push((unit, pid));
        }
        self.apply(Input::Adopt(restored));
        // Said before any exit that is told now.
        for (unit, run, heard) in said {
            self.on_notified(&unit, run, heard);
        }
        for message in later {
            self.on_link(message);
        }
        self.find_strangers();
        self.go_on(system.as_deref());
    }

    /// As the former one was about to.
    fn go_on(&mut self, record: Option<&str>) {
        let system = match record.map(read_record::<SystemRecord>) {
            None => None,
            Some(Ok(system)) => Some(system),
            Some(Err(problem)) => {
                self.say(
                    "atalayad",
                    &format!("what was kept about all services {problem}. It is left alone, and so are they: nothing is started or \
                              stopped. Reboot to start them with this version"),
                );
                return;
            }
        };
        // The course of an update says itself what is started.
        if self.is_on_course() {
            let started = system.as_ref().is_some_and(|record| record.started);
            self.begin_update_start(started);
        } else if !system.as_ref().is_some_and(|record| record.started) {
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
        match read_record::<UnitRecord>(record) {
            Ok(record) => {
                self.system.restore(unit, record.machine).ok()?;
                self.remember(unit);
                Some(unit.to_owned())
            }
            Err(problem) => {
                let text = format!("the kept record of {unit} {problem}: it is left alone");
                self.say("atalayad", &text);
                None
            }
        }
    }

    fn restore_sockets(&mut self, unit: &str, record: &str, fds: Vec<OwnedFd>) {
        if let Ok(places) = serde_json::from_str::<Vec<Place>>(record)
            && places.len() == fds.len()
        {
            let sockets = places.into_iter().zip(fds);
            let sockets = sockets.map(|(place, fd)| Socket { place, fd }).collect();
            self.sockets.insert(unit.to_owned(), sockets);
        }
    }

    fn restore_store(&mut self, unit: &str, record: &str, fds: Vec<OwnedFd>) {
        if let Ok(names) = serde_json::from_str::<Vec<String>>(record)
            && names.len() == fds.len()
        {
            self.stores
                .insert(unit.to_owned(), names.into_iter().zip(fds).collect());
        }
    }

    /// Takes up the unit's pipe, socket and process; tells its pid. What it said meanwhile is added to `said`.
    fn take_over(
        &mut self,
        name: &str,
        runs: &mut BTreeMap<String, Kept>,
        later: &[Message],
        said: &mut Vec<(String, u32, Heard)>,
    ) -> Option<i32> {
        let (unit, machine) = self.system.unit(name)?;
        if !machine.is_active() {
            return None;
        }
        let unit = unit.clone();
        let run = machine.run();
        let known = machine.pid();
        let pid = known.or_else(|| self.find_main(name, run, later));
        let is_found = known.is_none() && pid.is_some();
        let mut live = Live::new(run);
        live.pid = pid;
        if machine.ran_out_of_memory() {
            let usage = crate::usage::Usage::read(&cgroup_of(&self.options, name, run));
            live.oom_kills = usage.oom_kills.unwrap_or(0);
        }
        let kept = runs.remove(&cgroup_name(name, run)).unwrap_or_default();
        said.extend(
            kept.notified
                .into_iter()
                .map(|heard| (name.to_owned(), run, heard)),
        );
        if let Some((text, dropped)) = kept.drained {
            self.take_drained(name, text, dropped);
        }
        let mut fds = kept.fds.into_iter();
        if let Some(log) = fds.next() {
            let errors = kept.errors.into_iter().next();
            live.errors = errors.as_ref().and_then(|errors| errors.try_clone().ok());
            live.log = log.try_clone().ok();
            live.pump = Some(self.start_pump(name, log, errors));
        }
        if let Some(notify) = fds.next() {
            let notify = Arc::new(notify);
            live.tasks
                .extend(self.watch_notify(&unit, run, Arc::clone(&notify)));
            live.notify = Some(notify);
        }
        live.pidfd = fds
            .next()
            .or_else(|| pid.and_then(|pid| atalaya_sys::pidfd::open(pid).ok()));
        // It may be a child of another process of the unit, by MAINPID.
        let process = live
            .pidfd
            .as_ref()
            .and_then(|process| process.try_clone().ok());
        if let (Some(pid), Some(process)) = (pid, process) {
            live.tasks.extend(self.watch_main(name, run, pid, process));
        }
        let cgroup = cgroup_of(&self.options, name, run);
        live.tasks.extend(self.watch_memory(name, run, &cgroup));
        self.lives.insert(name.to_owned(), live);
        if is_found {
            // The former atalayad died before it could write the process down.
            self.keep_run(name, run);
        }
        pid
    }

    /// What the unit said while init read its pipe.
    fn take_drained(&mut self, unit: &str, text: OwnedFd, dropped: u64) {
        let mut file = File::from(text);
        let mut bytes = Vec::new();
        // What cannot be read is lost like the rest.
        if file.rewind().is_ok() {
            file.take(DRAINED_LIMIT).read_to_end(&mut bytes).ok();
        }
        self.hub.push_drained(unit, &bytes, dropped);
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

    /// Cgroups of runs that nobody has told us of. Empty ones go; processes in the others are not ours to end.
    fn find_strangers(&mut self) {
        let entries = std::fs::read_dir(self.options.cgroup.join("units"));
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((unit, run)) = parse_cgroup_name(&name) else {
                continue;
            };
            let is_ours = (self.system.unit(unit))
                .is_some_and(|(_, machine)| machine.run() == run && machine.is_active());
            if is_ours {
                continue;
            }
            let cgroup = Cgroup::at(entry.path());
            if !cgroup.populated().unwrap_or(true) {
                drop(cgroup.remove());
                continue;
            }
            self.say(
                "atalayad",
                &format!("{name} holds processes that another version has started: they are left alone, and {unit} is not started"),
            );
            self.strangers
                .entry(unit.to_owned())
                .or_default()
                .push(cgroup);
        }
    }

    /// Why the unit cannot be started: somebody else's processes of it still live.
    pub(super) fn stranger_of(&self, unit: &str) -> Option<String> {
        let living = self.strangers.get(unit)?.iter();
        let cgroup = living
            .clone()
            .find(|cgroup| cgroup.populated().unwrap_or(true))?;
        let name = cgroup
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Some(format!(
            "processes that another version of atalayad has started still live in {name}"
        ))
    }

    pub(super) fn keep_system(&mut self) {
        let record = SystemRecord {
            version: VERSION,
            started: true,
            stopping: self.system.stopping().map(str::to_owned).collect(),
            end: self.system.end(),
        };
        if let Ok(record) = serde_json::to_string(&record) {
            self.keep("system".to_owned(), record, None, &[]);
        }
    }
}

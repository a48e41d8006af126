//! The units that users need, as an update stops and starts them. Which there are follows from their files; when each stops is the graph's
//! business.

use atalaya_core::machine::{Desired, Machine, State};
use atalaya_core::system::Input;
use atalaya_core::unit::{DataSource, Unit};
use atalaya_core::update::machine::{Event, Failure};

use super::super::{Message, Supervisor};
use super::News;
use super::boot::is_trial;
use crate::clock::boottime_ms;
use crate::update::network::{self, Before};
use crate::upstream::{PATH, describe};

/// What is waited for.
pub(super) enum Wait {
    /// None of these is active any more.
    Stop(Vec<String>),
    /// Users could be let in.
    Start {
        /// Since when only an interface is missing, in milliseconds.
        missing_ms: Option<u64>,
    },
}

/// So many starts without getting ready end a trial.
const STARTS: u32 = 3;

/// How long a network interface may take, when all else is ready: nothing in a trial waits for the devices to be through.
const INTERFACE_MS: u64 = 60_000;

/// The last on the way in, beside those that [`PATH`] names.
const EDGE: &str = "edge";

/// Migrates the database when it starts.
const MIGRATES: &str = "mattermost";

/// Held back in a trial, with all that requires it: without it no interface is up, so nothing leaves the machine.
const NETWORK: &str = "networkd";

/// Whether it uses the generation's data.
pub(in crate::supervisor) fn uses_generation(unit: &Unit) -> bool {
    let mounts = unit.sandbox.data.iter().chain(&unit.sandbox.data_read);
    mounts
        .into_iter()
        .any(|mount| matches!(mount.source, DataSource::Generation(_)))
}

impl Supervisor {
    /// Those that are up and write, or might, into the data that are copied next.
    pub(super) fn stop_services(&mut self) {
        let users = |(unit, machine): (&Unit, &Machine)| {
            (uses_generation(unit) && machine.is_active()).then(|| unit.name.clone())
        };
        let names: Vec<String> = self.system.units().filter_map(users).collect();
        for name in &names {
            self.apply(Input::Stop(name.clone()));
        }
        self.keep_system();
        if let Some(course) = &mut self.updates.course {
            course.services = Some(Wait::Stop(names));
        }
    }

    /// All wanted ones that this boot allows, in the order of the graph.
    pub(super) fn start_services(&mut self) {
        let wanted: Vec<String> = (self.system.units())
            .filter(|(unit, machine)| unit.wanted && machine.desired() == Desired::Down)
            .map(|(unit, _)| unit.name.clone())
            .collect();
        for name in wanted {
            if self.is_allowed(&name) && !self.is_held_back(&name) {
                self.apply(Input::Start(name));
            }
        }
        self.keep_system();
        if let Some(course) = &mut self.updates.course {
            course.services = Some(Wait::Start { missing_ms: None });
        }
    }

    /// Before a boot may touch its data, or where it has none: what needs none, such as the screens.
    pub(super) fn start_without_data(&mut self) {
        let wanted = self.system.units().filter(|(unit, _)| unit.wanted);
        let wanted: Vec<String> = wanted.map(|(unit, _)| unit.name.clone()).collect();
        for name in wanted {
            // The network comes after the machine's identity, which is in the data.
            if self.is_free(&name) && !self.stands_on(&name, NETWORK) {
                self.apply(Input::Start(name));
            }
        }
        self.keep_system();
    }

    /// In a boot that has no data only what needs none.
    fn is_allowed(&self, name: &str) -> bool {
        self.options.generation.is_some() || self.is_free(name)
    }

    fn is_free(&self, name: &str) -> bool {
        let is_free = (self.system.unit(name)).is_some_and(|(unit, _)| !uses_generation(unit));
        let mut required = self.system.graph().requires(name).iter();
        is_free && required.all(|required| self.is_free(required))
    }

    /// In a trial: the network and what stands on it.
    fn is_held_back(&self, name: &str) -> bool {
        let is_trial = (self.updates.course.as_ref()).is_some_and(|course| is_trial(&course.mode));
        is_trial && !self.options.run.join("blessed").exists() && self.stands_on(name, NETWORK)
    }

    fn stands_on(&self, name: &str, ground: &str) -> bool {
        let mut required = self.system.graph().requires(name).iter();
        name == ground || required.any(|required| self.stands_on(required, ground))
    }

    /// The trial is over: the network, and with it everything that sends.
    pub(super) fn release_network(&mut self) {
        if let Err(error) = network::release(&self.options.update()) {
            self.say("atalayad", &error);
        }
        let held: Vec<String> = (self.system.units())
            .filter(|(unit, machine)| unit.wanted && machine.desired() == Desired::Down)
            .map(|(unit, _)| unit.name.clone())
            .collect();
        for name in held {
            if self.stands_on(&name, NETWORK) {
                self.apply(Input::Start(name));
            }
        }
        self.keep_system();
        if let Some(course) = &mut self.updates.course {
            course.released_ms = Some(boottime_ms());
        }
    }

    /// Tells when what is waited for has come, or cannot come any more.
    pub(super) fn look_at_services(&mut self) {
        let Some(course) = &self.updates.course else {
            return;
        };
        match &course.services {
            None => {}
            Some(Wait::Stop(names)) => {
                let names = names.clone();
                self.look_at_stop(&names);
            }
            Some(Wait::Start { .. }) => self.look_at_start(),
        }
    }

    fn look_at_stop(&mut self, names: &[String]) {
        let active = |name: &&String| {
            self.system
                .unit(name)
                .is_some_and(|(_, machine)| machine.is_active())
        };
        let stuck = names
            .iter()
            .find(|name| (self.system.unit(name)).is_some_and(|(_, machine)| machine.is_stuck()));
        if let Some(name) = stuck {
            let what = format!("{name} cannot be stopped: its processes wait for a device");
            let failure = Failure {
                what,
                log: self.last_words(name),
            };
            self.end_wait();
            self.feed(Event::Stopped(Err(failure)));
            return;
        }
        if names.iter().any(|name| active(&name)) {
            return;
        }
        self.end_wait();
        let (Some(data), Some(course)) = (self.options.data.clone(), &self.updates.course) else {
            return;
        };
        let before = Before {
            addresses: self.report.facts.addresses.clone(),
            skipped: course.before.skipped.clone(),
            failed: self.failed_units(),
        };
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || {
            let stopped = match network::keep(&data, &before) {
                Ok(()) => Ok(network::interfaces()),
                Err(error) => Err(Failure {
                    what: format!("the machine's addresses could not be kept: {error}"),
                    log: Vec::new(),
                }),
            };
            let news = News::Happened(Event::Stopped(stopped));
            drop(outbox.send(Message::Update(news)));
        });
    }

    fn look_at_start(&mut self) {
        if self.is_on_trial() && (self.tell_failed_migration() || self.tell_what_failed()) {
            return;
        }
        let is_missing = |name: &&str| {
            self.system
                .unit(name)
                .is_some_and(|(_, machine)| !machine.is_ready())
        };
        if PATH.iter().chain(&[EDGE]).any(is_missing) {
            return;
        }
        if self.is_on_trial() {
            let there = network::interfaces();
            let before = self.interfaces_before();
            if let Some(gone) = before.iter().find(|name| !there.contains(name)) {
                if self.may_still_come() {
                    return;
                }
                let what = format!(
                    "the network interface {gone}, which the machine had before, is not there: it would not be reached any more"
                );
                self.break_trial(Failure {
                    what,
                    log: Vec::new(),
                });
                return;
            }
        }
        self.end_wait();
        self.feed(Event::Ready);
    }

    /// A device that is late is none that is gone.
    fn may_still_come(&mut self) -> bool {
        let course = self.updates.course.as_mut();
        let Some(Wait::Start { missing_ms }) = course.and_then(|course| course.services.as_mut())
        else {
            return false;
        };
        let now = boottime_ms();
        now.saturating_sub(*missing_ms.get_or_insert(now)) < INTERFACE_MS
    }

    /// The server's end ends a trial before it has begun, although it would be started again: what a migration that has failed leaves behind may
    /// look done to the next try.
    fn tell_failed_migration(&mut self) -> bool {
        let server = self.system.unit(MIGRATES).map(|(_, machine)| machine);
        let Some(end) = server.and_then(Machine::last_end) else {
            return false;
        };
        self.apply(Input::Stop(MIGRATES.to_owned()));
        let what = format!(
            "{MIGRATES} has ended in its start ({end}): a migration that has failed is not begun again on what it left"
        );
        let log = self.last_words(MIGRATES);
        self.break_trial(Failure { what, log });
        true
    }

    /// A unit that was given up ends the trial; told once.
    pub(super) fn tell_what_failed(&mut self) -> bool {
        let before = self
            .updates
            .course
            .as_ref()
            .map(|course| &course.before.failed);
        let is_new = |name: &String| before.is_none_or(|before| !before.contains(name));
        let given_up = self.failed_units().into_iter().find(is_new);
        let Some(name) = given_up.or_else(|| self.started_in_vain()) else {
            return false;
        };
        let words = self.system.unit(&name).map(|(_, machine)| machine);
        let words = words.map_or_else(String::new, |machine| match machine.state() {
            State::Backoff { .. } => format!(
                "was started {} times and did not become ready: {}",
                machine.run(),
                machine.reason().unwrap_or_default()
            ),
            _ => describe(machine),
        });
        let what = format!("{name} {words}");
        let log = self.last_words(&name);
        self.break_trial(Failure { what, log });
        true
    }

    /// Of what users come in by. A policy that never gives up is for a version that has served before.
    fn started_in_vain(&self) -> Option<String> {
        let is_hopeless = |machine: &Machine| {
            machine.run() >= STARTS && matches!(machine.state(), State::Backoff { .. })
        };
        let mut names = PATH.iter().chain(&[EDGE]);
        let name = names.find(|name| {
            let unit = self.system.unit(name);
            unit.is_some_and(|(_, machine)| is_hopeless(machine))
        });
        name.map(|name| (*name).to_owned())
    }

    /// Those that were given up and are wanted.
    fn failed_units(&self) -> Vec<String> {
        let failed = |machine: &Machine| matches!(machine.state(), State::Failed { .. });
        let units = self
            .system
            .units()
            .filter(|(unit, machine)| unit.wanted && failed(machine));
        units.map(|(unit, _)| unit.name.clone()).collect()
    }

    pub(super) fn break_trial(&mut self, failure: Failure) {
        let Some(course) = &mut self.updates.course else {
            return;
        };
        if !std::mem::replace(&mut course.is_broken, true) {
            course.services = None;
            self.feed(Event::Broken(failure));
        }
    }

    fn end_wait(&mut self) {
        if let Some(course) = &mut self.updates.course {
            course.services = None;
        }
    }

    /// Nobody has marked this version good yet.
    pub(super) fn is_on_trial(&self) -> bool {
        self.updates.course.as_ref().is_some_and(|course| {
            use atalaya_core::update::machine::Phase;
            is_trial(&course.mode) && matches!(course.run.phase, Phase::Starting | Phase::Probing)
        })
    }

    fn interfaces_before(&self) -> Vec<String> {
        let course = self.updates.course.as_ref();
        let candidate = course.and_then(|course| course.record.candidate.as_ref());
        candidate.map_or_else(Vec::new, |candidate| candidate.interfaces.clone())
    }
}

//! Telling others how things are: log, consoles, status port, upstream.json. All of it is derived from the units' states and
//! from a few files that are looked at every two seconds.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use atalaya_core::last_boot;
use atalaya_core::machine::{Machine, StartPhase, State};
use atalaya_core::unit::Kind;
use atalaya_core::words::limit;

use super::Supervisor;
use super::facts::Facts;
use super::times::Times;
use crate::clock::boottime_ms;
use crate::console::{Block, Console};
use crate::maintenance::Maintenance;
use crate::options::Options;
use crate::status::Event;
use crate::upstream::{Upstream, describe};

/// The whole state is said again so often, for hosts that connect late, in milliseconds.
const REPEAT_MS: u64 = 10_000;

pub(super) struct Report {
    said: BTreeMap<String, Said>,
    upstream: Option<Upstream>,
    pub(super) facts: Facts,
    block: Option<Block>,
    port_was_open: bool,
    repeated_ms: u64,
    pub(super) times: Times,
    pub(super) voices: BTreeMap<String, Arc<Voice>>,
}

impl Report {
    pub(super) fn begin(options: &Options) -> Self {
        Self {
            said: BTreeMap::new(),
            upstream: None,
            facts: Facts::default(),
            block: None,
            port_was_open: false,
            repeated_ms: 0,
            times: Times::begin(&options.run, boottime_ms()),
            voices: BTreeMap::new(),
        }
    }
}

/// What was last said of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    words: String,
    ready: bool,
    pid: Option<i32>,
    run: u32,
}

impl Said {
    fn of(machine: &Machine) -> Self {
        Self {
            words: describe(machine),
            ready: machine.is_ready(),
            pid: machine.pid(),
            run: machine.run(),
        }
    }
}

/// What a unit says, as far as the owner cares.
#[derive(Default)]
pub(super) struct Voice {
    /// Its every line is shown on the consoles.
    loud: AtomicBool,
    last: Mutex<String>,
}

impl Voice {
    pub(super) fn last(&self) -> String {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A pump's way to the consoles: only what a person would want to see there passes.
pub(super) struct ConsoleLines {
    voice: Arc<Voice>,
    console: Console,
}

impl ConsoleLines {
    /// Whether every line is wanted, or the newest is enough.
    pub(super) fn is_loud(&self) -> bool {
        self.voice.loud.load(Ordering::Relaxed)
    }

    pub(super) fn offer(&self, unit: &str, line: &str) {
        line.clone_into(
            &mut self
                .voice
                .last
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if self.voice.loud.load(Ordering::Relaxed) {
            self.console.line(&format!(
                "{unit}: {}",
                line.chars().take(400).collect::<String>()
            ));
        }
    }
}

impl Supervisor {
    pub(super) fn console_lines(&mut self, unit: &str) -> ConsoleLines {
        let voice = Arc::clone(self.report.voices.entry(unit.to_owned()).or_default());
        ConsoleLines {
            voice,
            console: self.console.clone(),
        }
    }

    /// A unit has changed.
    pub(super) fn announce(&mut self, name: &str) {
        let Some((unit, machine)) = self.system.unit(name) else {
            return;
        };
        let loud = unit.kind == Kind::Oneshot
            || match machine.state() {
                State::Backoff { .. } | State::Failed { .. } => true,
                State::Starting(_) => machine.run() > 1,
                State::Stopped
                | State::Waiting
                | State::Running
                | State::Stopping { .. }
                | State::Done => false,
            };
        let said = Said::of(machine);
        let failed = matches!(machine.state(), State::Failed { .. });
        // The log has every change; the consoles have what a person waits for or must know.
        let worth_a_line = match (machine.state(), unit.kind) {
            (State::Waiting, _)
            | (State::Starting(_), Kind::Service)
            | (State::Starting(StartPhase::Working | StartPhase::Emptying), Kind::Oneshot)
            | (State::Stopped, Kind::Oneshot) => false,
            (State::Starting(_) | State::Done, Kind::Oneshot)
            | (State::Stopped | State::Done, Kind::Service)
            | (
                State::Running
                | State::Stopping { .. }
                | State::Backoff { .. }
                | State::Failed { .. },
                _,
            ) => true,
        };
        let event = unit_event(name, machine);
        let bound = matches!(machine.state(), State::Stopping { .. })
            .then(|| format!(" (at most {})", limit(unit.stop_bound_ms())))
            .unwrap_or_default();
        self.report.times.observe(name, machine, boottime_ms());
        self.report
            .voices
            .entry(name.to_owned())
            .or_default()
            .loud
            .store(loud, Ordering::Relaxed);
        let before = self.report.said.insert(name.to_owned(), said.clone());
        if before.as_ref() == Some(&said) {
            return;
        }
        self.port.say(&event);
        if before.is_none_or(|before| before.words != said.words) {
            self.hub.push(name, &said.words);
            if worth_a_line {
                self.console.line(&format!("{name}: {}{bound}", said.words));
            }
            if failed {
                self.show_last_lines(name);
                self.show_block();
            }
        }
    }

    /// What an adopted unit was when it was last spoken of: nothing has changed for those who read.
    pub(super) fn remember(&mut self, name: &str) {
        if let Some((_, machine)) = self.system.unit(name) {
            self.report.said.insert(name.to_owned(), Said::of(machine));
        }
    }

    /// A unit that is given up shows what it said last, where it was not loud already.
    fn show_last_lines(&self, name: &str) {
        for line in self.last_words(name) {
            self.console.line(&format!("{name}: | {line}"));
        }
    }

    /// After every change: what the edge and the host must know.
    pub(super) fn publish(&mut self) {
        let upstream = Upstream::derive(&self.system, self.closed());
        if self.report.upstream.as_ref() != Some(&upstream) {
            let directory = self.options.run.join("public");
            if let Err(error) = write_public(&directory, &upstream) {
                self.hub.push(
                    "atalayad",
                    &format!("failed to tell the edge about its upstream: {error}"),
                );
            }
            if self.report.upstream.as_ref().map(|before| before.admit) != Some(upstream.admit) {
                self.port.say(&Event::Admit {
                    admit: upstream.admit,
                });
            }
            self.report.upstream = Some(upstream);
            self.show_block();
        }
    }

    /// Every two seconds: looks at what tells nobody when it changes.
    pub(super) fn refresh(&mut self) {
        let facts = Facts::look(&self.options.run);
        let changed = facts != self.report.facts;
        if changed {
            self.report.facts = facts;
            self.show_block();
        }
        let opened = self.port.open() && !std::mem::replace(&mut self.report.port_was_open, true);
        let now = boottime_ms();
        self.report.times.keep();
        let stops: Vec<String> = self
            .system
            .units()
            .filter_map(|(unit, machine)| self.report.times.tell_stop(unit, machine, now))
            .collect();
        for line in stops {
            self.console.line(&line);
        }
        if let Some(cause) = self.hub.take_last_boot_news()
            && cause.cause != last_boot::Kind::FirstBoot
        {
            self.console
                .line(&format!("the boot before this one: {}", cause.words));
        }
        if opened || changed || now.saturating_sub(self.report.repeated_ms) >= REPEAT_MS {
            self.report.repeated_ms = now;
            self.say_all();
        }
        self.port.flush();
    }

    fn say_all(&mut self) {
        let mut events = vec![Event::Boot {
            version: self.release.version.clone(),
            build: self.release.build.clone(),
            slot: self.options.slot.clone(),
            boot_id: self.hub.boot().to_owned(),
            mattermost: self.release.mattermost.version.clone(),
            standin: self.release.is_standin(),
        }];
        events.extend(
            self.system
                .units()
                .map(|(unit, machine)| unit_event(&unit.name, machine)),
        );
        let facts = &self.report.facts;
        events.push(Event::Address {
            addresses: facts.addresses.clone(),
            site: facts.site.clone(),
        });
        if let Some(ca) = &facts.ca {
            events.push(Event::Ca {
                pem: ca.pem.clone(),
                sha256: ca.sha256.clone(),
            });
        }
        events.push(Event::Admit {
            admit: self.is_admitting(),
        });
        if let Some(action) = self.system.end() {
            events.push(Event::Stopping { action });
        }
        for event in &events {
            self.port.say(event);
        }
    }

    /// Why users are to stay out: an update comes first, because nobody can let them in during one.
    fn closed(&self) -> Option<&Maintenance> {
        self.updates.hold.as_ref().or(self.maintenance.as_ref())
    }

    pub(super) fn is_admitting(&self) -> bool {
        self.report
            .upstream
            .as_ref()
            .is_some_and(|upstream| upstream.admit)
    }

    /// The state of the whole, in words.
    pub(super) fn words(&self) -> String {
        if let Some(Maintenance {
            message: Some(message),
            ..
        }) = &self.updates.hold
        {
            return message.clone();
        }
        match &self.report.upstream {
            Some(upstream) if upstream.admit => "ready".to_owned(),
            Some(Upstream {
                maintenance: Some(maintenance),
                waiting_for: None,
                ..
            }) => match &maintenance.message {
                Some(message) => format!("closed for maintenance: {message}"),
                None => "closed for maintenance".to_owned(),
            },
            Some(Upstream {
                waiting_for: Some(waiting),
                ..
            }) => waiting.clone(),
            Some(_) | None => "starting".to_owned(),
        }
    }

    /// On the consoles: when users can come in, when a service is given up, and whenever what is said then changes.
    fn show_block(&mut self) {
        let facts = &self.report.facts;
        let address = facts.site.clone();
        let address = address.or_else(|| {
            facts
                .addresses
                .first()
                .map(|first| format!("https://{first}"))
        });
        let failed = self.failed();
        let block = Block {
            address,
            state: failed
                .as_ref()
                .map_or_else(|| self.words(), |(state, _)| state.clone()),
            version: format!("{} (build {})", self.release.version, self.release.build),
            fingerprint: facts.fingerprint().map(str::to_owned),
            administrator_password: facts.password.clone(),
            last_words: failed.map(|(_, words)| words),
            refused_seed: facts.seed.as_ref().and_then(|seed| seed.error.clone()),
            is_standin: self.release.is_standin(),
        };
        let is_worth_it =
            self.is_admitting() || self.closed().is_some() || block.last_words.is_some();
        if is_worth_it && self.report.block.as_ref() != Some(&block) {
            self.console.block(&block.lines());
            self.report.block = Some(block);
        }
    }

    /// The first service that was given up, and its last words.
    fn failed(&self) -> Option<(String, String)> {
        let (unit, machine) = self
            .system
            .units()
            .find(|(_, machine)| matches!(machine.state(), State::Failed { .. }))?;
        let words = self
            .report
            .voices
            .get(&unit.name)
            .map(|voice| voice.last())
            .unwrap_or_default();
        Some((
            format!("{}: {}", unit.description, describe(machine)),
            words,
        ))
    }
}

fn unit_event(name: &str, machine: &Machine) -> Event {
    Event::Unit {
        unit: name.to_owned(),
        state: machine.state().word(),
        ready: machine.is_ready(),
        pid: machine.pid(),
        run: machine.run(),
        reason: machine.reason().map(str::to_owned),
        t_ms: boottime_ms(),
    }
}

/// By rename; on a tmpfs, so nothing has to reach a disk.
fn write_public(directory: &Path, upstream: &Upstream) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let temporary = directory.join(".upstream.json.new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(upstream)?)?;
    fs::set_permissions(
        &temporary,
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )?;
    fs::rename(&temporary, directory.join("upstream.json"))
}

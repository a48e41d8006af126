//! The owner of all state. One task; everything that happens anywhere reaches it as a message, is turned into an input of
//! `atalaya_core::system`, and the effects that come back are carried out here, in their order.
//!
//! ```text
//! init (exits, requests) --+                               +--> init (records with descriptors, acknowledgements)
//! pumps, checks, notify ---+--> Message --> System --> Effect --> processes, signals, cgroups
//! control socket, time ----+                               +--> log, consoles, status port, upstream.json
//! ```
//! Happy path: greet init, adopt or start, carry on, and on a request stop all and say Shutdown. If this process dies, init keeps
//! every unit, its pipe, socket and exit; the next one adopts them (`adopt`).

mod adopt;
mod certificate;
mod checks;
mod effects;
mod facts;
mod ground;
mod keep;
mod message;
mod report;
mod serve;
mod start;
mod times;
mod update;
mod view;
mod watch;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use atalaya_core::link::{Action, FromInit, HEARTBEAT_MS, Source, Status, ToInit};
use atalaya_core::machine::{Event, ExitStatus};
use atalaya_core::system::{Input, System};
use atalaya_sys::cgroup::Cgroup;
use tokio::sync::mpsc;

use crate::clock::boottime_ms;
use crate::console::Console;
use crate::link::{self, Link};
use crate::listen::Socket;
use crate::logs::Hub;
use crate::maintenance::{self, Maintenance};
use crate::options::Options;
use crate::release::Release;
use crate::run::parse_cgroup_name;
use crate::status::{self, Port};
use crate::units;

use message::Live;
pub use message::{FromRun, Message};
pub use serve::{Answer, Request};
pub use update::News;

/// How long the log may take to reach the disk when init ends this process; it would wait a little longer.
const LAST_LOG_LIMIT: Duration = Duration::from_secs(3);

pub struct Supervisor {
    options: Options,
    system: System,
    link: Link,
    hub: Hub,
    console: Console,
    port: Port,
    release: Release,
    lives: BTreeMap<String, Live>,
    /// Commands that run in units, by pid.
    checks: BTreeMap<i32, checks::Check>,
    /// Listening sockets, by unit. They outlive its runs.
    sockets: BTreeMap<String, Vec<Socket>>,
    /// What units have left here by FDSTORE=1, by unit.
    stores: BTreeMap<String, Vec<(String, OwnedFd)>>,
    /// In which order init would stop the units without us.
    levels: BTreeMap<String, u32>,
    /// Cgroups with processes that we know nothing of, by unit.
    strangers: BTreeMap<String, Vec<Cgroup>>,
    footing: ground::Footing,
    /// Users are to stay out.
    maintenance: Option<Maintenance>,
    updates: update::Updates,
    inputs: VecDeque<Input>,
    inbox: mpsc::UnboundedReceiver<Message>,
    outbox: mpsc::UnboundedSender<Message>,
    report: report::Report,
    /// How the machine is to end, said by the last effect.
    ended: Option<Action>,
}

impl Supervisor {
    pub fn new(options: Options, system: System, link: Link, hub: Hub) -> Self {
        let maintenance = options
            .maintenance()
            .and_then(|path| maintenance::read(&path));
        let (outbox, inbox) = mpsc::unbounded_channel();
        let release = Release::read(&options.release);
        let console = if options.consoles {
            Console::open()
        } else {
            Console::default()
        };
        let report = report::Report::begin(&options);
        let levels = keep::stop_levels(&system);
        Self {
            options,
            system,
            link,
            hub,
            console,
            port: Port::default(),
            release,
            lives: BTreeMap::new(),
            checks: BTreeMap::new(),
            sockets: BTreeMap::new(),
            stores: BTreeMap::new(),
            levels,
            strangers: BTreeMap::new(),
            footing: ground::Footing::default(),
            maintenance,
            updates: update::Updates::default(),
            inputs: VecDeque::new(),
            inbox,
            outbox,
            report,
            ended: None,
        }
    }

    /// Where requests go.
    pub fn outbox(&self) -> mpsc::UnboundedSender<Message> {
        self.outbox.clone()
    }

    /// Runs until the machine ends (with init: until init ends this process).
    ///
    /// # Errors
    /// init is gone or speaks another version.
    pub async fn run(mut self) -> Result<()> {
        let kept = self.link.greet().await.context("failed to greet init")?;
        self.find_ground().await;
        self.begin_updates().await;
        self.adopt(kept);
        self.refresh();
        self.look_at_update();
        let mut heartbeat = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        loop {
            if self.ended.is_some() && self.link.is_alone() {
                return Ok(());
            }
            let wait = self
                .system
                .deadline_ms()
                .map(|at| Duration::from_millis(at.saturating_sub(boottime_ms())));
            tokio::select! {
                message = self.link.receive() => self.on_link(message?),
                Some(message) = self.inbox.recv() => self.on_message(message),
                () = sleep(wait) => self.apply(Input::Tick),
                _ = heartbeat.tick() => {
                    self.tell_init(&ToInit::Heartbeat);
                    self.end_late_checks();
                    self.look_at_room();
                    self.look_after_update();
                    self.refresh();
                }
                // From init it comes when a fresh atalayad is wished for, or when all is done: the units are init's, and
                // what they said is written down. Alone, it is the wish to stop.
                _ = terminate.recv() => {
                    if self.link.is_alone() && self.ended.is_none() {
                        self.end(Action::Halt, "SIGTERM");
                        continue;
                    }
                    self.hub.flush(LAST_LOG_LIMIT).await;
                    return Ok(());
                }
            }
            self.look_at_update();
        }
    }

    /// Feeds one input and all that follow from it.
    fn apply(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.carry_on();
    }

    fn carry_on(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            // The only error is a unit that is not there, which requests check before.
            let effects = self.system.step(boottime_ms(), input).unwrap_or_default();
            for effect in effects {
                self.execute(effect);
            }
        }
        self.publish();
    }

    fn event(&mut self, unit: &str, event: Event) {
        self.apply(Input::Unit {
            unit: unit.to_owned(),
            event,
        });
    }

    fn on_link(&mut self, message: link::Message) {
        match message.message {
            FromInit::Exited {
                seq,
                pid,
                cgroup,
                status,
            } => {
                self.on_exited(pid, &cgroup, status);
                self.tell_init(&ToInit::Ack { seq });
            }
            FromInit::Request { action, source } => {
                let source = match source {
                    Source::PowerButton => "the power button",
                    Source::CtrlAltDel => "Ctrl-Alt-Del",
                    Source::Signal => "a signal to init",
                };
                self.end(action, source);
            }
            FromInit::Welcome { .. }
            | FromInit::Kept { .. }
            | FromInit::Drained { .. }
            | FromInit::Notified { .. }
            | FromInit::KeptEnd => {}
        }
    }

    fn on_exited(&mut self, pid: i32, cgroup: &str, status: Status) {
        if self.on_check_ended(pid, status) {
            return;
        }
        let Some((unit, run)) = parse_cgroup_name(cgroup) else {
            return;
        };
        let is_main = self
            .system
            .unit(unit)
            .is_some_and(|(_, machine)| machine.run() == run && machine.pid() == Some(pid));
        if !is_main {
            // A process that the unit left behind: nobody waits for it.
            return;
        }
        let unit = unit.to_owned();
        self.on_report(&unit, run);
        self.look_at_memory(&unit, run);
        let status = match status {
            Status::Code(code) => ExitStatus::Code(code),
            Status::Signal(signal) => ExitStatus::Signal(signal),
        };
        self.event(&unit, Event::Exited { run, status });
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Request { request, reply } => {
                let answer = self.serve(request);
                drop(reply.send(answer));
            }
            Message::Disk(what) => self.on_disk(what),
            Message::Update(news) => self.on_update(news),
            Message::Flushed { end, reason } => self.on_flushed(end, reason),
            Message::Run { unit, run, what } => self.on_run(&unit, run, what),
        }
    }

    fn on_run(&mut self, unit: &str, run: u32, what: FromRun) {
        let is_known = self.lives.get(unit).is_some_and(|live| live.run == run);
        match what {
            // What was made for a run that is no more has to go again.
            FromRun::Prepared(prepared) => self.on_prepared(unit, run, prepared),
            _ if !is_known => {}
            FromRun::Reported => self.on_report(unit, run),
            FromRun::Notified(heard, done) => {
                self.on_notified(unit, run, heard);
                drop(done);
            }
            FromRun::Answered(Ok(())) => self.event(unit, Event::Ready { run }),
            FromRun::Answered(Err(reason)) => self.event(unit, Event::NotReady { run, reason }),
            FromRun::Alive(answer) => {
                let error = answer.err();
                self.event(unit, Event::Alive { run, error });
            }
            FromRun::Ask(ask) => self.run_check(unit, run, ask),
            FromRun::Reloaded(error) => self.event(unit, Event::ReloadDone { run, error }),
            FromRun::MainGone(pid) => self.on_main_gone(unit, run, pid),
            FromRun::MemoryEvents => self.look_at_memory(unit, run),
            FromRun::Emptied => self.event(unit, Event::Emptied { run }),
        }
    }

    /// Reads the unit files again; tells how many there are.
    ///
    /// # Errors
    /// They are refused, with file, line and what is allowed. What runs stays as it is.
    fn reload_units(&mut self) -> Result<usize, String> {
        let units = units::read(&self.options.units).map_err(|error| format!("{error:#}"))?;
        let count = units.len();
        let effects = self
            .system
            .step(boottime_ms(), Input::Replace(units))
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        // Before anything of the new ones is kept.
        self.levels = keep::stop_levels(&self.system);
        for effect in effects {
            self.execute(effect);
        }
        self.carry_on();
        let runs: Vec<(String, u32)> = (self.lives.iter())
            .map(|(name, live)| (name.clone(), live.run))
            .collect();
        for (name, run) in runs {
            self.keep_run(&name, run);
        }
        Ok(count)
    }

    fn end(&mut self, action: Action, source: &str) {
        if self.system.end().is_none() {
            self.say(
                "atalayad",
                &format!(
                    "{} was asked for by {source}: stopping all services",
                    words_of(action)
                ),
            );
            self.port.say(&status::Event::Stopping { action });
        }
        self.apply(Input::End(action));
        self.keep_system();
    }

    fn tell_init(&self, message: &ToInit) {
        if let Err(error) = self.link.send(message, &[]) {
            self.hub.push("atalayad", &format!("{error:#}"));
        }
    }

    /// To the log and the consoles.
    fn say(&mut self, unit: &str, text: &str) {
        self.hub.push(unit, text);
        self.console.line(&format!("{unit}: {text}"));
    }
}

fn words_of(action: Action) -> &'static str {
    match action {
        Action::Reboot => "a reboot",
        Action::Poweroff => "power-off",
        Action::Halt => "a halt",
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

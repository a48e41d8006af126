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
mod effects;
mod facts;
mod report;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result};
use atalaya_core::link::{Action, FromInit, HEARTBEAT_MS, Source, Status, ToInit};
use atalaya_core::machine::{Event, ExitStatus};
use atalaya_core::system::{Input, System};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::clock::boottime_ms;
use crate::console::Console;
use crate::link::{self, Link};
use crate::logs::Hub;
use crate::options::Options;
use crate::release::Release;
use crate::run::{Told, parse_cgroup_name, read_report};
use crate::status::{self, Port};

pub use serve::{Answer, Request};

/// What happens, as the owner hears of it.
pub enum Message {
    Run {
        unit: String,
        run: u32,
        what: FromRun,
    },
    Request {
        request: Request,
        reply: oneshot::Sender<Answer>,
    },
}

/// What a task that watches one run has to tell.
pub enum FromRun {
    /// The helper's report can be read.
    Reported,
    /// Lines of a notify message.
    Notified(Vec<(String, String)>),
    /// The answer to a readiness check.
    Answered(Result<(), String>),
    /// The readiness check wants the unit's command run.
    Ask(oneshot::Sender<Result<(), String>>),
    /// The cgroup is empty.
    Emptied,
}

/// The effects' side of a run that exists.
struct Live {
    run: u32,
    pidfd: Option<OwnedFd>,
    report: Option<OwnedFd>,
    /// Ended with the run.
    tasks: Vec<AbortHandle>,
    readiness: Option<AbortHandle>,
    emptying: bool,
    pump: Option<tokio::task::JoinHandle<()>>,
    /// The unit's own words: STATUS=.
    words: Option<String>,
}

impl Live {
    fn new(run: u32) -> Self {
        Self {
            run,
            pidfd: None,
            report: None,
            tasks: Vec::new(),
            readiness: None,
            emptying: false,
            pump: None,
            words: None,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        for task in self.tasks.iter().chain(&self.readiness) {
            task.abort();
        }
    }
}

pub struct Supervisor {
    options: Options,
    system: System,
    link: Link,
    hub: Hub,
    console: Console,
    port: Port,
    release: Release,
    lives: BTreeMap<String, Live>,
    /// Checks that run, by pid.
    checks: BTreeMap<i32, oneshot::Sender<Result<(), String>>>,
    inputs: VecDeque<Input>,
    inbox: mpsc::UnboundedReceiver<Message>,
    outbox: mpsc::UnboundedSender<Message>,
    report: report::Report,
    /// How the machine is to end, said by the last effect.
    ended: Option<Action>,
}

impl Supervisor {
    pub fn new(options: Options, system: System, link: Link, hub: Hub) -> Self {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let release = Release::read(&options.release);
        let console = if options.consoles {
            Console::open()
        } else {
            Console::default()
        };
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
            inputs: VecDeque::new(),
            inbox,
            outbox,
            report: report::Report::default(),
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
        self.adopt(kept);
        self.refresh();
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
                    self.refresh();
                }
                // From init it comes when all is done, and nothing before that; alone, it is the wish to stop.
                _ = terminate.recv() => {
                    if self.ended.is_some() {
                        return Ok(());
                    }
                    if self.link.is_alone() {
                        self.end(Action::Halt, "SIGTERM");
                    }
                }
            }
        }
    }

    /// Feeds one input and all that follow from it.
    fn apply(&mut self, input: Input) {
        self.inputs.push_back(input);
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
        let status = match status {
            Status::Code(code) => ExitStatus::Code(code),
            Status::Signal(signal) => ExitStatus::Signal(signal),
        };
        if let Some(reply) = self.checks.remove(&pid) {
            let answer = if status.is_success() {
                Ok(())
            } else {
                Err(format!("its check: {status}"))
            };
            // The check may have been ended meanwhile.
            drop(reply.send(answer));
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
        self.event(&unit, Event::Exited { run, status });
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Request { request, reply } => {
                let answer = self.serve(request);
                drop(reply.send(answer));
            }
            Message::Run { unit, run, what } => {
                if self.lives.get(&unit).is_none_or(|live| live.run != run) {
                    return;
                }
                match what {
                    FromRun::Reported => self.on_report(&unit, run),
                    FromRun::Notified(pairs) => self.on_notified(&unit, run, pairs),
                    FromRun::Answered(Ok(())) => self.event(&unit, Event::Ready { run }),
                    FromRun::Answered(Err(reason)) => {
                        self.event(&unit, Event::NotReady { run, reason })
                    }
                    FromRun::Ask(reply) => self.run_check(&unit, run, reply),
                    FromRun::Emptied => self.event(&unit, Event::Emptied { run }),
                }
            }
        }
    }

    /// Reads what the helper has said, if it has.
    fn on_report(&mut self, unit: &str, run: u32) {
        use std::os::fd::AsFd;
        let Some(live) = self.lives.get_mut(unit) else {
            return;
        };
        let Some(report) = &live.report else { return };
        let event = match read_report(report.as_fd()) {
            Told::Nothing => return,
            Told::Executed => Event::Executed { run },
            Told::Failed(told) => effects::sandbox_failed(run, told),
        };
        live.report = None;
        self.event(unit, event);
    }

    fn on_notified(&mut self, unit: &str, run: u32, pairs: Vec<(String, String)>) {
        use atalaya_core::unit::ReadyKind;
        let notifies = self
            .system
            .unit(unit)
            .is_some_and(|(unit, _)| unit.ready.kind == ReadyKind::Notify);
        for (key, value) in pairs {
            match (key.as_str(), value.as_str()) {
                ("READY", "1") if notifies => self.event(unit, Event::SaidReady { run }),
                ("STATUS", words) => {
                    if let Some(live) = self.lives.get_mut(unit) {
                        live.words = Some(words.chars().take(200).collect());
                    }
                }
                _ => {}
            }
        }
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

    fn tell_init(&mut self, message: &ToInit) {
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

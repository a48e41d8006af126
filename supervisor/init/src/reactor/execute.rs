//! Executing what `supervise` says, and telling it what came of it.

use super::children::{self, Child};
use super::link::Heard;
use super::{Reactor, orders};
use crate::boot_record::BootRecord;
use crate::ending::{self, LastEnd};
use crate::machine::trial;
use crate::supervise::control::{self, Request};
use crate::supervise::{Effect, Event, stop};
use atalaya_core::link::{Action, FromInit, Source, VERSION};
use atalaya_sys::host::boottime_ms;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::collections::VecDeque;

impl Reactor {
    pub(super) fn dispatch(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.supervise.step(boottime_ms(), event) {
                if let Some(answer) = self.execute(effect) {
                    events.push_back(answer);
                }
            }
        }
    }

    /// Somebody wants the machine to end.
    pub(super) fn want(&mut self, action: Action, source: Source) {
        let units_ms = stop::bound_ms(&orders::kept(&self.link.kept));
        self.dispatch(Event::Wanted {
            action,
            source,
            units_ms,
        });
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::StartDaemon => return Some(self.start_daemon()),
            Effect::Terminate { pid } => self.signal_daemon(pid, libc::SIGTERM),
            Effect::Kill { pid } => self.signal_daemon(pid, libc::SIGKILL),
            Effect::Greet { deaths } => {
                // All that can be read now belongs to the time before it.
                self.drain.turn(&self.link.kept, &mut self.link.meanwhile);
                self.drain.stop();
                self.statuses.rewind();
                self.link.greet(self.welcome(deaths));
                // Half of it was for the start. Nothing depends on this.
                drop(atalaya_sys::text::release());
            }
            Effect::Refuse { deaths } => self.link.refuse(self.welcome(deaths)),
            Effect::Ask { action, source } => self.link.push(FromInit::Request { action, source }),
            Effect::Say(text) => self.console.say("init", &text),
            Effect::AssessTrial => {
                self.gave_up = trial::is_on();
                return self.gave_up.then_some(Event::OnTrial);
            }
            Effect::CollectOrders => return Some(Event::Orders(orders::collect(&self.link.kept))),
            Effect::SignalMain {
                cgroup,
                pid,
                signal,
            } => self.signal_main(&cgroup, pid, signal),
            Effect::KillRun { cgroup } => {
                let outcome = orders::of(&cgroup).kill();
                // One that has gone meanwhile is what was wanted.
                let problem = outcome.err().filter(|error| error.errno() != libc::ENOENT);
                self.tell(problem.map(|error| error.chain()));
            }
            Effect::End { action, reason } => {
                let console = std::mem::take(&mut self.console);
                let watchdog = std::mem::take(&mut self.watchdog);
                // Whatever was kept has nobody to go to; the end may need the descriptors, and those put by.
                self.link = super::link::Link::default();
                self.spare.give_up();
                let record = LastEnd {
                    action,
                    reason,
                    boot_id: self.boot_id.clone(),
                    gave_up: (BootRecord::read().filter(|_| self.gave_up))
                        .map(|booted| booted.root_hash),
                };
                ending::run(console, watchdog, &record);
            }
        }
        None
    }

    fn start_daemon(&mut self) -> Event {
        let (output, data_ready) = (self.output_writer.as_ref(), self.data_ready);
        let started = self
            .spare
            .lend(|| children::start_daemon(output, data_ready));
        match started {
            Ok((daemon, socket)) => {
                let pid = daemon.pid;
                let state = if self.data_ready { "ready" } else { "absent" };
                self.console
                    .say("init", &format!("atalayad is started; /data is {state}"));
                self.link.connect(socket);
                self.daemon = Some(daemon);
                Event::Started { pid }
            }
            Err(error) => Event::NotStarted { why: error.chain() },
        }
    }

    fn signal_daemon(&mut self, pid: i32, signal: i32) {
        let daemon: Option<&Child> = self.daemon.as_ref().filter(|daemon| daemon.pid == pid);
        let outcome = daemon.map(|daemon| daemon.signal(signal));
        self.tell(outcome.and_then(Result::err).map(|error| error.chain()));
    }

    /// No other process can have taken over the pid of a child that has not been reaped, and this is who reaps.
    fn signal_main(&mut self, cgroup: &str, pid: i32, signal: i32) {
        if !orders::is_in(pid, cgroup) {
            return; // it has ended; that will be told
        }
        let Ok(signal) = nix::sys::signal::Signal::try_from(signal) else {
            return; // its limit leads on
        };
        if let Err(errno) = kill(Pid::from_raw(pid), signal)
            && errno != nix::errno::Errno::ESRCH
        {
            self.tell(Some(format!(
                "failed to send {signal} to {cgroup}: {errno}"
            )));
        }
    }

    fn welcome(&self, deaths: u32) -> FromInit {
        FromInit::Welcome {
            version: VERSION,
            deaths,
            boot_id: self.boot_id.clone(),
        }
    }

    /// Everything that atalayad has said.
    pub(super) fn hear(&mut self) {
        // Bounded, so that a babbling atalayad cannot keep PID 1 from reaping.
        for _ in 0..1024 {
            match self.link.receive(&mut self.statuses) {
                Heard::Nothing => return,
                Heard::Message(message) => self.dispatch(Event::Heard(message)),
                Heard::Problem(text) => self.console.say("init", &text),
            }
        }
    }

    pub(super) fn drain_output(&mut self) {
        use std::io::Read;
        let mut buffer = [0u8; 4096];
        if let Some(output) = &mut self.output
            && let Ok(count) = output.read(&mut buffer)
        {
            self.console.write(buffer.get(..count).unwrap_or_default());
        }
    }

    pub(super) fn answer_requests(&mut self) {
        let now = boottime_ms();
        for (client, request) in self.control.turn(now) {
            let answer = match request {
                Request::Status => {
                    control::status(&self.supervise.summary(now), &self.link.meanwhile)
                }
                // Answered first: what follows may be the end.
                Request::End(_) | Request::RestartSupervisor => control::done(),
            };
            self.control.answer(client, &answer);
            match request {
                Request::Status => {}
                Request::RestartSupervisor => self.dispatch(Event::RestartWanted),
                Request::End(action) => self.want(action, Source::Signal),
            }
        }
    }

    /// Which of the units that are being stopped are gone.
    pub(super) fn look_at_watched(&mut self) {
        for cgroup in self.supervise.watched() {
            // One that cannot be looked at is waited for up to its limit.
            if !orders::of(&cgroup).populated().unwrap_or(true) {
                self.dispatch(Event::Emptied { cgroup });
            }
        }
    }
}

//! PID 1's loop: waits for signals, atalayad, power buttons and time, tells `supervise`, and executes what it says.
//!
//! Nothing is decided here. No call in this loop can block on a device: what might runs in a child.

pub(crate) mod children;
mod link;
mod power;
pub(crate) mod watchdog;

use crate::ask;
use crate::console::Console;
use crate::ending;
use crate::machine::{self, cgroups};
use crate::supervise::statuses::Statuses;
use crate::supervise::{Effect, Event, Supervise};
use atalaya_core::link::{FromInit, Status, VERSION};
use atalaya_sys::host::boottime_ms;
use atalaya_sys::reap::{self, Ending};
use children::{Child, DataChild};
use link::{Heard, Link};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::set_cad_enabled;
use power::Buttons;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use watchdog::Feeder;

type Signals = SignalDelivery<UnixStream, SignalOnly>;

const SIGNALS: [i32; 7] = [
    libc::SIGCHLD,
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGPWR,
    ask::HALT,
    ask::POWEROFF,
    ask::REBOOT,
];
/// Even with nothing to wait for: a child that was never exec'd sends no SIGCHLD.
const LONGEST_WAIT_MS: u64 = 10_000;

/// Everything PID 1 holds.
struct Reactor {
    console: Console,
    supervise: Supervise,
    statuses: Statuses,
    link: Link,
    daemon: Option<Child>,
    data: Option<DataChild>,
    data_ready: bool,
    /// Read end of atalayad's stdout and stderr; it outlives each atalayad.
    output: Option<File>,
    output_writer: Option<File>,
    buttons: Buttons,
    watchdog: Feeder,
    boot_id: String,
}

/// Runs the machine from here to its end.
pub fn run() -> ! {
    let mut console = Console::new();
    console.say("init", "starting");
    let mut signals = watch_signals(&mut console);
    let watchdog = Feeder::take_over(&mut console);
    children::silence_standard_streams(&mut console);
    machine::prepare(&mut console);
    if let Err(errno) = set_cad_enabled(false) {
        console.say(
            "init",
            &format!("failed to take over Ctrl-Alt-Del: {errno}"),
        );
    }
    let (output, output_writer) = children::output_pipe(&mut console);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut reactor = Reactor {
        buttons: Buttons::new(&mut console),
        data: children::start_data(&mut console, boottime_ms()),
        console,
        supervise: Supervise::default(),
        statuses: Statuses::default(),
        link: Link::default(),
        daemon: None,
        data_ready: false,
        output,
        output_writer,
        watchdog,
        boot_id: boot_id.trim().to_owned(),
    };
    if reactor.data.is_none() {
        reactor.dispatch(Event::DataDone);
    }
    loop {
        reactor.turn(signals.as_mut());
    }
}

impl Reactor {
    /// One round: wait, then handle whatever there is.
    fn turn(&mut self, signals: Option<&mut Signals>) {
        let now = boottime_ms();
        let ready = self.wait(signals.as_deref(), now);
        if let Some(signals) = signals {
            for signal in signals.pending() {
                if let Some((action, source)) = ask::request_of(signal) {
                    self.dispatch(Event::Wanted { action, source });
                }
            }
        }
        self.reap();
        if ready {
            self.hear();
            self.drain_output();
            if let Some((action, source)) = self.buttons.pressed() {
                self.dispatch(Event::Wanted { action, source });
            }
        }
        let now = boottime_ms();
        if self.data.as_ref().is_some_and(|data| now >= data.deadline) {
            self.console
                .say("data", "not ready in time: going on without it");
            self.data = None;
            self.dispatch(Event::DataDone);
        }
        self.dispatch(Event::Tick);
        let problem = self.link.send(&mut self.statuses);
        self.tell(problem);
        let lost = self.statuses.take_lost();
        if lost > 0 {
            self.console.say(
                "init",
                &format!("{lost} exit statuses were lost: nobody listened"),
            );
        }
        if self.supervise.feeds_watchdog(now) {
            self.watchdog.feed(now, &mut self.console);
        }
        self.console.flush();
    }

    /// Whether something can be read or written (and not only time has passed).
    fn wait(&self, signals: Option<&Signals>, now: u64) -> bool {
        let deadlines = [
            self.supervise.deadline(),
            self.watchdog
                .deadline()
                .filter(|_| self.supervise.feeds_watchdog(now)),
            self.data.as_ref().map(|data| data.deadline),
        ];
        let until = deadlines.into_iter().flatten().min().unwrap_or(u64::MAX);
        let wait = until.saturating_sub(now).min(LONGEST_WAIT_MS);
        let read = PollFlags::POLLIN;
        let mut watched: Vec<(Option<BorrowedFd<'_>>, PollFlags)> = vec![
            (signals.map(|signals| signals.get_read().as_fd()), read),
            (self.link.fd(), self.link.interest(&self.statuses)),
            (self.output.as_ref().map(AsFd::as_fd), read),
        ];
        watched.extend(self.buttons.fds().map(|fd| (Some(fd), read)));
        watched.extend(
            self.console
                .blocked()
                .map(|fd| (Some(fd), PollFlags::POLLOUT)),
        );
        let mut polled: Vec<PollFd<'_>> = watched
            .into_iter()
            .filter_map(|(fd, flags)| Some(PollFd::new(fd?, flags)))
            .collect();
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        // EINTR and ENOMEM are answered by the next round; time passes meanwhile.
        poll(&mut polled, timeout).is_ok_and(|count| count > 0)
    }

    fn dispatch(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.supervise.step(boottime_ms(), event) {
                if let Some(answer) = self.execute(effect) {
                    events.push_back(answer);
                }
            }
        }
    }

    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::StartDaemon => return Some(self.start_daemon()),
            Effect::Kill { pid } => {
                let outcome = self
                    .daemon
                    .as_ref()
                    .filter(|daemon| daemon.pid == pid)
                    .map(Child::kill);
                self.tell(outcome.and_then(Result::err).map(|error| error.chain()));
            }
            Effect::Greet { deaths } => {
                self.statuses.rewind();
                self.link.greet(self.welcome(deaths));
            }
            Effect::Refuse { deaths } => self.link.refuse(self.welcome(deaths)),
            Effect::Ask { action, source } => self.link.push(FromInit::Request { action, source }),
            Effect::Say(text) => self.console.say("init", &text),
            Effect::End {
                action,
                reason,
                units_stopped,
            } => {
                let console = std::mem::take(&mut self.console);
                let watchdog = std::mem::take(&mut self.watchdog);
                ending::run(console, watchdog, action, &reason, units_stopped);
            }
        }
        None
    }

    fn start_daemon(&mut self) -> Event {
        match children::start_daemon(self.output_writer.as_ref(), self.data_ready) {
            Ok((daemon, socket)) => {
                let pid = daemon.pid;
                let state = if self.data_ready { "ready" } else { "absent" };
                self.console
                    .say("init", &format!("atalayad is started; /data is {state}"));
                self.link.connect(socket);
                self.daemon = Some(daemon);
                Event::Started { pid }
            }
            Err(error) => {
                self.console.say("atalayad", &error.chain());
                Event::NotStarted
            }
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
    fn hear(&mut self) {
        // Bounded, so that a babbling atalayad cannot keep PID 1 from reaping.
        for _ in 0..1024 {
            match self.link.receive(&mut self.statuses) {
                Heard::Nothing => return,
                Heard::Message(message) => self.dispatch(Event::Heard(message)),
                Heard::Problem(text) => self.console.say("init", &text),
            }
        }
    }

    fn drain_output(&mut self) {
        use std::io::Read;
        let mut buffer = [0u8; 4096];
        if let Some(output) = &mut self.output
            && let Ok(count) = output.read(&mut buffer)
        {
            self.console.write(&buffer[..count]);
        }
    }

    /// Reaps whatever has ended: the only place in the whole system.
    fn reap(&mut self) {
        while let Ok(Some(zombie)) = reap::peek() {
            let unit = cgroups::unit_of(zombie.pid);
            if !matches!(reap::reap(zombie.pid), Ok(Some(_))) {
                return; // it cannot be; trying again at once would be a loop
            }
            let status = match zombie.ending {
                Ending::Code(code) => Status::Code(code),
                Ending::Signal { signal, .. } => Status::Signal(signal),
            };
            self.ended(zombie.pid, unit, status);
        }
    }

    fn ended(&mut self, pid: i32, unit: Option<String>, status: Status) {
        if self.data.as_ref().is_some_and(|data| data.child.pid == pid) {
            self.data = None;
            self.data_ready = status == Status::Code(0);
            self.dispatch(Event::DataDone);
        } else if self.daemon.as_ref().is_some_and(|daemon| daemon.pid == pid) {
            // What it said before it died still counts: records above all.
            self.hear();
            self.drain_output();
            self.link.disconnect();
            self.daemon = None;
            self.dispatch(Event::Ended { pid, status });
        } else if let Some(unit) = unit {
            self.statuses.add(pid, unit, status);
        }
    }

    fn tell(&mut self, problem: Option<String>) {
        if let Some(text) = problem {
            self.console.say("init", &text);
        }
    }
}

fn watch_signals(console: &mut Console) -> Option<Signals> {
    let outcome = UnixStream::pair().and_then(|(read, write)| {
        read.set_nonblocking(true)?;
        SignalDelivery::with_pipe(read, write, SignalOnly, SIGNALS)
    });
    outcome
        .map_err(|error| console.say("init", &format!("failed to watch signals: {error}")))
        .ok()
}

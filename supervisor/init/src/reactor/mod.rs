//! PID 1's loop: waits for signals, atalayad, power buttons, its control socket and time, tells `supervise`, and executes
//! what it says.
//!
//! Nothing is decided here. No call in this loop can block on a device: what might runs in a child.

pub(crate) mod children;
mod control;
mod drain;
mod execute;
mod link;
mod orders;
mod power;
mod reaping;
mod spare;
pub(crate) mod watchdog;

use crate::ask;
use crate::boot_record;
use crate::console::Console;
use crate::data;
use crate::machine;
use crate::resident;
use crate::stage1::PROGRAM;
use crate::supervise::statuses::Statuses;
use crate::supervise::{Event, Supervise};
use atalaya_sys::host::boottime_ms;
use children::{Child, DataChild};
use control::Control;
use drain::Drain;
use link::Link;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::set_cad_enabled;
use power::Buttons;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use spare::Spare;
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
/// Between two looks at the cgroups of units that are being stopped.
const GLANCE_MS: u64 = 50;

/// Everything PID 1 holds.
struct Reactor {
    console: Console,
    supervise: Supervise,
    statuses: Statuses,
    link: Link,
    drain: Drain,
    control: Control,
    daemon: Option<Child>,
    data: Option<DataChild>,
    data_ready: bool,
    /// Read end of atalayad's stdout and stderr; it outlives each atalayad.
    output: Option<File>,
    output_writer: Option<File>,
    buttons: Buttons,
    watchdog: Feeder,
    boot_id: String,
    /// A version on trial, because its supervisor does not run.
    gave_up: bool,
    spare: Spare,
    /// There may be more zombies than one round takes.
    more_to_reap: bool,
}

/// Runs the machine from here to its end.
pub fn run() -> ! {
    let resident = resident::ensure(PROGRAM);
    let spare = Spare::new();
    let mut console = Console::new();
    console.say("init", "starting");
    if let Err(error) = resident {
        console.say("init", &format!("failed to run from memory: {error}"));
    }
    let mut signals = watch_signals(&mut console);
    let watchdog = Feeder::take_over(&mut console);
    children::silence_standard_streams(&mut console);
    machine::prepare(&mut console);
    boot_record::note_watchdog_reset(watchdog.has_reset(), &mut console);
    children::load_crash_stores(&mut console);
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
        control: Control::new(&mut console),
        data: children::start_data(&mut console, boottime_ms()),
        console,
        supervise: Supervise::default(),
        statuses: Statuses::default(),
        link: Link::default(),
        drain: Drain::default(),
        daemon: None,
        data_ready: false,
        output,
        output_writer,
        watchdog,
        boot_id: boot_id.trim().to_owned(),
        gave_up: false,
        spare,
        more_to_reap: false,
    };
    if reactor.data.is_none() {
        reactor.data_is_absent("its preparation could not be started");
    }
    loop {
        reactor.turn(signals.as_mut());
    }
}

impl Reactor {
    /// One round: wait, then handle whatever there is.
    fn turn(&mut self, signals: Option<&mut Signals>) {
        let ready = self.wait(signals.as_deref(), boottime_ms());
        if let Some(signals) = signals {
            for signal in signals.pending() {
                if let Some((action, source)) = ask::request_of(signal) {
                    self.want(action, source);
                }
            }
        }
        // Before reaping: what a process said last can be believed only while its cgroup can be read.
        if self.supervise.drains() {
            self.drain.turn(&self.link.kept, &mut self.link.meanwhile);
        }
        self.reap();
        if ready {
            self.hear();
            self.drain_output();
            if let Some((action, source)) = self.buttons.pressed() {
                self.want(action, source);
            }
        }
        self.answer_requests();
        let now = boottime_ms();
        if let Some(data) = self.data.as_mut().filter(|data| now >= data.deadline) {
            // It goes on, and may yet succeed: a long log that is replayed.
            data.deadline = u64::MAX;
            self.data_is_absent("not ready in time; it is still being prepared");
        }
        self.look_at_watched();
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
            self.control.deadline(now),
            self.more_to_reap.then_some(now),
            (!self.supervise.watched().is_empty()).then_some(now + GLANCE_MS),
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
        watched.extend(self.control.fds(now).map(|(fd, flags)| (Some(fd), flags)));
        watched.extend(
            self.console
                .blocked()
                .map(|fd| (Some(fd), PollFlags::POLLOUT)),
        );
        if self.supervise.drains() {
            let kept = self.drain.fds(&self.link.kept);
            watched.extend(kept.into_iter().map(|fd| (Some(fd), read)));
        }
        let mut polled: Vec<PollFd<'_>> = watched
            .into_iter()
            .filter_map(|(fd, flags)| Some(PollFd::new(fd?, flags)))
            .collect();
        let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        // EINTR and ENOMEM are answered by the next round; time passes meanwhile.
        poll(&mut polled, timeout).is_ok_and(|count| count > 0)
    }

    fn data_is_absent(&mut self, why: &str) {
        self.console
            .say("data", &format!("{why}: going on without it"));
        data::record_absence(why, &mut self.console);
        self.dispatch(Event::DataDone);
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

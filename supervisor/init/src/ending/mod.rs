//! The one way out: end all processes, write everything to the disks, unmount, act.
//!
//! Every step has a limit and none of them happens in this process if it can block: an unkillable process or a dead disk
//! delays the end, but does not prevent it. The hardware watchdog stays armed and catches what even that does not.

pub mod effect;
pub mod plan;

use crate::console::Console;
use crate::failure::chain;
use crate::reactor::children::{Child, start_self};
use crate::reactor::watchdog::Feeder;
use atalaya_core::link::Action;
use atalaya_sys::host::boottime_ms;
use atalaya_sys::reap::{self, Zombie};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plan::{Step, plan, plan_unmounts};
use std::time::Duration;

/// Between two looks at what has ended meanwhile.
const GLANCE: Duration = Duration::from_millis(20);
const UNMOUNT_LIMIT_MS: u64 = 20_000;

/// Ends the machine.
pub fn run(
    console: Console,
    watchdog: Feeder,
    action: Action,
    reason: &str,
    units_stopped: bool,
) -> ! {
    let mut end = Ending { console, watchdog };
    let verb = match action {
        Action::Reboot => "restarting",
        Action::Poweroff => "powering off",
        Action::Halt => "halting",
    };
    end.say(&format!("{verb}: {reason}"));
    for step in plan(units_stopped) {
        end.take(step);
    }
    end.say(verb);
    end.drain_console();
    loop {
        // Only returns if it did not work.
        for mode in modes(action) {
            let Err(errno) = reboot(mode);
            end.say(&format!("failed with {mode:?}: {errno}"));
        }
        end.drain_console();
        // Without feeding: a watchdog does what could not be done here.
        std::thread::sleep(Duration::from_secs(10));
    }
}

/// What to try, in this order.
fn modes(action: Action) -> Vec<RebootMode> {
    match action {
        Action::Reboot => vec![RebootMode::RB_AUTOBOOT],
        Action::Poweroff => vec![RebootMode::RB_POWER_OFF, RebootMode::RB_HALT_SYSTEM],
        Action::Halt => vec![RebootMode::RB_HALT_SYSTEM],
    }
}

struct Ending {
    console: Console,
    watchdog: Feeder,
}

impl Ending {
    fn say(&mut self, text: &str) {
        self.console.say("end", text);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Signal(signal) => self.signal_all(signal),
            Step::WaitForProcesses { limit_ms } => self.wait_for_processes(limit_ms),
            Step::Sync { limit_ms } => {
                if !self.effect(&["sync"], limit_ms) {
                    self.say("not everything could be written to the disks in time");
                }
            }
            Step::Unmount => self.unmount(),
        }
    }

    fn signal_all(&mut self, signal: Signal) {
        // -1: every process but this one. ESRCH: there is none.
        match kill(Pid::from_raw(-1), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => self.say(&format!("failed to send {signal} to all: {errno}")),
        }
    }

    fn wait_for_processes(&mut self, limit_ms: u64) {
        let start = boottime_ms();
        while !self.nothing_left() {
            let waited = boottime_ms().saturating_sub(start);
            if waited > limit_ms {
                self.say(&format!(
                    "still running after {} s: {}",
                    limit_ms / 1000,
                    effect::describe_processes()
                ));
                return;
            }
            self.pause();
        }
    }

    /// Reaps what has ended; whether no child is left.
    fn nothing_left(&mut self) -> bool {
        while let Ok(Some(Zombie { pid, .. })) = reap::peek() {
            if !matches!(reap::reap(pid), Ok(Some(_))) {
                break;
            }
        }
        !reap::any_child()
    }

    /// Unmounts while progress is made; what remains is made read-only.
    fn unmount(&mut self) {
        loop {
            let targets = mounted();
            let before = targets.len();
            for target in &targets {
                self.effect(&["unmount", target], UNMOUNT_LIMIT_MS);
            }
            let left = mounted();
            if left.is_empty() {
                return;
            }
            if left.len() >= before {
                for target in &left {
                    self.say(&format!("{target} is still in use: made read-only"));
                    self.effect(&["read-only", target], UNMOUNT_LIMIT_MS);
                }
                return;
            }
        }
    }

    /// Runs what may block in a child; whether it worked within the limit. One that did not end is abandoned.
    fn effect(&mut self, words: &[&str], limit_ms: u64) -> bool {
        let mut arguments = vec!["effect"];
        arguments.extend(words);
        let child = match start_self(&arguments) {
            Ok(child) => child,
            Err(error) => {
                self.say(&chain(&error));
                return false;
            }
        };
        let start = boottime_ms();
        while boottime_ms().saturating_sub(start) <= limit_ms {
            if ended(&child) {
                return matches!(
                    reap::reap(child.pid),
                    Ok(Some(Zombie {
                        ending: reap::Ending::Code(0),
                        ..
                    }))
                );
            }
            self.feed();
        }
        self.say(&format!(
            "gave up after {} s: {}",
            limit_ms / 1000,
            words.join(" ")
        ));
        false
    }

    fn pause(&mut self) {
        std::thread::sleep(GLANCE);
        self.feed();
    }

    fn feed(&mut self) {
        self.watchdog.feed(boottime_ms(), &mut self.console);
        self.console.flush();
    }

    /// A last second for a slow console.
    fn drain_console(&mut self) {
        for _ in 0..50 {
            self.console.flush();
            if self.console.blocked().next().is_none() {
                return;
            }
            self.pause();
        }
    }
}

/// Waits a glance; whether the child has ended.
fn ended(child: &Child) -> bool {
    let mut polled = [PollFd::new(child.handle(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO);
    poll(&mut polled, timeout).is_ok_and(|count| count > 0)
}

/// What is to be unmounted now.
fn mounted() -> Vec<String> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    plan_unmounts(&String::from_utf8_lossy(&text))
}

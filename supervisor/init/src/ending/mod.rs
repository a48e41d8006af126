//! The one way out: end all processes, note that it was orderly, write everything to the disks, unmount, act.
//!
//! Every step has a limit and none of them happens in this process if it can block: an unkillable process or a dead disk
//! delays the end, but does not prevent it. The hardware watchdog stays armed and catches what even that does not.

pub mod effect;
pub mod plan;

use crate::boot_record::LAST_END;
use crate::console::Console;
use crate::data::MOUNT_POINT;
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
use plan::{Holder, Step, plan, plan_devices, plan_swaps, plan_unmounts};
use std::path::Path;
use std::time::Duration;

/// Between two looks at what has ended meanwhile.
const GLANCE: Duration = Duration::from_millis(20);
/// For each file system, swap or device that is given up.
const RELEASE_LIMIT_MS: u64 = 20_000;
/// Between two lines that say what is waited for.
const PROGRESS_MS: u64 = 5_000;

/// Why the machine ends; kept for the next boot.
#[derive(Debug)]
pub struct LastEnd {
    pub action: Action,
    pub reason: String,
    pub boot_id: String,
    /// The root hash of the version on trial that init itself has given up.
    pub gave_up: Option<String>,
}

impl LastEnd {
    fn json(&self, time: i64) -> String {
        let mut value = serde_json::json!({
            "version": 1,
            "action": self.action,
            "reason": self.reason,
            "boot_id": self.boot_id,
            "time": time,
        });
        if let (Some(fields), Some(gave_up)) = (value.as_object_mut(), &self.gave_up) {
            fields.insert("gave_up".to_owned(), gave_up.as_str().into());
        }
        format!("{value}\n")
    }
}

/// Ends the machine.
pub fn run(console: Console, watchdog: Feeder, last: &LastEnd) -> ! {
    let mut end = Ending { console, watchdog };
    let verb = match last.action {
        Action::Reboot => "restarting",
        Action::Poweroff => "powering off",
        Action::Halt => "halting",
    };
    end.say(&format!("{verb}: {}", last.reason));
    for step in plan() {
        end.take(step, last);
    }
    end.say(verb);
    end.drain_console();
    loop {
        // Only returns if it did not work.
        for mode in modes(last.action) {
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

    fn take(&mut self, step: Step, last: &LastEnd) {
        match step {
            Step::Signal(signal) => self.signal_all(signal),
            Step::WaitForProcesses { limit_ms } => self.wait_for_processes(limit_ms),
            Step::Record { limit_ms } => self.record(last, limit_ms),
            Step::Sync { limit_ms } => {
                if !self.effect(&["sync"], limit_ms) {
                    self.say("not everything could be written to the disks in time");
                }
            }
            Step::Release => self.release(),
        }
    }

    fn record(&mut self, last: &LastEnd, limit_ms: u64) {
        // Without /data there is nowhere to write it.
        if !holders().contains(&Holder::Mount(MOUNT_POINT.to_owned())) {
            return;
        }
        let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME);
        let text = last.json(clock.map_or(0, |time| time.tv_sec()));
        if !self.effect(&["write", LAST_END, &text], limit_ms) {
            self.say(&format!(
                "{LAST_END} could not be written: the next boot takes this end for a crash"
            ));
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

    /// Gives up file systems, swaps and mapped devices while progress is made: each may hold another. What remains mounted
    /// is made read-only.
    fn release(&mut self) {
        let mut left = holders();
        while !left.is_empty() {
            for holder in &left {
                self.effect(&holder.words(), RELEASE_LIMIT_MS);
            }
            let now = holders();
            if now.len() >= left.len() {
                break;
            }
            left = now;
        }
        for holder in holders() {
            if let Holder::Mount(target) = &holder {
                self.say(&format!("{target} is still in use: made read-only"));
                self.effect(&["read-only", target], RELEASE_LIMIT_MS);
            } else {
                self.say(&format!("{} is still in use", holder.name()));
            }
        }
    }

    /// Runs what may block in a child; whether it worked within the limit. One that did not end is abandoned.
    fn effect(&mut self, words: &[&str], limit_ms: u64) -> bool {
        // The last word may be a whole file.
        let shown = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
        let mut arguments = vec!["effect"];
        arguments.extend(words);
        let start = boottime_ms();
        let mut told = start;
        let mut child: Option<Child> = None;
        let mut problem = String::new();
        loop {
            let now = boottime_ms();
            match &child {
                Some(child) => {
                    if ended(child) {
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
                // No room for a process now may be room for one in a moment.
                None => match start_self(&arguments) {
                    Ok(started) => child = Some(started),
                    Err(error) => {
                        problem = format!(" ({})", chain(&error));
                        self.pause();
                    }
                },
            }
            if now.saturating_sub(start) > limit_ms {
                self.say(&format!(
                    "gave up after {} s: {shown}{problem}",
                    limit_ms / 1000
                ));
                return false;
            }
            if now.saturating_sub(told) > PROGRESS_MS {
                told = now;
                self.say(&format!(
                    "{shown}: {} of {} s",
                    now.saturating_sub(start) / 1000,
                    limit_ms / 1000
                ));
            }
        }
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

/// What is to be given up now.
fn holders() -> Vec<Holder> {
    let read = |path: &str| {
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let mounts = read("/proc/self/mountinfo");
    let mut all = plan_unmounts(&mounts);
    all.extend(plan_swaps(&read("/proc/swaps")));
    all.extend(plan_devices(&mounts, &mapped_devices()));
    all
}

/// Name and kernel number of every device-mapper device.
fn mapped_devices() -> Vec<(String, String)> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten();
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned())
    };
    devices
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            Some((read(&path.join("dm/name"))?, read(&path.join("dev"))?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_orderly_end_is_the_documented_one() {
        let last = LastEnd {
            action: Action::Reboot,
            reason: "power button".to_owned(),
            boot_id: "b".to_owned(),
            gave_up: None,
        };
        let value: serde_json::Value = serde_json::from_str(&last.json(7)).unwrap();
        let expected = serde_json::json!({
            "version": 1, "action": "reboot", "reason": "power button", "boot_id": "b", "time": 7,
        });
        assert_eq!(value, expected);
    }
}

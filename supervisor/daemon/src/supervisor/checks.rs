//! Commands and questions that are put to a unit while it runs: readiness, liveness, reload. A command is a process of the
//! unit's own cgroup and sandbox; its exit comes by init like any other, and its last line is the reason.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use atalaya_core::link::Status;
use atalaya_core::machine::{Event, State};
use atalaya_core::unit::ReadyKind;
use atalaya_sys::pidfd;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::sync::oneshot;

use super::{FromRun, Supervisor};
use crate::console::harmless;
use crate::readiness::{Ask, Poll, Verdict};
use crate::run;

/// Of what a command says, at most so much is looked at, in bytes.
const OUTPUT_LIMIT: u64 = 64 * 1024;
/// The longest reason, in characters.
const REASON_LIMIT: usize = 200;

/// A command that runs.
pub(super) struct Check {
    process: OwnedFd,
    output: OwnedFd,
    reply: oneshot::Sender<Verdict>,
}

impl Supervisor {
    /// A unit that tells its readiness itself is asked only once it has, `anew` or not.
    pub(super) fn start_readiness(&mut self, name: &str, run: u32, anew: bool) {
        let Some((unit, machine)) = self.system.unit(name) else {
            return;
        };
        let Some(poll) = Poll::for_readiness(&unit.ready) else {
            return;
        };
        let told = unit.ready.kind == ReadyKind::Notify;
        if told && *machine.state() != State::Running {
            return;
        }
        let pause = told || machine.is_ready();
        let teller = self.teller(name, run);
        let Some(live) = self.lives.get_mut(name).filter(|live| live.run == run) else {
            return;
        };
        if live.readiness.is_some() && !anew {
            return;
        }
        let asker = teller.clone();
        let task = tokio::spawn(poll.run(
            pause,
            move |ask| asker.tell(FromRun::Ask(ask)),
            move |answer| teller.tell(FromRun::Answered(answer)),
        ));
        if let Some(old) = live.readiness.replace(task.abort_handle()) {
            old.abort();
        }
    }

    pub(super) fn start_liveness(&mut self, name: &str, run: u32) {
        let poll = (self.system.unit(name))
            .and_then(|(unit, _)| Poll::for_liveness(unit.liveness.as_ref()?));
        let Some(poll) = poll else { return };
        let teller = self.teller(name, run);
        let Some(live) = self.lives.get_mut(name).filter(|live| live.run == run) else {
            return;
        };
        let asker = teller.clone();
        let task = tokio::spawn(poll.run(
            true,
            move |ask| asker.tell(FromRun::Ask(ask)),
            move |answer| teller.tell(FromRun::Alive(answer)),
        ));
        if let Some(old) = live.liveness.replace(task.abort_handle()) {
            old.abort();
        }
    }

    /// By signal, or by a command whose end is told to the machine.
    pub(super) fn send_reload(&mut self, name: &str, run: u32) {
        let Some(reload) = self
            .system
            .unit(name)
            .and_then(|(unit, _)| unit.reload.clone())
        else {
            return;
        };
        if let Some(signal) = reload.signal {
            self.signal(name, run, signal.number());
        }
        if reload.command.is_empty() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let teller = self.teller(name, run);
        let command = reload.command;
        self.run_check(name, run, Ask { command, reply });
        let limit = std::time::Duration::from_secs(reload.timeout_s);
        let task = tokio::spawn(async move {
            // Behind its limit nobody waits any more, and the command is killed.
            if let Ok(Ok(answer)) = tokio::time::timeout(limit, answer).await {
                teller.tell(FromRun::Reloaded(answer.err()));
            }
        });
        if let Some(live) = self.lives.get_mut(name) {
            live.tasks.push(task.abort_handle());
        }
    }

    pub(super) fn signal(&self, name: &str, run: u32, signal: i32) {
        let live = self.lives.get(name).filter(|live| live.run == run);
        if let Some(process) = live.and_then(|live| live.pidfd.as_ref()) {
            // ESRCH: it has ended, and its exit is on the way.
            drop(pidfd::send_signal(process.as_fd(), signal));
        }
    }

    pub(super) fn run_check(&mut self, name: &str, run: u32, ask: Ask) {
        let Some((unit, _)) = self.system.unit(name) else {
            return;
        };
        let spawned = output_pipe().and_then(|(output, write)| {
            run::spawn_command(&self.options, unit, run, &ask.command, write.as_fd())
                .map(|spawned| (spawned, output))
                .map_err(|failure| failure.error)
        });
        match spawned {
            Ok((spawned, output)) => {
                let check = Check {
                    process: spawned.pidfd,
                    output,
                    reply: ask.reply,
                };
                self.checks.insert(spawned.pid, check);
            }
            Err(error) => drop(ask.reply.send(Err(format!("its check: {error}")))),
        }
    }

    /// Whether the process that ended was a check.
    pub(super) fn on_check_ended(&mut self, pid: i32, status: Status) -> bool {
        let Some(check) = self.checks.remove(&pid) else {
            return false;
        };
        let verdict =
            match status {
                Status::Code(0) => Ok(()),
                Status::Code(code) => Err(last_line(check.output)
                    .unwrap_or_else(|| format!("its check: exit status {code}"))),
                Status::Signal(signal) => Err(format!("its check: killed by signal {signal}")),
            };
        // The check may have been given up meanwhile.
        drop(check.reply.send(verdict));
        true
    }

    /// Checks for which nobody waits any more: they have taken too long.
    pub(super) fn end_late_checks(&self) {
        for check in self.checks.values() {
            if check.reply.is_closed() {
                // It may just have ended.
                drop(pidfd::send_signal(check.process.as_fd(), 9));
            }
        }
    }

    /// For the unit's last failure that lack of memory is the cause: counted by the kernel since the run began.
    pub(super) fn look_at_memory(&mut self, name: &str, run: u32) {
        let cgroup = run::cgroup_of(&self.options, name, run);
        let Ok(text) = cgroup.read("memory.events") else {
            return;
        };
        let kills = crate::usage::keyed(&text, "oom_kill").unwrap_or(0);
        let Some(live) = self.lives.get_mut(name).filter(|live| live.run == run) else {
            return;
        };
        if kills > live.oom_kills {
            live.oom_kills = kills;
            let text = format!(
                "the kernel killed in it for lack of memory ({kills} processes in this run)"
            );
            self.say(name, &text);
            self.event(name, Event::Oom { run });
        }
    }
}

fn output_pipe() -> Result<(OwnedFd, OwnedFd), String> {
    let make = || {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((read, write))
    };
    make().map_err(|error: nix::Error| format!("failed to make a pipe: {error}"))
}

/// The last line that is not empty.
fn last_line(output: OwnedFd) -> Option<String> {
    let mut bytes = Vec::new();
    // It may be cut short by a process that was left behind and says nothing: what came so far counts.
    File::from(output)
        .take(OUTPUT_LIMIT)
        .read_to_end(&mut bytes)
        .ok();
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(harmless(line.trim()).chars().take(REASON_LIMIT).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_line_of_a_check_is_harmless_and_bounded() {
        let said = |text: &str| {
            let (read, write) = output_pipe().unwrap();
            File::from(write).write_all(text.as_bytes()).unwrap();
            last_line(read)
        };
        assert_eq!(said("one\ntwo \n\n").as_deref(), Some("two"));
        assert_eq!(said("\n \n"), None);
        assert!(!said("\u{1b}[2Jgone").unwrap().contains('\u{1b}'));
        assert_eq!(said(&"x".repeat(60_000)).unwrap().len(), REASON_LIMIT);
        // Somebody still holds the other end.
        let (read, write) = output_pipe().unwrap();
        let mut write = File::from(write);
        write.write_all(b"so far").unwrap();
        assert_eq!(last_line(read).as_deref(), Some("so far"));
    }
}

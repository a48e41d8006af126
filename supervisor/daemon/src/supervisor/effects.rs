//! Carrying out effects. What cannot be done is told to the machine as an event, or logged where no event fits.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use atalaya_core::link::ToInit;
use atalaya_core::machine::{Effect as UnitEffect, Event, Stage};
use atalaya_core::system::{Effect, Input};
use atalaya_sys::{notify, pidfd, reap};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{FromRun, Live, Message, Supervisor};
use crate::logs;
use crate::readiness::{self, Ask};
use crate::run::{self, Prepared, cgroup_name};
use crate::sandbox;

/// How long a pipe that no process of the unit holds any more may take to be read.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);
/// How long the log may take to reach the disk at the end.
const LOG_LIMIT: Duration = Duration::from_secs(5);

impl Supervisor {
    pub(super) fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Unit { unit, effect } => self.execute_unit(&unit, effect),
            Effect::Forget { unit } => self.tell_init(&ToInit::Drop {
                name: unit_record(&unit),
            }),
            Effect::Ended { end, stuck } => {
                let left = if stuck.is_empty() {
                    String::new()
                } else {
                    format!(" (left: {})", stuck.join(", "))
                };
                self.say("atalayad", &format!("all services are stopped{left}"));
                self.hub.sync(LOG_LIMIT);
                self.ended = Some(end);
                self.tell_init(&ToInit::Shutdown {
                    action: end,
                    reason: format!("all services are stopped{left}"),
                });
            }
        }
    }

    fn execute_unit(&mut self, unit: &str, effect: UnitEffect) {
        match effect {
            UnitEffect::Persist => {
                self.keep_unit(unit);
                self.announce(unit);
            }
            UnitEffect::Spawn { run } => {
                let event = match self.spawn(unit, run) {
                    Ok(pid) => Event::Spawned { run, pid },
                    Err(run::Failure { stage, error }) => Event::SpawnFailed { run, stage, error },
                };
                self.inputs.push_back(Input::Unit {
                    unit: unit.to_owned(),
                    event,
                });
            }
            UnitEffect::Signal { run, signal } => {
                let live = self.lives.get(unit).filter(|live| live.run == run);
                if let Some(process) = live.and_then(|live| live.pidfd.as_ref()) {
                    // ESRCH: it has ended, and its exit is on the way.
                    drop(pidfd::send_signal(process.as_fd(), signal));
                }
            }
            UnitEffect::KillCgroup { run } => self.kill_cgroup(unit, run),
            UnitEffect::StartReadiness { run } => self.start_readiness(unit, run),
            UnitEffect::StopReadiness { run } => {
                if let Some(live) = self.lives.get_mut(unit).filter(|live| live.run == run)
                    && let Some(task) = live.readiness.take()
                {
                    task.abort();
                }
            }
            UnitEffect::StartLiveness { .. }
            | UnitEffect::StopLiveness { .. }
            | UnitEffect::Reload { .. } => {}
            UnitEffect::Retire { run } => {
                self.lives.remove(unit);
                self.tell_init(&ToInit::Drop {
                    name: run_record(unit, run),
                });
                // Both may never have been made.
                drop(run::cgroup_of(&self.options, unit, run).remove());
                drop(std::fs::remove_file(run::notify_path(
                    &self.options,
                    unit,
                    run,
                )));
            }
        }
    }

    fn spawn(&mut self, name: &str, run: u32) -> Result<i32, run::Failure> {
        let Some((unit, _)) = self.system.unit(name) else {
            return Err(run::Failure {
                stage: Stage::Fork,
                error: "there is no such unit".to_owned(),
            });
        };
        let unit = unit.clone();
        let prepared = run::prepare(&self.options, &unit, run)?;
        self.keep_run(name, run, &prepared.log_read, &prepared.notify, None);
        let spawned = run::spawn(&self.options, &prepared, &[])?;
        self.keep_run(
            name,
            run,
            &prepared.log_read,
            &prepared.notify,
            Some(&spawned.pidfd),
        );
        let Prepared {
            log_read,
            log_write,
            notify,
            ..
        } = prepared;
        // With ours closed, the pump ends when the unit's last process does.
        drop(log_write);
        let mut live = Live::new(run);
        live.pidfd = Some(spawned.pidfd);
        live.pump = Some(self.start_pump(name, log_read));
        live.tasks.extend(self.watch_notify(name, run, notify));
        if let Ok(copy) = spawned.report.try_clone() {
            live.tasks.extend(self.watch_report(name, run, copy));
        }
        live.report = Some(spawned.report);
        self.lives.insert(name.to_owned(), live);
        Ok(spawned.pid)
    }

    pub(super) fn start_pump(&mut self, name: &str, pipe: OwnedFd) -> JoinHandle<()> {
        let (hub, unit) = (self.hub.clone(), name.to_owned());
        let lines = self.console_lines(name);
        tokio::spawn(async move {
            let each = |line: &str| {
                hub.push(&unit, line);
                lines.offer(&unit, line);
            };
            // A pipe that breaks has nothing more to say.
            drop(logs::pump(pipe, each).await);
        })
    }

    pub(super) fn watch_notify(
        &self,
        name: &str,
        run: u32,
        socket: OwnedFd,
    ) -> Option<tokio::task::AbortHandle> {
        let socket = UnixDatagram::from_std(std::os::unix::net::UnixDatagram::from(socket)).ok()?;
        let (unit, outbox) = (name.to_owned(), self.outbox.clone());
        let task = tokio::spawn(async move {
            while socket.readable().await.is_ok() {
                let Ok(received) =
                    socket.try_io(Interest::READABLE, || notify::recv(socket.as_fd()))
                else {
                    continue;
                };
                let Some(sender) = received.credentials else {
                    continue;
                };
                let expected = cgroup_name(&unit, run);
                let own = reap::cgroup_of(sender.pid)
                    .is_ok_and(|path| path.rsplit('/').next() == Some(expected.as_str()));
                if received.truncated || !own {
                    continue;
                }
                let Some(pairs) = parse_notify(&received.bytes) else {
                    continue;
                };
                let what = FromRun::Notified(pairs);
                if outbox
                    .send(Message::Run {
                        unit: unit.clone(),
                        run,
                        what,
                    })
                    .is_err()
                {
                    break;
                }
            }
        });
        Some(task.abort_handle())
    }

    fn watch_report(
        &self,
        name: &str,
        run: u32,
        report: OwnedFd,
    ) -> Option<tokio::task::AbortHandle> {
        let report = Receiver::from_owned_fd(report).ok()?;
        let (unit, outbox) = (name.to_owned(), self.outbox.clone());
        let task = tokio::spawn(async move {
            if report.readable().await.is_ok() {
                // The owner may be ending.
                drop(outbox.send(Message::Run {
                    unit,
                    run,
                    what: FromRun::Reported,
                }));
            }
        });
        Some(task.abort_handle())
    }

    fn start_readiness(&mut self, name: &str, run: u32) {
        let Some((unit, machine)) = self.system.unit(name) else {
            return;
        };
        if !unit.ready.kind.is_polled() {
            return;
        }
        let (ready, is_ready) = (unit.ready.clone(), machine.is_ready());
        let (asks, mut asked) = mpsc::unbounded_channel::<Ask>();
        let tell = |outbox: mpsc::UnboundedSender<Message>, unit: String| {
            move |what: FromRun| {
                drop(outbox.send(Message::Run {
                    unit: unit.clone(),
                    run,
                    what,
                }))
            }
        };
        let tell_answer = tell(self.outbox.clone(), name.to_owned());
        let tell_ask = tell(self.outbox.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            let poll = readiness::poll(ready, is_ready, asks, move |answer| {
                tell_answer(FromRun::Answered(answer))
            });
            let pass_on = async {
                while let Some(Ask(reply)) = asked.recv().await {
                    tell_ask(FromRun::Ask(reply));
                }
            };
            tokio::join!(poll, pass_on);
        });
        if let Some(live) = self.lives.get_mut(name).filter(|live| live.run == run)
            && let Some(old) = live.readiness.replace(task.abort_handle())
        {
            old.abort();
        }
    }

    pub(super) fn run_check(
        &mut self,
        name: &str,
        run: u32,
        reply: oneshot::Sender<Result<(), String>>,
    ) {
        let Some((unit, _)) = self.system.unit(name) else {
            return;
        };
        match run::spawn_check(&self.options, unit, run) {
            Ok(spawned) => drop(self.checks.insert(spawned.pid, reply)),
            Err(failure) => drop(reply.send(Err(format!("its check: {}", failure.error)))),
        }
    }

    /// Kills, and tells when the cgroup is empty, at once where it already is.
    fn kill_cgroup(&mut self, name: &str, run: u32) {
        let cgroup = run::cgroup_of(&self.options, name, run);
        if let Err(error) = cgroup.kill()
            && cgroup.path().exists()
        {
            self.hub.push(name, &error.chain());
        }
        let live = self
            .lives
            .entry(name.to_owned())
            .or_insert_with(|| Live::new(run));
        if live.run != run || live.emptying {
            return;
        }
        let pump = live.pump.take().filter(|pump| !pump.is_finished());
        if pump.is_none() && !cgroup.populated().unwrap_or(false) {
            let event = Event::Emptied { run };
            self.inputs.push_back(Input::Unit {
                unit: name.to_owned(),
                event,
            });
            return;
        }
        live.emptying = true;
        let (unit, outbox) = (name.to_owned(), self.outbox.clone());
        let task = tokio::spawn(async move {
            let mut pause_ms = 1;
            while cgroup.populated().unwrap_or(false) {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(100);
            }
            // Its last words come before the word about its end.
            if let Some(pump) = pump {
                tokio::time::timeout(LAST_WORDS_LIMIT, pump).await.ok();
            }
            drop(outbox.send(Message::Run {
                unit,
                run,
                what: FromRun::Emptied,
            }));
        });
        live.tasks.push(task.abort_handle());
    }

    pub(super) fn keep_unit(&mut self, name: &str) {
        let Some((_, machine)) = self.system.unit(name) else {
            return;
        };
        if let Ok(record) = serde_json::to_string(&super::adopt::UnitRecord::new(machine)) {
            self.tell_init(&ToInit::Keep {
                name: unit_record(name),
                record,
                stop: None,
            });
        }
    }

    pub(super) fn keep_run(
        &mut self,
        name: &str,
        run: u32,
        log: &OwnedFd,
        notify: &OwnedFd,
        pidfd: Option<&OwnedFd>,
    ) {
        let mut fds = vec![log.as_fd(), notify.as_fd()];
        fds.extend(pidfd.map(AsFd::as_fd));
        let message = ToInit::Keep {
            name: run_record(name, run),
            record: String::new(),
            stop: None,
        };
        if let Err(error) = self.link.send(&message, &fds) {
            self.hub.push("atalayad", &format!("{error:#}"));
        }
    }
}

/// Under which a machine is kept by init.
pub(super) fn unit_record(unit: &str) -> String {
    format!("unit/{unit}")
}

/// Under which a run's descriptors are kept: log pipe, notify socket, and the pidfd once there is a process.
pub(super) fn run_record(unit: &str, run: u32) -> String {
    format!("run/{}", cgroup_name(unit, run))
}

pub(super) fn sandbox_failed(run: u32, report: sandbox::Report) -> Event {
    let stage = match report.stage {
        sandbox::Stage::Exec => Stage::Exec,
        sandbox::Stage::Spec
        | sandbox::Stage::Limits
        | sandbox::Stage::Mounts
        | sandbox::Stage::Network
        | sandbox::Stage::User
        | sandbox::Stage::Capabilities => Stage::Sandbox,
    };
    Event::SandboxFailed {
        run,
        stage,
        error: report.error,
    }
}

/// KEY=VALUE lines; nothing if it is not text.
fn parse_notify(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))?;
    Some(
        text.lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_messages_are_read_and_malformed_ones_dropped() {
        let pairs = parse_notify(b"READY=1\nSTATUS=a=b\nnonsense").unwrap();
        assert_eq!(
            pairs,
            [
                ("READY".into(), "1".into()),
                ("STATUS".into(), "a=b".into())
            ]
        );
        assert_eq!(parse_notify(b"READY=1\0"), None);
        assert_eq!(parse_notify(b"READY=\xff"), None);
    }
}

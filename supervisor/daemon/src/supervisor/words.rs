//! What units say by sd_notify, and the descriptors that they leave with atalayad. The words were parsed and their sender was checked
//! before (`crate::notify`); most are passed on to the unit's machine, which decides.

use std::os::fd::{AsFd, OwnedFd};

use atalaya_core::machine::{Event, ExitStatus, State};
use atalaya_core::unit::ReadyKind;
use atalaya_sys::fds::is_same;
use atalaya_sys::pidfd;

use super::Supervisor;
use crate::notify::{Heard, Word, is_in};
use crate::run::cgroup_name;

/// So many descriptors may a unit leave here: no more than one message to init can carry.
const STORE_LIMIT: usize = atalaya_core::link::MAX_FDS;
/// The name of a stored descriptor that was given none (sd_pid_notify_with_fds(3)).
const STORED: &str = "stored";

impl Supervisor {
    /// Of descriptors that nobody keeps, this one's copies are closed at the end of this.
    pub(super) fn on_notified(&mut self, unit: &str, run: u32, heard: Heard) {
        let Heard { mut words, fds } = heard;
        // Who speaks for the unit comes first: READY=1 beside it is the new one's.
        words.sort_by_key(|word| !matches!(word, Word::MainPid(_)));
        let name = words.iter().find_map(|word| match word {
            Word::FdName(name) => Some(name.clone()),
            _ => None,
        });
        let name = name.unwrap_or_else(|| STORED.to_owned());
        let mut fds = Some(fds);
        for word in words {
            match word {
                Word::Ready => self.on_said_ready(unit, run),
                Word::Reloading => self.event(unit, Event::Reloading { run }),
                Word::Stopping => {
                    let reason = "it says that it is stopping".to_owned();
                    self.event(unit, Event::NotReady { run, reason });
                }
                Word::Status(words) => {
                    if let Some(live) = self.lives.get_mut(unit) {
                        live.words = Some(words);
                    }
                }
                Word::Errno(number) => {
                    let meaning = nix::errno::Errno::from_raw(number).desc();
                    self.hub
                        .push(unit, &format!("it reports error {number} ({meaning})"));
                }
                Word::MainPid(pid) => self.on_main_pid(unit, run, pid),
                Word::Watchdog => self.event(unit, Event::Petted { run }),
                Word::WatchdogTrigger => {
                    let error = Some("it says so itself (WATCHDOG=trigger)".to_owned());
                    self.event(unit, Event::Alive { run, error });
                }
                Word::WatchdogUsec(usec) => self.event(
                    unit,
                    Event::WatchdogLimit {
                        run,
                        ms: (usec / 1000).max(1),
                    },
                ),
                Word::ExtendTimeoutUsec(usec) => self.event(
                    unit,
                    Event::Extend {
                        run,
                        ms: usec / 1000,
                    },
                ),
                Word::FdStore => self.store(unit, &name, fds.take().unwrap_or_default()),
                Word::FdStoreRemove => {
                    if let Some(stored) = self.stores.get_mut(unit) {
                        stored.retain(|(other, _)| *other != name);
                        self.keep_store(unit);
                    }
                }
                Word::MonotonicUsec(_) | Word::FdName(_) | Word::Barrier => {}
            }
        }
    }

    fn on_said_ready(&mut self, unit: &str, run: u32) {
        // Of a unit whose readiness is asked for, READY=1 can only be the end of a reload.
        let notifies = (self.system.unit(unit)).is_some_and(|(unit, machine)| {
            let of_reload = unit.reload.as_ref().and_then(|reload| reload.notifies);
            unit.ready.kind == ReadyKind::Notify || (of_reload == Some(true) && machine.is_ready())
        });
        if !notifies {
            return;
        }
        self.event(unit, Event::SaidReady { run });
        // From now on it is asked too, where its file says how: readiness can be lost without a word.
        self.start_readiness(unit, run, false);
    }

    /// Another process of the run takes over. One of another cgroup is not believed.
    fn on_main_pid(&mut self, unit: &str, run: u32, pid: i32) {
        let is_new = self
            .system
            .unit(unit)
            .is_some_and(|(_, machine)| machine.pid().is_some_and(|main| main != pid));
        // Opened first: from then on the number cannot become another process's.
        let Ok(process) = pidfd::open(pid) else {
            return;
        };
        if !is_new || !is_in(pid, &cgroup_name(unit, run)) {
            return;
        }
        let task =
            (process.try_clone().ok()).and_then(|process| self.watch_main(unit, run, pid, process));
        let Some(live) = self.lives.get_mut(unit) else {
            return;
        };
        live.pid = Some(pid);
        live.pidfd = Some(process);
        live.tasks.extend(task);
        self.keep_run(unit, run);
        self.event(unit, Event::MainPid { run, pid });
    }

    /// A main process that was not ours to start has ended a while ago. If init had its exit, it has told it by now.
    pub(super) fn on_main_gone(&mut self, unit: &str, run: u32, pid: i32) {
        let is_main = self
            .system
            .unit(unit)
            .is_some_and(|(_, machine)| machine.run() == run && machine.pid() == Some(pid));
        if is_main {
            let status = ExitStatus::Unknown;
            self.event(unit, Event::Exited { run, status });
        }
    }

    fn store(&mut self, unit: &str, name: &str, mut fds: Vec<OwnedFd>) {
        let stored = self.stores.entry(unit.to_owned()).or_default();
        // What is stored already is not stored twice (sd_notify(3)); a former atalayad may have ended between storing and
        // taking the message.
        fds.retain(|fd| !(stored.iter()).any(|(_, other)| is_same(fd.as_fd(), other.as_fd())));
        let room = STORE_LIMIT.saturating_sub(stored.len());
        if fds.len() > room {
            let text = format!("it wants to store more than {STORE_LIMIT} descriptors: refused");
            self.hub.push(unit, &text);
        } else {
            stored.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
        }
        self.keep_store(unit);
    }

    /// A unit that is down on purpose, or given up, listens no more; what it has stored is for runs that follow each
    /// other, not for a start after a stop.
    pub(super) fn settle_descriptors(&mut self, name: &str) {
        let Some((_, machine)) = self.system.unit(name) else {
            return;
        };
        let (close, forget) = match machine.state() {
            State::Stopped => (true, true),
            State::Failed { .. } => (true, false),
            State::Waiting
            | State::Starting(_)
            | State::Running
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Done => (false, false),
        };
        if close && self.sockets.remove(name).is_some() {
            self.keep_sockets(name);
        }
        if forget && self.stores.remove(name).is_some() {
            self.keep_store(name);
        }
    }
}

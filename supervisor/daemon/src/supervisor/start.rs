//! From the decision to start a run to its process. What has to be made on /data is made on a thread of its own: a disk
//! that does not answer must hold up that one unit and not the owner of state.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use atalaya_core::machine::{Event, Stage, StartPhase, State};
use atalaya_core::system::Input;
use atalaya_core::unit::Unit;
use tokio::task::JoinHandle;

use super::update::uses_generation;
use super::{FromRun, Live, Supervisor};
use crate::listen::{self, Socket};
use crate::run::{self, Failure, Prepared};

impl Supervisor {
    pub(super) fn begin_start(&mut self, name: &str, run: u32) {
        let Some((unit, _)) = self.system.unit(name) else {
            return;
        };
        let unit = unit.clone();
        self.lives.insert(name.to_owned(), Live::new(run));
        if let Some(error) = self.stranger_of(name) {
            let stage = Stage::Fork;
            self.inputs_of(name, Event::SpawnFailed { run, stage, error });
            return;
        }
        if self.options.generation.is_none() && uses_generation(&unit) {
            let stage = Stage::Fork;
            let error = "the data belong to another version: nothing is started on them".to_owned();
            self.inputs_of(name, Event::SpawnFailed { run, stage, error });
            return;
        }
        if !touches_data(&unit) {
            let prepared = run::prepare(&self.options, &unit, run);
            self.finish_start(name, run, prepared);
            return;
        }
        let (options, teller) = (self.options.clone(), self.teller(name, run));
        tokio::task::spawn_blocking(move || {
            let prepared = run::prepare(&options, &unit, run).map(Box::new);
            teller.tell(FromRun::Prepared(prepared));
        });
    }

    /// Whether the run is still wanted; otherwise what was made for it goes again.
    pub(super) fn on_prepared(
        &mut self,
        name: &str,
        run: u32,
        prepared: Result<Box<Prepared>, Failure>,
    ) {
        let is_wanted = self.system.unit(name).is_some_and(|(_, machine)| {
            machine.run() == run && *machine.state() == State::Starting(StartPhase::Forking)
        });
        let is_known = self.lives.get(name).is_some_and(|live| live.run == run);
        if is_wanted && is_known {
            self.finish_start(name, run, prepared.map(|prepared| *prepared));
        } else {
            drop(prepared);
            self.clear_away(name, run);
            if is_known {
                let error = "stopped before it had begun".to_owned();
                let stage = Stage::Fork;
                self.inputs_of(name, Event::SpawnFailed { run, stage, error });
            }
        }
        self.carry_on();
    }

    fn finish_start(&mut self, name: &str, run: u32, prepared: Result<Prepared, Failure>) {
        let event = match prepared.and_then(|prepared| self.spawn(name, run, prepared)) {
            Ok(pid) => Event::Spawned { run, pid },
            Err(Failure { stage, error }) => Event::SpawnFailed { run, stage, error },
        };
        self.inputs_of(name, event);
    }

    fn inputs_of(&mut self, name: &str, event: Event) {
        let unit = name.to_owned();
        self.inputs.push_back(Input::Unit { unit, event });
    }

    fn spawn(&mut self, name: &str, run: u32, prepared: Prepared) -> Result<i32, Failure> {
        let no_unit = || Failure {
            stage: Stage::Fork,
            error: "there is no such unit".to_owned(),
        };
        let unit = self.system.unit(name).ok_or_else(no_unit)?.0.clone();
        let passed = self.passed_to(&unit)?;
        let pipe = |error: std::io::Error| Failure {
            stage: Stage::Fork,
            error: format!("failed to copy the log pipe's descriptor: {error}"),
        };
        let log = prepared.log.read.try_clone().map_err(pipe)?;
        let errors = prepared.errors.read.try_clone().map_err(pipe)?;
        let notify = Arc::new(prepared.notify.try_clone().map_err(pipe)?);
        if let Some(live) = self.lives.get_mut(name) {
            live.log = Some(log);
            live.errors = Some(errors);
            live.notify = Some(Arc::clone(&notify));
        }
        self.keep_run(name, run);
        let spawned = run::spawn(&self.options, &prepared, &passed)?;
        if let Some(live) = self.lives.get_mut(name) {
            live.pid = Some(spawned.pid);
            live.pidfd = Some(spawned.pidfd);
        }
        self.keep_run(name, run);
        let cgroup = prepared.cgroup.clone();
        let Prepared { log, errors, .. } = prepared;
        // With ours closed, the pump ends when the unit's last process does.
        drop((log.write, errors.write));
        let pump = self.start_pump(name, log.read, Some(errors.read));
        let mut tasks = Vec::new();
        tasks.extend(self.watch_notify(&unit, run, notify));
        tasks.extend(self.watch_memory(name, run, &cgroup));
        if let Ok(copy) = spawned.report.try_clone() {
            tasks.extend(self.watch_report(name, run, copy));
        }
        if let Some(live) = self.lives.get_mut(name) {
            live.pump = Some(pump);
            live.tasks.extend(tasks);
            live.report = Some(spawned.report);
        }
        Ok(spawned.pid)
    }

    /// Of stdout and stderr.
    pub(super) fn start_pump(
        &mut self,
        name: &str,
        log: OwnedFd,
        errors: Option<OwnedFd>,
    ) -> JoinHandle<()> {
        let (unit, lines) = (name.to_owned(), self.console_lines(name));
        self.hub.pump(name, (log, errors), move |batch| {
            if lines.is_loud() {
                for text in batch.texts() {
                    lines.offer(&unit, &text);
                }
            } else if let Some(last) = batch.texts().next_back() {
                lines.offer(&unit, &last);
            }
        })
    }

    /// The unit's listening sockets, then what it has stored. A start with a changed address closes the old one and opens the
    /// new one; one that has not changed was never closed.
    fn passed_to(&mut self, unit: &Unit) -> Result<Vec<(String, OwnedFd)>, Failure> {
        let failed = |error: String| Failure {
            stage: Stage::Sandbox,
            error,
        };
        let before = self.sockets.remove(&unit.name).unwrap_or_default();
        let had_some = !before.is_empty();
        let places = listen::places(unit).map_err(failed)?;
        let (mut kept, gone): (Vec<Socket>, Vec<Socket>) = before
            .into_iter()
            .partition(|socket| places.contains(&socket.place));
        let mut changed = !gone.is_empty();
        // First, because the new one may need its place.
        drop(gone);
        let mut sockets = Vec::new();
        for place in places {
            let open = kept.iter().position(|socket| socket.place == place);
            let socket = match open {
                Some(at) => kept.swap_remove(at),
                None => {
                    changed = true;
                    let fd = listen::open(place.address).map_err(failed)?;
                    Socket { place, fd }
                }
            };
            sockets.push(socket);
        }
        let copy = |name: &str, fd: &OwnedFd| {
            fd.try_clone()
                .map(|fd| (name.to_owned(), fd))
                .map_err(|error| failed(format!("failed to copy a descriptor: {error}")))
        };
        let mut passed = Vec::new();
        for socket in &sockets {
            passed.push(copy(&socket.place.name, &socket.fd)?);
        }
        for (name, fd) in self.stores.get(&unit.name).into_iter().flatten() {
            passed.push(copy(name, fd)?);
        }
        if !sockets.is_empty() {
            self.sockets.insert(unit.name.clone(), sockets);
        }
        if changed || (had_some && unit.listen.is_empty()) {
            self.keep_sockets(&unit.name);
        }
        Ok(passed)
    }

    /// What a run leaves behind when nothing of it lives.
    pub(super) fn clear_away(&self, name: &str, run: u32) {
        // Both may never have been made.
        drop(run::cgroup_of(&self.options, name, run).remove());
        drop(std::fs::remove_file(run::notify_path(
            &self.options,
            name,
            run,
        )));
    }

    /// Kills, and tells when the cgroup is empty, at once where it already is.
    pub(super) fn kill_cgroup(&mut self, name: &str, run: u32) {
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
            self.inputs_of(name, Event::Emptied { run });
            return;
        }
        live.emptying = true;
        let task = self.watch_emptiness(name, run, cgroup, pump);
        if let Some(live) = self.lives.get_mut(name) {
            live.tasks.push(task);
        }
    }

    pub(super) fn on_report(&mut self, unit: &str, run: u32) {
        let Some(live) = self.lives.get_mut(unit) else {
            return;
        };
        let Some(report) = &live.report else { return };
        let event = match run::read_report(report.as_fd()) {
            run::Told::Nothing => return,
            run::Told::Executed => Event::Executed { run },
            run::Told::Failed(told) => super::effects::sandbox_failed(run, told),
        };
        live.report = None;
        self.event(unit, event);
    }
}

/// Whether its start has to make or empty anything on /data. What the helper mounts there holds up only itself.
fn touches_data(unit: &Unit) -> bool {
    let sandbox = &unit.sandbox;
    (sandbox.data.iter().chain(&sandbox.data_read)).any(|mount| mount.create || mount.empty)
}

//! The promises, each with the words of what it would mean to break it.

use std::collections::BTreeMap;

use atalaya_core::machine::{AfterStop, Desired, Event, ExitStatus, Machine, Stage, State};
use atalaya_core::system::{Input, System};
use atalaya_core::unit::{LivenessKind, SignalName};

use crate::world::World;

/// What must be remembered of the past to see a promise broken.
#[derive(Default)]
pub struct Memory {
    /// Units that are asked whether they are alive, with the run.
    pub asked: BTreeMap<String, u32>,
    /// Failed liveness checks in a row, while all that the unit requires was ready.
    misses: BTreeMap<String, u32>,
    /// When the stop under way began.
    stopping_since: BTreeMap<String, u64>,
}

impl Memory {
    /// Another atalayad asks for itself and counts from the beginning; limits of stops begin anew.
    pub fn forget(&mut self) {
        self.asked.clear();
        self.misses.clear();
    }
}

impl World {
    /// By the file that the run began with.
    fn stands(&self, system: &System, name: &str) -> bool {
        let Some((unit, _)) = system.unit(name) else {
            return false;
        };
        (unit.requires.iter()).all(|name| {
            let unit = system.unit(name);
            unit.is_none_or(|(_, machine)| machine.is_ready())
        })
    }

    pub fn check_spawn(&self, name: &str, before: &System, input: &Input) {
        assert!(self.ended.is_none(), "{name} starts after the end");
        let (unit, machine) = self.system.unit(name).unwrap();
        let unready = |files: &System, states: &System| {
            let mut required = files.graph().requires(name).iter();
            required
                .find(|required| !(states.unit(required)).is_some_and(|(_, it)| it.is_ready()))
                .cloned()
        };
        // In the step in which new files come to count, those before may have been followed last: by them it was ready
        // to start, and what it required may have been held by the new ones before the step was over.
        let followed = |states: &System| unready(before, states).is_none();
        let is_replaced = before.graph().requires(name) != self.system.graph().requires(name);
        if let Some(required) = unready(&self.system, &self.system)
            && !followed(&self.system)
            && !(is_replaced && followed(before))
        {
            panic!("{name} starts before {required} is ready");
        }
        assert_eq!(
            machine.desired(),
            Desired::Up,
            "{name} starts though nobody wants it"
        );
        let has_changed = before.unit(name).is_some_and(|(before, _)| before != unit);
        assert!(
            machine.ground().is_none() || has_changed,
            "{name} starts without its data"
        );
        assert!(
            !self.processes.contains_key(name),
            "{name} starts beside its former run"
        );
        let asked = matches!(input, Input::Start(asked) | Input::Restart(asked) if asked == name);
        let was = before.unit(name).map(|(_, machine)| machine);
        // A file that has changed counts from the next run on.
        let timed = before
            .unit(name)
            .is_some_and(|(before, _)| before.timer.is_some() && unit.timer.is_some());
        if timed && !asked {
            let due = was.and_then(Machine::next_run_ms);
            assert!(
                due.is_some_and(|due| due <= self.now_ms),
                "{name} runs before its time: {due:?}, at {}, {input:?}, {was:?}",
                self.now_ms
            );
        }
    }

    /// SIGKILL comes last: after the signals of the stop and their limits, or when the main process is gone.
    pub fn check_kill(&self, name: &str, run: u32) {
        let lives = |process: &&crate::world::Process| {
            process.run == run && process.main_alive && !process.killed
        };
        if self.processes.get(name).filter(lives).is_none() {
            return;
        }
        let Some((unit, _)) = self.system.unit(name) else {
            return;
        };
        let since = self.memory.stopping_since.get(name);
        let since = since.unwrap_or_else(|| panic!("{name} is killed without a stop"));
        let second_s = match unit.stop.then {
            SignalName::Kill => 0,
            _ => unit.stop.then_timeout_s,
        };
        let limit_ms = (unit.stop.timeout_s + second_s) * 1000;
        assert!(
            self.now_ms - since >= limit_ms,
            "{name} is killed after {} ms, its stop allows {limit_ms}",
            self.now_ms - since
        );
    }

    pub fn check_next_tick(&self) {
        assert!(
            self.system.deadline_ms().is_none_or(|at| at > self.now_ms),
            "the same tick is wanted again and again"
        );
    }

    pub fn remember(&mut self, before: &System, input: &Input) {
        for name in self.names() {
            let is = self.machine(&name).state().clone();
            let was = before.unit(&name).map(|(_, machine)| machine.state());
            let is_stopping = matches!(is, State::Stopping { .. });
            if is_stopping && !matches!(was, Some(State::Stopping { .. })) {
                self.memory.stopping_since.insert(name.clone(), self.now_ms);
            } else if !is_stopping {
                self.memory.stopping_since.remove(&name);
            }
            self.count_misses(&name, before, input);
            let failed = State::Running;
            if was == Some(&failed)
                && let State::Stopping {
                    then: AfterStop::Failure { stage, reason },
                    ..
                } = &is
            {
                assert_eq!(*stage, Stage::Run);
                assert!(reason.starts_with("stuck"), "{reason}");
                self.check_liveness_stop(&name, before);
            }
        }
    }

    fn count_misses(&mut self, name: &str, before: &System, input: &Input) {
        let is_running = *self.machine(name).state() == State::Running;
        let error = match input {
            Input::Unit {
                unit,
                event: Event::Alive { error, .. },
            } if unit == name => Some(error),
            _ => None,
        };
        let misses = self.memory.misses.entry(name.to_owned()).or_default();
        match error {
            Some(Some(_)) => *misses += 1,
            Some(None) => *misses = 0,
            None if !is_running => *misses = 0,
            None => {}
        }
        if !self.stands(before, name) {
            self.memory.misses.insert(name.to_owned(), 0);
        }
    }

    /// A unit is only called stuck while all that it requires is ready, and after as many failures as its file says.
    fn check_liveness_stop(&self, name: &str, before: &System) {
        let (unit, _) = before.unit(name).unwrap();
        // Between two releases what it is told of is not what its run began with.
        let same = unit.requires == before.graph().requires(name);
        assert!(
            !same || self.stands(before, name),
            "{name} is blamed for what it requires"
        );
        let liveness = unit.liveness.as_ref().unwrap();
        if liveness.kind != LivenessKind::Watchdog {
            assert!(
                !same || self.memory.misses.get(name).copied() >= Some(liveness.threshold),
                "{name} is stopped too early: {:?}",
                self.memory.misses.get(name)
            );
        }
    }

    pub fn check(&self) {
        for (unit, machine) in self.system.units() {
            let name = &unit.name;
            // What is dying of SIGKILL may take its time, but the machine must know of it.
            let process = self.processes.get(name);
            let lives = process.is_some_and(|process| !process.killed || !machine.is_occupied());
            match machine.state() {
                State::Stopped | State::Waiting | State::Done => {
                    assert!(!lives, "{name} is {} and lives", machine.state().word());
                }
                State::Backoff { until_ms } => {
                    // A pause that has begun goes on under new files.
                    let of_name = self
                        .graphs
                        .iter()
                        .flatten()
                        .filter(|unit| unit.name == *name);
                    let max_ms = of_name.map(|unit| unit.restart.max_ms).max().unwrap();
                    assert!(
                        until_ms.saturating_sub(self.now_ms) <= max_ms,
                        "{name} waits too long"
                    );
                }
                State::Running => {
                    assert!(machine.pid().is_some(), "{name} runs without a process");
                }
                State::Starting(_) | State::Stopping { .. } | State::Failed { .. } => {}
            }
            if machine.desired() == Desired::Down {
                let calm = matches!(machine.state(), State::Stopped | State::Stopping { .. });
                assert!(calm, "{name} is not wanted and {}", machine.state().word());
            }
            if machine.pid().is_some() {
                let untold = process.is_some_and(|p| p.main_alive || p.untold.is_some());
                assert!(untold, "{name}: its exit was told and forgotten");
            }
            assert!(
                machine.ready_since_ms().is_none() || machine.is_ready(),
                "{name}: ready in no state to be"
            );
            assert!(
                !machine.is_reloading() || *machine.state() == State::Running,
                "{name} reloads and is {}",
                machine.state().word()
            );
            let is_asked = (unit.liveness.as_ref())
                .is_some_and(|liveness| liveness.kind != LivenessKind::Watchdog)
                && *machine.state() == State::Running;
            assert_eq!(
                self.memory.asked.get(name).copied(),
                is_asked.then_some(machine.run()),
                "{name}: who is asked whether it is alive"
            );
        }
    }

    /// News of a former run changes nothing.
    pub fn check_stale(&mut self, name: &str, run: u32) {
        if run >= self.machine(name).run() {
            return;
        }
        let before = self.machine(name).clone();
        let stage = Stage::Fork;
        let text = String::new;
        for event in [
            Event::Spawned { run, pid: 1 },
            Event::SpawnFailed {
                run,
                stage,
                error: text(),
            },
            Event::SandboxFailed {
                run,
                stage,
                error: text(),
            },
            Event::Executed { run },
            Event::Ready { run },
            Event::SaidReady { run },
            Event::NotReady {
                run,
                reason: text(),
            },
            Event::Reloading { run },
            Event::ReloadDone { run, error: None },
            Event::Alive {
                run,
                error: Some(text()),
            },
            Event::Petted { run },
            Event::WatchdogLimit { run, ms: 1 },
            Event::Extend { run, ms: 1_000_000 },
            Event::MainPid { run, pid: 1 },
            Event::Oom { run },
            Event::Exited {
                run,
                status: ExitStatus::Code(1),
            },
            Event::Emptied { run },
        ] {
            self.event(name, event);
        }
        assert_eq!(*self.machine(name), before, "{name}: run {run} is over");
    }
}

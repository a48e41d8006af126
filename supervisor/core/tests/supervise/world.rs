//! The machine outside: what the kernel, init and the units do with the effects, and what they tell.

use std::collections::BTreeMap;

use atalaya_core::link::Action;
use atalaya_core::machine::{Effect as UnitEffect, Event, ExitStatus, Machine, Stage, State};
use atalaya_core::system::{Effect, Ground, Input, System};
use atalaya_core::unit::Unit;

use crate::generators::{Act, Word};
use crate::invariants::Memory;

/// One process group, as the kernel would have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub run: u32,
    pub main_alive: bool,
    pub others_alive: bool,
    pub killed: bool,
    /// The exit was not told yet.
    pub untold: Option<ExitStatus>,
}

pub struct World {
    pub system: System,
    /// What is in the image, and what another image has.
    pub graphs: [Vec<Unit>; 2],
    /// Which of them the next atalayad would read.
    pub which: usize,
    pub now_ms: u64,
    pub processes: BTreeMap<String, Process>,
    /// Spawns that were asked for and not answered.
    pub spawning: BTreeMap<String, u32>,
    /// Cgroups that were killed though nothing was in them: that must be told too.
    pub hollow: BTreeMap<String, u32>,
    pids: i32,
    pub ended: Option<Vec<String>>,
    pub memory: Memory,
}

impl World {
    pub fn new(graphs: [Vec<Unit>; 2]) -> Self {
        let mut world = Self {
            system: System::new(graphs[0].clone()).unwrap(),
            graphs,
            which: 0,
            now_ms: 1_000,
            processes: BTreeMap::new(),
            spawning: BTreeMap::new(),
            hollow: BTreeMap::new(),
            pids: 100,
            ended: None,
            memory: Memory::default(),
        };
        world.input(Input::StartWanted);
        world
    }

    pub fn of(units: Vec<Unit>) -> Self {
        Self::new([units.clone(), units])
    }

    pub fn names(&self) -> Vec<String> {
        let units = self.system.units();
        units.map(|(unit, _)| unit.name.clone()).collect()
    }

    pub fn machine(&self, name: &str) -> &Machine {
        self.system.unit(name).unwrap().1
    }

    pub fn event(&mut self, name: &str, event: Event) {
        self.input(Input::Unit {
            unit: name.to_owned(),
            event,
        });
    }

    pub fn input(&mut self, input: Input) {
        let before = self.system.clone();
        let effects = self.system.step(self.now_ms, input.clone()).unwrap();
        for effect in &effects {
            match effect {
                Effect::Unit { unit, effect } => self.effect(unit, effect, &before, &input),
                Effect::Forget { unit } => {
                    assert!(
                        !self.processes.contains_key(unit),
                        "{unit} is forgotten and lives"
                    );
                }
                Effect::Ended { stuck, .. } => {
                    assert!(self.ended.is_none(), "the end is told once");
                    self.ended = Some(stuck.clone());
                }
            }
        }
        self.remember(&before, &input);
        self.check();
    }

    fn effect(&mut self, name: &str, effect: &UnitEffect, before: &System, input: &Input) {
        match effect {
            UnitEffect::Spawn { run } => {
                self.check_spawn(name, before, input);
                assert!(
                    self.spawning.insert(name.to_owned(), *run).is_none(),
                    "{name} is spawned twice"
                );
            }
            UnitEffect::KillCgroup { run } => {
                self.check_kill(name, *run);
                let process = self.processes.get_mut(name);
                match process.filter(|process| process.run == *run) {
                    Some(process) => process.killed = true,
                    None => drop(self.hollow.insert(name.to_owned(), *run)),
                }
            }
            UnitEffect::Retire { run } => {
                let process = self.processes.get(name);
                assert!(
                    process.is_none_or(|process| process.run != *run),
                    "{name}: run {run} is given up while something of it lives"
                );
            }
            UnitEffect::StartLiveness { run } => {
                let other = self.memory.asked.insert(name.to_owned(), *run);
                assert_eq!(other, None, "{name} is asked twice whether it is alive");
            }
            UnitEffect::StopLiveness { run } => {
                let asked = self.memory.asked.remove(name);
                assert!(asked.is_none_or(|asked| asked == *run));
            }
            UnitEffect::Reload { .. } => {
                // It may be stopped in the same step.
                let was = before.unit(name).map(|(_, machine)| machine.state());
                assert_eq!(was, Some(&State::Running), "{name} is to reload");
            }
            UnitEffect::Persist
            | UnitEffect::Signal { .. }
            | UnitEffect::StartReadiness { .. }
            | UnitEffect::StopReadiness { .. } => {}
        }
    }

    pub fn act(&mut self, act: Act) {
        let names = self.names();
        let name = |index: usize| names.get(index % names.len().max(1)).cloned();
        let index = match &act {
            Act::Start(unit)
            | Act::Stop(unit)
            | Act::Restart(unit)
            | Act::Reload(unit)
            | Act::Reset(unit)
            | Act::SpawnAnswer(unit, _)
            | Act::Executed(unit)
            | Act::SandboxFailed(unit)
            | Act::Ready(unit)
            | Act::NotReady(unit)
            | Act::Says(unit, _)
            | Act::Exit(unit, ..)
            | Act::Emptied(unit)
            | Act::Stale(unit, _) => *unit,
            Act::Pass(_) | Act::Crash(_) | Act::Ground(..) | Act::Replace(_) | Act::End => 0,
        };
        let Some(name) = name(index) else { return };
        let run = self.machine(&name).run();
        match act {
            Act::Start(_) => self.input(Input::Start(name)),
            Act::Stop(_) => self.input(Input::Stop(name)),
            Act::Restart(_) => self.input(Input::Restart(name)),
            Act::Reload(_) => {
                if self.system.unit(&name).unwrap().0.reload.is_some() {
                    self.input(Input::Reload(name));
                }
            }
            Act::Reset(_) => self.input(Input::Reset(name)),
            Act::SpawnAnswer(_, well) => self.answer_spawn(&name, well),
            Act::Executed(_) => {
                if self
                    .processes
                    .get(&name)
                    .is_some_and(|process| process.run == run)
                {
                    self.event(&name, Event::Executed { run });
                }
            }
            Act::SandboxFailed(_) => self.fail_sandbox(&name),
            Act::Ready(_) => {
                if let Some(process) = self.processes.get(&name).copied() {
                    self.event(&name, Event::Ready { run: process.run });
                    self.event(&name, Event::SaidReady { run: process.run });
                }
            }
            Act::NotReady(_) => {
                let reason = "refused".to_owned();
                self.event(&name, Event::NotReady { run, reason });
            }
            Act::Says(_, word) => self.say(&name, word),
            Act::Exit(_, code, leaves) => self.exit(&name, ExitStatus::Code(code), leaves),
            Act::Emptied(_) => self.empty(&name),
            Act::Stale(_, run) => self.check_stale(&name, run),
            Act::Pass(milliseconds) => {
                self.now_ms += milliseconds;
                self.input(Input::Tick);
                self.check_next_tick();
            }
            Act::Crash(made) => self.crash(made),
            Act::Ground(data, space) => {
                let why = "no room".to_owned();
                self.input(Input::Ground(Ground { data, space, why }));
            }
            Act::Replace(other) => {
                self.which = usize::from(other);
                let units = self.graphs[self.which].clone();
                self.input(Input::Replace(units));
            }
            Act::End => self.input(Input::End(Action::Poweroff)),
        }
    }

    pub fn answer_spawn(&mut self, name: &str, well: bool) {
        let Some(run) = self.spawning.remove(name) else {
            return;
        };
        if well {
            let pid = self.make(name, run);
            self.event(name, Event::Spawned { run, pid });
        } else {
            let (stage, error) = (Stage::Fork, "no room".to_owned());
            self.event(name, Event::SpawnFailed { run, stage, error });
        }
    }

    pub fn make(&mut self, name: &str, run: u32) -> i32 {
        self.pids += 1;
        let process = Process {
            run,
            main_alive: true,
            others_alive: false,
            killed: false,
            untold: None,
        };
        self.processes.insert(name.to_owned(), process);
        self.pids
    }

    fn fail_sandbox(&mut self, name: &str) {
        let process = self.processes.get(name).copied();
        let Some(process) = process.filter(|process| process.main_alive) else {
            return;
        };
        let failed = Event::SandboxFailed {
            run: process.run,
            stage: Stage::Sandbox,
            error: "no such thing".to_owned(),
        };
        self.event(name, failed);
        self.exit(name, ExitStatus::Code(126), false);
    }

    fn say(&mut self, name: &str, word: Word) {
        let Some(Process { run, .. }) = self.processes.get(name).copied() else {
            return;
        };
        let error = |well: bool| (!well).then(|| "no answer".to_owned());
        let event = match word {
            Word::Reloading => Event::Reloading { run },
            Word::ReloadDone(well) => Event::ReloadDone {
                run,
                error: error(well),
            },
            Word::Alive(well) => Event::Alive {
                run,
                error: error(well),
            },
            Word::Petted => Event::Petted { run },
            Word::WatchdogLimit(ms) => Event::WatchdogLimit { run, ms },
            Word::Extend(ms) => Event::Extend { run, ms },
            Word::MainPid => {
                self.pids += 1;
                let pid = self.pids;
                Event::MainPid { run, pid }
            }
            Word::Oom => Event::Oom { run },
        };
        self.event(name, event);
    }

    pub fn exit(&mut self, name: &str, status: ExitStatus, leaves: bool) {
        let process = self.processes.get_mut(name);
        let Some(process) = process.filter(|process| process.main_alive) else {
            return;
        };
        process.main_alive = false;
        process.others_alive = leaves && !process.killed;
        process.untold = Some(status);
        self.tell_exit(name);
    }

    fn tell_exit(&mut self, name: &str) {
        let Some(process) = self.processes.get_mut(name) else {
            return;
        };
        let Some(status) = process.untold.take() else {
            return;
        };
        let run = process.run;
        let before = self.machine(name).pid();
        self.event(name, Event::Exited { run, status });
        // A unit that is gone from the files is forgotten with its end.
        if let Some((_, machine)) = self.system.unit(name).filter(|_| before.is_some()) {
            assert_eq!(machine.last_exit(), Some(status), "{name}: an exit is lost");
        }
    }

    /// The kernel ends what was killed, main process first.
    pub fn empty(&mut self, name: &str) {
        let process = self.processes.get(name).copied();
        let Some(process) = process.filter(|process| process.killed) else {
            if process.is_none()
                && !self.spawning.contains_key(name)
                && let Some(run) = self.hollow.remove(name)
            {
                self.event(name, Event::Emptied { run });
            }
            return;
        };
        if process.main_alive {
            self.exit(name, ExitStatus::Signal(9), false);
        }
        self.processes.remove(name);
        self.event(name, Event::Emptied { run: process.run });
    }

    /// From anywhere: everything that is alive does what it is told, and time passes.
    pub fn calm_down(&mut self) {
        for _ in 0..400 {
            for name in self.names() {
                self.answer_spawn(&name, true);
                self.empty(&name);
            }
            if self.ended.is_some() {
                return;
            }
            let deadline = self.system.deadline_ms();
            self.now_ms = deadline.map_or(self.now_ms, |at| at.max(self.now_ms));
            self.input(Input::Tick);
        }
        let units = self.system.units();
        let states: Vec<_> = units.map(|(unit, machine)| (&unit.name, machine)).collect();
        panic!("the end never comes: {states:#?}\n{:#?}", self.processes);
    }
}

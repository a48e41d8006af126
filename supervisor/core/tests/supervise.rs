//! Random lists of events against a model of the machine outside: processes that start, report, answer, ignore signals and
//! die when they like. After every step the promises of supervision are checked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::collections::BTreeMap;

use atalaya_core::link::Action;
use atalaya_core::machine::{
    Desired, Effect as UnitEffect, Event, ExitStatus, Machine, Stage, State,
};
use atalaya_core::system::{Effect, Input, System};
use atalaya_core::unit::{Unit, parse_unit};
use proptest::prelude::*;

/// A unit's name and what its file says beyond the necessary.
const UNITS: [(&str, &str); 6] = [
    ("seed", "type = \"oneshot\"\n"),
    (
        "base",
        "type = \"service\"\nrequires = [\"seed\"]\n[ready]\nkind = \"notify\"\n[restart]\npolicy = \"always\"\n",
    ),
    (
        "gate",
        "type = \"oneshot\"\nrequires = [\"base\"]\n[ready]\ntimeout_s = 20\n",
    ),
    (
        "app",
        "type = \"service\"\nrequires = [\"base\", \"gate\"]\nafter = [\"side\"]\n[ready]\nkind = \"tcp\"\naddress = \
         \"127.0.0.1:1\"\ntimeout_s = 30\n[stop]\ntimeout_s = 10\nthen = \"QUIT\"\n",
    ),
    (
        "side",
        "type = \"service\"\nrequires = [\"seed\"]\non_requirement_lost = \"restart\"\n",
    ),
    (
        "last",
        "type = \"service\"\nrequires = [\"app\"]\non_requirement_lost = \"restart\"\n[restart]\npolicy = \"never\"\n",
    ),
];

fn units() -> Vec<Unit> {
    UNITS
        .iter()
        .map(|(name, text)| {
            let text = format!("description = \"x\"\nexec = [\"/x\"]\n{text}");
            parse_unit(name, name, &text).unwrap()
        })
        .collect()
}

/// One process group, as the kernel would have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    run: u32,
    main_alive: bool,
    others_alive: bool,
    killed: bool,
    /// The exit was not told yet.
    untold: Option<ExitStatus>,
}

/// What the world does next. Numbers choose units.
#[derive(Clone, Debug)]
enum Act {
    Start(usize),
    Stop(usize),
    Restart(usize),
    SpawnAnswer(usize, bool),
    Executed(usize),
    SandboxFailed(usize),
    Ready(usize),
    NotReady(usize),
    Exit(usize, i32, bool),
    Emptied(usize),
    Stale(usize, u32),
    Pass(u64),
    Crash,
    End,
}

fn act() -> impl Strategy<Value = Act> {
    let unit = 0..UNITS.len();
    prop_oneof![
        1 => unit.clone().prop_map(Act::Start),
        1 => unit.clone().prop_map(Act::Stop),
        1 => unit.clone().prop_map(Act::Restart),
        8 => (unit.clone(), prop::bool::weighted(0.9)).prop_map(|(unit, well)| Act::SpawnAnswer(unit, well)),
        6 => unit.clone().prop_map(Act::Executed),
        1 => unit.clone().prop_map(Act::SandboxFailed),
        6 => unit.clone().prop_map(Act::Ready),
        1 => unit.clone().prop_map(Act::NotReady),
        5 => (unit.clone(), prop::sample::select(vec![0, 0, 0, 1, 137]), any::<bool>())
            .prop_map(|(unit, code, leaves)| Act::Exit(unit, code, leaves)),
        6 => unit.clone().prop_map(Act::Emptied),
        1 => (unit, 0_u32..4).prop_map(|(unit, run)| Act::Stale(unit, run)),
        6 => prop::sample::select(vec![1, 50, 1000, 15_000, 60_000, 400_000]).prop_map(Act::Pass),
        1 => Just(Act::Crash),
        1 => Just(Act::End),
    ]
}

struct World {
    system: System,
    now_ms: u64,
    processes: BTreeMap<String, Process>,
    /// Spawns that were asked for and not answered.
    spawning: BTreeMap<String, u32>,
    pids: i32,
    ended: Option<Vec<String>>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            system: System::new(units()).unwrap(),
            now_ms: 1_000,
            processes: BTreeMap::new(),
            spawning: BTreeMap::new(),
            pids: 100,
            ended: None,
        };
        world.input(Input::StartWanted);
        world
    }

    fn machine(&self, name: &str) -> &Machine {
        self.system.unit(name).unwrap().1
    }

    fn event(&mut self, name: &str, event: Event) {
        self.input(Input::Unit {
            unit: name.to_owned(),
            event,
        });
    }

    fn input(&mut self, input: Input) {
        let effects = self.system.step(self.now_ms, input).unwrap();
        for effect in effects {
            match effect {
                Effect::Unit { unit, effect } => self.effect(&unit, effect),
                Effect::Forget { .. } => {}
                Effect::Ended { stuck, .. } => {
                    assert!(self.ended.is_none(), "the end is told once");
                    self.ended = Some(stuck);
                }
            }
        }
        self.check();
    }

    fn effect(&mut self, name: &str, effect: UnitEffect) {
        match effect {
            UnitEffect::Spawn { run } => {
                assert!(self.ended.is_none(), "{name} starts after the end");
                let (unit, machine) = self.system.unit(name).unwrap();
                for required in &unit.requires {
                    assert!(
                        self.machine(required).is_ready(),
                        "{name} starts before {required} is ready"
                    );
                }
                assert_eq!(
                    machine.desired(),
                    Desired::Up,
                    "{name} starts though nobody wants it"
                );
                assert!(
                    !self.processes.contains_key(name),
                    "{name} starts beside its former run"
                );
                assert!(
                    self.spawning.insert(name.to_owned(), run).is_none(),
                    "{name} is spawned twice"
                );
            }
            UnitEffect::KillCgroup { run } => {
                if let Some(process) = self
                    .processes
                    .get_mut(name)
                    .filter(|process| process.run == run)
                {
                    process.killed = true;
                }
            }
            UnitEffect::Retire { run } => {
                let left = self
                    .processes
                    .get(name)
                    .is_some_and(|process| process.run == run);
                assert!(
                    !left,
                    "{name}: run {run} is given up while something of it lives"
                );
            }
            UnitEffect::Persist
            | UnitEffect::Signal { .. }
            | UnitEffect::StartReadiness { .. }
            | UnitEffect::StopReadiness { .. }
            | UnitEffect::StartLiveness { .. }
            | UnitEffect::StopLiveness { .. }
            | UnitEffect::Reload { .. } => {}
        }
    }

    fn check(&self) {
        for (unit, machine) in self.system.units() {
            let name = &unit.name;
            // What is dying of SIGKILL may take its time, but the machine must know of it.
            let lives = self
                .processes
                .get(name)
                .is_some_and(|process| !process.killed || !machine.is_occupied());
            match machine.state() {
                State::Stopped | State::Waiting | State::Done => {
                    assert!(!lives, "{name} is {} and lives", machine.state().word());
                }
                State::Backoff { until_ms } => {
                    assert!(
                        until_ms.saturating_sub(self.now_ms) <= unit.restart.max_ms,
                        "{name} waits too long"
                    );
                }
                State::Running => assert!(machine.pid().is_some(), "{name} runs without a process"),
                State::Starting(_) | State::Stopping { .. } | State::Failed { .. } => {}
            }
            if machine.desired() == Desired::Down {
                let calm = matches!(machine.state(), State::Stopped | State::Stopping { .. });
                assert!(calm, "{name} is not wanted and {}", machine.state().word());
            }
            if machine.pid().is_some() {
                let untold = self
                    .processes
                    .get(name)
                    .is_some_and(|p| p.main_alive || p.untold.is_some());
                assert!(untold, "{name}: its exit was told and forgotten");
            }
            assert!(
                machine.ready_since_ms().is_none() || machine.is_ready(),
                "{name}: ready in no state to be"
            );
        }
    }

    fn act(&mut self, act: Act) {
        let name = |index: usize| UNITS[index].0;
        match act {
            Act::Start(unit) => self.input(Input::Start(name(unit).into())),
            Act::Stop(unit) => self.input(Input::Stop(name(unit).into())),
            Act::Restart(unit) => self.input(Input::Restart(name(unit).into())),
            Act::SpawnAnswer(unit, well) => self.answer_spawn(name(unit), well),
            Act::Executed(unit) => {
                let run = self.machine(name(unit)).run();
                if self
                    .processes
                    .get(name(unit))
                    .is_some_and(|process| process.run == run)
                {
                    self.event(name(unit), Event::Executed { run });
                }
            }
            Act::SandboxFailed(unit) => {
                if let Some(process) = self
                    .processes
                    .get(name(unit))
                    .filter(|process| process.main_alive)
                    .copied()
                {
                    let error = "no such thing".to_owned();
                    self.event(
                        name(unit),
                        Event::SandboxFailed {
                            run: process.run,
                            stage: Stage::Sandbox,
                            error,
                        },
                    );
                    self.exit(name(unit), ExitStatus::Code(126), false);
                }
            }
            Act::Ready(unit) => {
                if let Some(process) = self.processes.get(name(unit)).copied() {
                    self.event(name(unit), Event::Ready { run: process.run });
                    self.event(name(unit), Event::SaidReady { run: process.run });
                }
            }
            Act::NotReady(unit) => {
                let run = self.machine(name(unit)).run();
                self.event(
                    name(unit),
                    Event::NotReady {
                        run,
                        reason: "refused".into(),
                    },
                );
            }
            Act::Exit(unit, code, leaves) => self.exit(name(unit), ExitStatus::Code(code), leaves),
            Act::Emptied(unit) => self.empty(name(unit)),
            Act::Stale(unit, run) => self.stale(name(unit), run),
            Act::Pass(milliseconds) => {
                self.now_ms += milliseconds;
                self.input(Input::Tick);
            }
            Act::Crash => self.crash(),
            Act::End => self.input(Input::End(Action::Poweroff)),
        }
    }

    fn answer_spawn(&mut self, name: &str, well: bool) {
        let Some(run) = self.spawning.remove(name) else {
            return;
        };
        if well {
            self.pids += 1;
            let process = Process {
                run,
                main_alive: true,
                others_alive: false,
                killed: false,
                untold: None,
            };
            self.processes.insert(name.to_owned(), process);
            self.event(
                name,
                Event::Spawned {
                    run,
                    pid: self.pids,
                },
            );
        } else {
            let error = "no room".to_owned();
            self.event(
                name,
                Event::SpawnFailed {
                    run,
                    stage: Stage::Fork,
                    error,
                },
            );
        }
    }

    fn exit(&mut self, name: &str, status: ExitStatus, leaves: bool) {
        let Some(process) = self
            .processes
            .get_mut(name)
            .filter(|process| process.main_alive)
        else {
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
        if before.is_some() {
            assert_eq!(
                self.machine(name).last_exit(),
                Some(status),
                "{name}: an exit is lost"
            );
        }
    }

    /// The kernel ends what was killed, main process first.
    fn empty(&mut self, name: &str) {
        let Some(process) = self
            .processes
            .get(name)
            .copied()
            .filter(|process| process.killed)
        else {
            return;
        };
        if process.main_alive {
            self.exit(name, ExitStatus::Signal(9), false);
        }
        self.processes.remove(name);
        self.event(name, Event::Emptied { run: process.run });
    }

    fn stale(&mut self, name: &str, run: u32) {
        if run >= self.machine(name).run() {
            return;
        }
        let before = self.machine(name).clone();
        let events = [
            Event::Spawned { run, pid: 1 },
            Event::SpawnFailed {
                run,
                stage: Stage::Fork,
                error: String::new(),
            },
            Event::Executed { run },
            Event::Ready { run },
            Event::SaidReady { run },
            Event::NotReady {
                run,
                reason: String::new(),
            },
            Event::Exited {
                run,
                status: ExitStatus::Code(1),
            },
            Event::Emptied { run },
        ];
        for event in events {
            self.event(name, event);
        }
        assert_eq!(
            *self.machine(name),
            before,
            "{name}: news of a former run changed something"
        );
    }

    /// atalayad dies and a new one adopts what its records say; spawns under way have come to nothing or to a process.
    fn crash(&mut self) {
        let records: Vec<(String, String)> = self
            .system
            .units()
            .map(|(unit, machine)| (unit.name.clone(), serde_json::to_string(machine).unwrap()))
            .collect();
        let end = self.system.end();
        let stopping: Vec<String> = self.system.stopping().map(str::to_owned).collect();
        self.system = System::new(units()).unwrap();
        self.spawning.clear();
        for (name, record) in &records {
            self.system
                .restore(name, serde_json::from_str(record).unwrap())
                .unwrap();
        }
        let pids = records
            .iter()
            .map(|(name, _)| (name.clone(), self.machine(name).pid()))
            .collect();
        self.input(Input::Adopt(pids));
        for name in stopping {
            self.input(Input::Stop(name));
        }
        if let Some(end) = end {
            self.ended = None;
            self.input(Input::End(end));
        }
    }

    /// From anywhere: everything that is alive does what it is told, and time passes.
    fn calm_down(&mut self) {
        for _ in 0..400 {
            for (name, _) in UNITS {
                self.answer_spawn(name, true);
                self.empty(name);
            }
            self.now_ms = self
                .system
                .deadline_ms()
                .map_or(self.now_ms, |at| at.max(self.now_ms));
            self.input(Input::Tick);
            if self.ended.is_some() {
                return;
            }
        }
        let states: Vec<_> = self
            .system
            .units()
            .map(|(unit, machine)| (&unit.name, machine))
            .collect();
        panic!("the end never comes: {states:#?}\n{:#?}", self.processes);
    }
}

/// More by PROPTEST_CASES, for a longer search.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_list_of_events_breaks_a_promise(acts in prop::collection::vec(act(), 0..120)) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
        // Whatever happened: the machine can be switched off, and nothing is left.
        world.input(Input::End(Action::Poweroff));
        world.calm_down();
        prop_assert!(world.processes.is_empty(), "{:?}", world.processes);
    }

    #[test]
    fn a_unit_that_always_fails_is_given_up(code in 1..255_i32) {
        let mut world = World::new();
        let mut starts = 0;
        for _ in 0..100 {
            if world.spawning.contains_key("seed") {
                starts += 1;
            }
            world.answer_spawn("seed", true);
            world.exit("seed", ExitStatus::Code(code), false);
            world.empty("seed");
            world.now_ms = world.system.deadline_ms().map_or(world.now_ms, |at| at.max(world.now_ms));
            world.input(Input::Tick);
        }
        prop_assert_eq!(starts, 8);
        let failed = matches!(world.machine("seed").state(), State::Failed { stage: Stage::Run, .. });
        prop_assert!(failed, "{:?}", world.machine("seed"));
    }
}

fn bring_up(world: &mut World) {
    for _ in 0..20 {
        for (name, _) in UNITS {
            world.answer_spawn(name, true);
            let run = world.machine(name).run();
            if !world.processes.contains_key(name) {
                continue;
            }
            world.event(name, Event::Executed { run });
            if name == "seed" || name == "gate" {
                world.exit(name, ExitStatus::Code(0), false);
                world.empty(name);
            } else {
                world.event(name, Event::Ready { run });
            }
        }
    }
    for (name, _) in UNITS {
        assert!(
            world.machine(name).is_ready(),
            "{name}: {:?}",
            world.machine(name)
        );
    }
}

#[test]
fn all_come_up_and_go_down_in_reverse_order() {
    let mut world = World::new();
    bring_up(&mut world);
    world.input(Input::End(Action::Reboot));
    let mut order = Vec::new();
    for _ in 0..20 {
        for (name, _) in UNITS {
            let stopping = matches!(world.machine(name).state(), State::Stopping { .. });
            if stopping
                && world
                    .processes
                    .get(name)
                    .is_some_and(|process| process.main_alive)
            {
                order.push(name);
                world.exit(name, ExitStatus::Code(0), false);
                world.empty(name);
            }
        }
    }
    assert_eq!(world.ended, Some(Vec::new()));
    let place = |name| order.iter().position(|other| *other == name).unwrap();
    assert!(
        place("last") < place("app")
            && place("app") < place("base")
            && place("app") < place("side"),
        "{order:?}"
    );
}

/// networkd stands on the coldplug, which stands on udevd.
#[test]
fn a_one_shot_that_is_done_passes_the_order_of_the_stop_on() {
    let unit = |name: &str, rest: &str| {
        parse_unit(
            name,
            name,
            &format!("description = \"x\"\nexec = [\"/x\"]\n{rest}"),
        )
        .unwrap()
    };
    let mut system = System::new(vec![
        unit("low", "type = \"service\"\n"),
        unit("middle", "type = \"oneshot\"\nrequires = [\"low\"]\n"),
        unit("top", "type = \"service\"\nrequires = [\"middle\"]\n"),
    ])
    .unwrap();
    system.step(0, Input::StartWanted).unwrap();
    for (pid, name) in [(1, "low"), (2, "middle"), (3, "top")] {
        let mut event = |event| {
            system
                .step(
                    0,
                    Input::Unit {
                        unit: name.to_owned(),
                        event,
                    },
                )
                .unwrap()
        };
        event(Event::Spawned { run: 1, pid });
        event(Event::Executed { run: 1 });
        if name == "middle" {
            event(Event::Exited {
                run: 1,
                status: ExitStatus::Code(0),
            });
            event(Event::Emptied { run: 1 });
        }
    }
    let stops = |effects: Vec<Effect>| -> Vec<String> {
        let signalled = |effect| match effect {
            Effect::Unit {
                unit,
                effect: UnitEffect::Signal { .. },
            } => Some(unit),
            Effect::Unit { .. } | Effect::Forget { .. } | Effect::Ended { .. } => None,
        };
        effects.into_iter().filter_map(signalled).collect()
    };
    let first = system.step(0, Input::End(Action::Poweroff)).unwrap();
    assert_eq!(stops(first), ["top"]);
    let top = |event| Input::Unit {
        unit: "top".to_owned(),
        event,
    };
    let exited = Event::Exited {
        run: 1,
        status: ExitStatus::Code(0),
    };
    system.step(0, top(exited)).unwrap();
    let second = system.step(0, top(Event::Emptied { run: 1 })).unwrap();
    assert_eq!(stops(second), ["low"]);
}

#[test]
fn a_stopped_requirement_holds_those_above_and_brings_them_back() {
    let mut world = World::new();
    bring_up(&mut world);
    world.input(Input::Stop("base".into()));
    let stopping =
        |world: &World, name: &str| matches!(world.machine(name).state(), State::Stopping { .. });
    // From the top, one after the other.
    assert!(stopping(&world, "last") && !stopping(&world, "app") && !stopping(&world, "base"));
    for name in ["last", "app", "base"] {
        assert!(stopping(&world, name), "{name}: {:?}", world.machine(name));
        world.exit(name, ExitStatus::Code(0), false);
        world.empty(name);
    }
    assert_eq!(*world.machine("base").state(), State::Stopped);
    assert_eq!(*world.machine("app").state(), State::Waiting);
    assert_eq!(world.machine("app").desired(), Desired::Up);
    // Whoever starts the top starts what it stands on.
    world.input(Input::Start("last".into()));
    assert_eq!(world.machine("base").desired(), Desired::Up);
    bring_up(&mut world);
}

#[test]
fn a_unit_says_what_its_requirements_restart_does_to_it() {
    let mut world = World::new();
    bring_up(&mut world);
    let runs = |world: &World, name: &str| world.machine(name).run();
    let (app, last) = (runs(&world, "app"), runs(&world, "last"));
    world.exit("base", ExitStatus::Signal(9), false);
    assert!(
        world.machine("app").is_ready(),
        "app keeps running without base"
    );
    world.empty("base");
    world.now_ms += 1000;
    world.input(Input::Tick);
    bring_up(&mut world);
    assert_eq!((runs(&world, "app"), runs(&world, "last")), (app, last));
    // app ends: last is restarted with it.
    world.exit("app", ExitStatus::Signal(9), false);
    assert!(matches!(
        world.machine("last").state(),
        State::Stopping { .. }
    ));
    world.exit("last", ExitStatus::Code(0), false);
    world.empty("last");
    world.empty("app");
    for _ in 0..10 {
        world.now_ms += 1000;
        world.input(Input::Tick);
        bring_up_some(&mut world);
    }
    assert!(world.machine("last").is_ready());
    assert_eq!(
        (runs(&world, "app"), runs(&world, "last")),
        (app + 1, last + 1)
    );
}

fn bring_up_some(world: &mut World) {
    for name in ["app", "last"] {
        world.answer_spawn(name, true);
        let run = world.machine(name).run();
        if world.processes.contains_key(name) {
            world.event(name, Event::Executed { run });
            world.event(name, Event::Ready { run });
        }
    }
}

#[test]
fn readiness_can_be_lost_and_comes_back_without_a_restart() {
    let mut world = World::new();
    bring_up(&mut world);
    let run = world.machine("app").run();
    world.event(
        "app",
        Event::NotReady {
            run,
            reason: "HTTP status 500".into(),
        },
    );
    assert_eq!(*world.machine("app").state(), State::Running);
    assert!(!world.machine("app").is_ready());
    assert_eq!(world.machine("app").reason(), Some("HTTP status 500"));
    assert!(world.machine("last").is_ready(), "those above run on");
    world.now_ms += 5;
    world.event("app", Event::Ready { run });
    assert_eq!(world.machine("app").ready_since_ms(), Some(world.now_ms));
    assert_eq!(world.machine("app").run(), run);
}

/// PostgreSQL after the death of one of its backends: the same postmaster, a second READY=1 and nothing in between.
#[test]
fn a_unit_that_says_ready_again_became_ready_then() {
    let mut world = World::new();
    bring_up(&mut world);
    let run = world.machine("base").run();
    let before = world.machine("base").ready_since_ms();
    world.now_ms += 5;
    world.event("base", Event::Ready { run });
    assert_eq!(
        world.machine("base").ready_since_ms(),
        before,
        "an answer to a check is no news"
    );
    world.event("base", Event::SaidReady { run });
    assert_eq!(world.machine("base").ready_since_ms(), Some(world.now_ms));
    assert_eq!(world.machine("base").run(), run);
}

#[test]
fn a_stubborn_unit_is_asked_twice_and_then_killed() {
    let mut world = World::new();
    bring_up(&mut world);
    world.input(Input::Stop("last".into()));
    world.exit("last", ExitStatus::Code(0), false);
    world.empty("last");
    world.now_ms += 1;
    let mut seen = Vec::new();
    let stop = world
        .system
        .step(world.now_ms, Input::Stop("app".into()))
        .unwrap();
    seen.extend(stop);
    for _ in 0..2 {
        world.now_ms = world.system.deadline_ms().unwrap();
        seen.extend(world.system.step(world.now_ms, Input::Tick).unwrap());
    }
    let run = world.machine("app").run();
    let of_app: Vec<UnitEffect> = seen
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Unit {
                unit,
                effect: effect @ (UnitEffect::Signal { .. } | UnitEffect::KillCgroup { .. }),
            } => {
                assert_eq!(unit, "app");
                Some(effect)
            }
            Effect::Unit { .. } | Effect::Forget { .. } | Effect::Ended { .. } => None,
        })
        .collect();
    assert_eq!(
        of_app,
        [
            UnitEffect::Signal { run, signal: 15 },
            UnitEffect::Signal { run, signal: 3 },
            UnitEffect::KillCgroup { run }
        ]
    );
}

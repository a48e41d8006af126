//! What a person would ask first, on one graph that looks like the shipped one, and what the random lists once found.

use atalaya_core::link::Action;
use atalaya_core::machine::{Desired, Effect as UnitEffect, Event, ExitStatus, Stage, State};
use atalaya_core::system::{Effect, Input, System};
use atalaya_core::unit::{Unit, parse_unit};

use crate::generators::Act;
use crate::world::World;

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

pub fn units() -> Vec<Unit> {
    UNITS
        .iter()
        .map(|(name, text)| {
            let text = format!("description = \"x\"\nexec = [\"/x\"]\n{text}");
            parse_unit(name, name, &text).unwrap()
        })
        .collect()
}

fn world() -> World {
    World::of(units())
}

/// Lists that once broke a promise.
#[test]
fn what_was_found_stays_mended() {
    let index = |name: &str| {
        let names = world().names();
        names.iter().position(|other| other == name).unwrap()
    };
    let (seed, base, gate, side) = (index("seed"), index("base"), index("gate"), index("side"));
    for acts in [
        vec![
            Act::SpawnAnswer(seed, true),
            Act::Exit(seed, 0, false),
            Act::Emptied(seed),
            Act::SpawnAnswer(base, true),
            Act::Restart(gate),
            Act::Exit(base, 0, false),
            Act::Restart(seed),
            Act::Restart(base),
        ],
        vec![
            Act::Crash(false),
            Act::Pass(1000),
            Act::SpawnAnswer(seed, true),
            Act::Ready(seed),
            Act::SpawnAnswer(side, false),
            Act::Stop(seed),
            Act::Crash(false),
            Act::Start(seed),
        ],
    ] {
        let mut world = world();
        for act in acts {
            world.act(act);
        }
        world.input(Input::End(Action::Poweroff));
        world.calm_down();
    }
}

/// One is stuck at the very moment at which another's time comes that stands on it by a third.
#[test]
fn who_goes_down_is_told_before_anybody_starts_at_the_same_moment() {
    let files = [
        (
            "u1",
            "type = \"service\"\n[liveness]\nkind = \"watchdog\"\n",
        ),
        (
            "u2",
            "type = \"service\"\non_requirement_lost = \"restart\"\nrequires = [\"u1\"]\n",
        ),
        (
            "u3",
            "type = \"oneshot\"\nrequires = [\"u2\"]\n[timer]\nfirst_s = 20\nevery_s = 100\n",
        ),
    ];
    let units = files.iter().map(|(name, text)| {
        let text = format!("description = \"x\"\nexec = [\"/x\"]\n{text}");
        parse_unit(name, name, &text).unwrap()
    });
    let mut world = World::of(units.collect());
    for name in ["u1", "u2"] {
        world.answer_spawn(name, true);
        let run = world.machine(name).run();
        world.event(name, Event::Executed { run });
        world.event(name, Event::Ready { run });
    }
    let due = world.machine("u3").next_run_ms().unwrap();
    world.now_ms = due - 500;
    let run = world.machine("u1").run();
    world.event("u1", Event::WatchdogLimit { run, ms: 500 });
    world.event("u1", Event::Petted { run });
    world.now_ms = due;
    world.input(Input::Tick);
    assert!(matches!(
        world.machine("u1").state(),
        State::Stopping { .. }
    ));
    assert!(world.machine("u2").state() != &State::Running);
    assert_eq!(*world.machine("u3").state(), State::Waiting);
}

#[test]
fn a_unit_that_always_fails_is_given_up() {
    let mut world = world();
    let mut starts = 0;
    for _ in 0..100 {
        if world.spawning.contains_key("seed") {
            starts += 1;
        }
        world.answer_spawn("seed", true);
        world.exit("seed", ExitStatus::Code(3), false);
        world.empty("seed");
        let deadline = world.system.deadline_ms();
        world.now_ms = deadline.map_or(world.now_ms, |at| at.max(world.now_ms));
        world.input(Input::Tick);
    }
    assert_eq!(starts, 8);
    let failed = matches!(
        world.machine("seed").state(),
        State::Failed {
            stage: Stage::Run,
            ..
        }
    );
    assert!(failed, "{:?}", world.machine("seed"));
    let reason = format!("{:?}", world.machine("seed").state());
    assert!(
        reason.contains("8 starts in 120 s, the last: exit status 3"),
        "{reason}"
    );
}

pub fn bring_up(world: &mut World) {
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
    let mut world = world();
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
    let mut world = world();
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
    let mut world = world();
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
    let mut world = world();
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
    let mut world = world();
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
    let mut world = world();
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

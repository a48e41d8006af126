//! docs/transitions.md is what the code does: every state of a unit with every event, tried out. Bless a change with
//! `ATALAYA_BLESS=1 cargo test --release -p atalaya-core`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::fmt::Write as _;
use std::path::Path;

use atalaya_core::link::Action;
use atalaya_core::machine::{
    Effect, Event, ExitStatus, Machine, Requirements, Stage, StartPhase, State, StopPhase,
};
use atalaya_core::system::shutdown::{self, Shutdown};
use atalaya_core::unit::{Unit, parse_unit};

const HEAD: &str = "# Transitions

Made from the code by `supervisor/core/tests/transitions.rs`; a test compares. To take over a change:
`ATALAYA_BLESS=1 cargo test --release -p atalaya-core`.

Three state machines decide, and none of them does anything: events and the time go in, effects come out, and atalayad carries them out.

- **One unit** (`supervisor/core/src/machine`): the tables below.
- **The graph** (`system/settle.rs`): after every event, until nothing more follows: a unit whose process ended is told to those that require
  it; every unit is told whether all that it requires is ready, and whether its data can be used; units that are to stop, or stand on one
  that is, are stopped when nothing that requires them is active, and those that are still wanted are released when what they stand on is.
  New unit files (`system/replace.rs`) count when what is gone has stopped.
- **The end** (`system/shutdown.rs`): the last table.

An event carries the number of the run that it is about; news of another run than the last changes nothing, in any state.

";

/// A service and a one-shot that have everything; the events that lead to each state.
fn service() -> Unit {
    let text = r#"
description = "x"
type = "service"
exec = ["/x"]
requires = ["db"]
on_requirement_lost = "restart"
ready = { kind = "notify", timeout_s = 60 }
liveness = { kind = "exec", command = ["/x"], threshold = 1 }
reload = { signal = "HUP" }
handover = { signal = "USR2" }
stop = { signal = "INT", timeout_s = 300, then = "QUIT", then_timeout_s = 30 }
restart = { limit = 2, window_s = 86400 }
"#;
    parse_unit("service", "service.toml", text).unwrap()
}

fn oneshot() -> Unit {
    let text = "description = \"x\"\ntype = \"oneshot\"\nexec = [\"/x\"]\nrequires = [\"db\"]\ntimer = { every_s = 60 }\n";
    parse_unit("oneshot", "oneshot.toml", text).unwrap()
}

fn spawned(run: u32) -> Event {
    Event::Spawned { run, pid: 100 }
}

fn exited(run: u32, code: i32) -> Event {
    let status = ExitStatus::Code(code);
    Event::Exited { run, status }
}

fn lead(unit: Unit, events: Vec<Event>) -> (Unit, Machine, u64) {
    let (mut machine, mut now_ms) = (Machine::default(), 1000);
    for event in events {
        if event == Event::Tick {
            now_ms = machine.deadline_ms().unwrap();
        }
        machine.step(&unit, now_ms, event);
    }
    (unit, machine, now_ms)
}

fn every_state() -> Vec<(Unit, Machine, u64)> {
    use Event::{Executed, SaidReady, Start, Stop, Tick};
    let missing = Event::Requirements(Requirements::Missing("db".into()));
    let up = |run| vec![spawned(run), Executed { run }, SaidReady { run }];
    let down = |run| vec![exited(run, 1), Event::Emptied { run }];
    let after = |lists: &[&[Event]]| lead(service(), lists.concat());
    let first = [&[Start], up(1).as_slice()].concat();
    let second = [first.clone(), down(1), vec![Tick], up(2)].concat();
    vec![
        after(&[]),
        after(&[&[missing, Start]]),
        after(&[&[Start]]),
        after(&[&[Start, spawned(1)]]),
        after(&[&[Start, spawned(1), Executed { run: 1 }]]),
        lead(oneshot(), vec![Start, spawned(1), Executed { run: 1 }]),
        lead(
            oneshot(),
            vec![Start, spawned(1), Executed { run: 1 }, exited(1, 0)],
        ),
        after(&[&first]),
        after(&[&first, &[Stop]]),
        after(&[&first, &[Stop, Tick]]),
        after(&[&first, &[Stop, Tick, Tick]]),
        after(&[&first, &[Stop, Tick, Tick, Tick]]),
        after(&[&first, &down(1)]),
        lead(
            oneshot(),
            vec![
                Start,
                spawned(1),
                Executed { run: 1 },
                exited(1, 0),
                Event::Emptied { run: 1 },
            ],
        ),
        after(&[&second, &down(2)]),
    ]
}

/// With the word for it. A new event belongs here: the compiler asks for it in `is_listed`.
fn every_event(machine: &Machine) -> Vec<(&'static str, Event)> {
    let run = machine.run();
    let error = || Some("no answer".to_owned());
    let stage = Stage::Fork;
    let text = String::new;
    vec![
        ("Start", Event::Start),
        ("Stop", Event::Stop),
        ("Restart", Event::Restart),
        ("HandOver", Event::HandOver),
        ("Reset", Event::Reset),
        ("Reload", Event::Reload),
        ("Hold", Event::Hold),
        ("Release", Event::Release),
        (
            "Requirements missing",
            Event::Requirements(Requirements::Missing("db".into())),
        ),
        (
            "Requirements ready",
            Event::Requirements(Requirements::Ready),
        ),
        ("RequirementGone", Event::RequirementGone("db".into())),
        ("Ground gone", Event::Ground(Some("no room".into()))),
        ("Ground back", Event::Ground(None)),
        ("Spawned", Event::Spawned { run, pid: 101 }),
        (
            "SpawnFailed",
            Event::SpawnFailed {
                run,
                stage,
                error: text(),
            },
        ),
        (
            "SandboxFailed",
            Event::SandboxFailed {
                run,
                stage,
                error: text(),
            },
        ),
        ("Executed", Event::Executed { run }),
        ("Ready", Event::Ready { run }),
        ("SaidReady", Event::SaidReady { run }),
        (
            "NotReady",
            Event::NotReady {
                run,
                reason: "recovering".into(),
            },
        ),
        ("Reloading", Event::Reloading { run }),
        ("ReloadDone", Event::ReloadDone { run, error: None }),
        ("Alive", Event::Alive { run, error: None }),
        (
            "Alive, an error too many",
            Event::Alive {
                run,
                error: error(),
            },
        ),
        ("Petted", Event::Petted { run }),
        ("WatchdogLimit", Event::WatchdogLimit { run, ms: 1000 }),
        ("Extend", Event::Extend { run, ms: 400_000 }),
        ("MainPid", Event::MainPid { run, pid: 102 }),
        ("Oom", Event::Oom { run }),
        ("Exited well", exited(run, 0)),
        ("Exited badly", exited(run, 1)),
        ("Emptied", Event::Emptied { run }),
        ("Adopted", Event::Adopted { pid: machine.pid() }),
        ("Tick at its limit", Event::Tick),
    ]
}

/// Nothing but a reminder: whoever adds an event is led here.
fn is_listed(event: &Event) -> bool {
    match event {
        Event::Start
        | Event::Stop
        | Event::Restart
        | Event::HandOver
        | Event::Reset
        | Event::Reload
        | Event::Hold
        | Event::Release
        | Event::Requirements(_)
        | Event::RequirementGone(_)
        | Event::Ground(_)
        | Event::Spawned { .. }
        | Event::SpawnFailed { .. }
        | Event::SandboxFailed { .. }
        | Event::Executed { .. }
        | Event::Ready { .. }
        | Event::SaidReady { .. }
        | Event::NotReady { .. }
        | Event::Reloading { .. }
        | Event::ReloadDone { .. }
        | Event::Alive { .. }
        | Event::Petted { .. }
        | Event::WatchdogLimit { .. }
        | Event::Extend { .. }
        | Event::MainPid { .. }
        | Event::Oom { .. }
        | Event::Exited { .. }
        | Event::Emptied { .. }
        | Event::Adopted { .. }
        | Event::Tick => true,
    }
}

fn name(state: &State) -> String {
    match state {
        State::Starting(phase) => match phase {
            StartPhase::Forking => "Starting/Forking",
            StartPhase::Sandboxing => "Starting/Sandboxing",
            StartPhase::Readying => "Starting/Readying",
            StartPhase::Working => "Starting/Working",
            StartPhase::Emptying => "Starting/Emptying",
        }
        .to_owned(),
        State::Stopping { phase, .. } => match phase {
            StopPhase::Asked => "Stopping/Asked",
            StopPhase::Insisted => "Stopping/Insisted",
            StopPhase::Killed => "Stopping/Killed",
            StopPhase::Stuck => "Stopping/Stuck",
        }
        .to_owned(),
        State::Stopped
        | State::Waiting
        | State::Running
        | State::Backoff { .. }
        | State::Done
        | State::Failed { .. } => state.word().to_owned(),
    }
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Persist => "Persist".to_owned(),
        Effect::Spawn { .. } => "Spawn".to_owned(),
        Effect::Signal { signal, .. } => format!("Signal {signal}"),
        Effect::KillCgroup { .. } => "KillCgroup".to_owned(),
        Effect::StartReadiness { .. } => "StartReadiness".to_owned(),
        Effect::StopReadiness { .. } => "StopReadiness".to_owned(),
        Effect::StartLiveness { .. } => "StartLiveness".to_owned(),
        Effect::StopLiveness { .. } => "StopLiveness".to_owned(),
        Effect::Reload { .. } => "Reload".to_owned(),
        Effect::Retire { .. } => "Retire".to_owned(),
    }
}

fn units_table(page: &mut String) {
    let states = every_state();
    page.push_str("## A unit\n\nPersist comes before what follows it in the list: what the next atalayad must know is kept first. Each table lists the events that\nchange something in its state; all others change nothing there.\n\n");
    for (unit, machine, now_ms) in &states {
        let state = name(machine.state());
        let kind = match (&unit.timer, machine.state()) {
            (Some(_), _) => " (a one-shot with a timer)",
            (None, _) => "",
        };
        writeln!(
            page,
            "### {state}{kind}\n\n| event | becomes | effects |\n|---|---|---|"
        )
        .unwrap();
        for (word, event) in every_event(machine) {
            assert!(is_listed(&event));
            let at_ms = match event {
                Event::Tick => machine.deadline_ms().unwrap_or(*now_ms),
                _ => now_ms + 1,
            };
            let mut next = machine.clone();
            let effects = next.step(unit, at_ms, event);
            if effects.is_empty() && next == *machine {
                continue;
            }
            let becomes = match (
                next.state() == machine.state(),
                machine.is_ready(),
                next.is_ready(),
            ) {
                (true, true, false) => format!("{state}, not ready"),
                (true, ..) => "the same".to_owned(),
                (false, ..) => name(next.state()),
            };
            let effects: Vec<String> = effects.iter().map(describe).collect();
            writeln!(page, "| {word} | {becomes} | {} |", effects.join(", ")).unwrap();
        }
        page.push('\n');
    }
    let names: Vec<String> = states
        .iter()
        .map(|(_, machine, _)| name(machine.state()))
        .collect();
    let mut once = names.clone();
    once.sort();
    once.dedup();
    assert_eq!(
        (names.len(), once.len()),
        (15, 15),
        "every state once: {names:?}"
    );
}

fn end_table(page: &mut String) {
    page.push_str("## The end\n\n| state | event | becomes | order |\n|---|---|---|---|\n");
    let settled = |active| shutdown::Event::Settled {
        active,
        stuck: Vec::new(),
    };
    for state in [
        Shutdown::Up,
        Shutdown::Stopping(Action::Reboot),
        Shutdown::Ended(Action::Reboot),
    ] {
        for (word, event) in [
            (
                "Requested(Poweroff)",
                shutdown::Event::Requested(Action::Poweroff),
            ),
            ("Settled, a unit is active", settled(true)),
            ("Settled, none is active or can be killed", settled(false)),
        ] {
            let mut next = state;
            let order = match next.step(event) {
                Some(shutdown::Order::StopAll) => "StopAll",
                Some(shutdown::Order::Tell { .. }) => "Tell",
                None => "",
            };
            let becomes = if next == state {
                "the same".to_owned()
            } else {
                format!("{next:?}")
            };
            writeln!(page, "| {state:?} | {word} | {becomes} | {order} |").unwrap();
        }
    }
}

#[test]
fn the_published_table_is_what_the_code_does() {
    let mut page = HEAD.to_owned();
    units_table(&mut page);
    end_table(&mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/transitions.md");
    if std::env::var_os("ATALAYA_BLESS").is_some() {
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, page.as_bytes()).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == page,
        "docs/transitions.md is not what the code does: run ATALAYA_BLESS=1 cargo test --release -p atalaya-core"
    );
}

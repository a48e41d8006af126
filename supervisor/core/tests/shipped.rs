//! The units in the overlays are valid, and together they come up and go down in an order that makes sense.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::path::Path;

use atalaya_core::link::Action;
use atalaya_core::machine::{Effect as UnitEffect, Event, ExitStatus};
use atalaya_core::system::{Effect, Input, System};
use atalaya_core::unit::{Kind, Unit, parse_unit};

fn shipped() -> Vec<Unit> {
    let overlays = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../overlays");
    let mut units = Vec::new();
    for overlay in std::fs::read_dir(overlays).unwrap() {
        let Ok(files) = std::fs::read_dir(overlay.unwrap().path().join("usr/lib/atalaya/units"))
        else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            units.push(
                parse_unit(name, &path.to_string_lossy(), &text)
                    .unwrap_or_else(|error| panic!("{error}")),
            );
        }
    }
    units
}

/// Answers every effect as a healthy machine would, and lists the units in the order of `is`.
fn follow(
    system: &mut System,
    input: Input,
    is: impl Fn(&UnitEffect) -> bool,
) -> (Vec<String>, bool) {
    let mut order = Vec::new();
    let mut ended = false;
    let mut inputs = std::collections::VecDeque::from([input]);
    while let Some(input) = inputs.pop_front() {
        for effect in system.step(0, input).unwrap() {
            let (unit, effect) = match effect {
                Effect::Unit { unit, effect } => (unit, effect),
                Effect::Forget { .. } => continue,
                Effect::Ended { stuck, .. } => {
                    assert!(stuck.is_empty());
                    ended = true;
                    continue;
                }
            };
            if is(&effect) {
                order.push(unit.clone());
            }
            let kind = system.unit(&unit).unwrap().0.kind;
            let events = match effect {
                UnitEffect::Spawn { run } => {
                    let outcome = match kind {
                        Kind::Service => Event::Ready { run },
                        Kind::Oneshot => Event::Exited {
                            run,
                            status: ExitStatus::Code(0),
                        },
                    };
                    vec![
                        Event::Spawned { run, pid: 1 },
                        Event::Executed { run },
                        outcome,
                    ]
                }
                UnitEffect::Signal { run, .. } => vec![Event::Exited {
                    run,
                    status: ExitStatus::Code(0),
                }],
                UnitEffect::KillCgroup { run } => vec![Event::Emptied { run }],
                UnitEffect::Persist
                | UnitEffect::StartReadiness { .. }
                | UnitEffect::StopReadiness { .. }
                | UnitEffect::StartLiveness { .. }
                | UnitEffect::StopLiveness { .. }
                | UnitEffect::Reload { .. }
                | UnitEffect::Retire { .. } => Vec::new(),
            };
            inputs.extend(events.into_iter().map(|event| Input::Unit {
                unit: unit.clone(),
                event,
            }));
        }
    }
    (order, ended)
}

#[test]
fn shipped_units_come_up_and_go_down_in_order() {
    let mut system = System::new(shipped()).unwrap();
    let (up, _) = follow(&mut system, Input::StartWanted, |effect| {
        matches!(effect, UnitEffect::Spawn { .. })
    });
    for (unit, machine) in system.units().filter(|(unit, _)| unit.wanted) {
        assert!(machine.is_ready(), "{}: {machine:?}", unit.name);
    }
    let place = |order: &[String], name: &str| {
        order
            .iter()
            .position(|other| other == name)
            .unwrap_or_else(|| panic!("{name} is not in {order:?}"))
    };
    let is_ordered = |order: &[String], names: &[&str]| {
        assert!(
            names.iter().map(|name| place(order, name)).is_sorted(),
            "{names:?}: {order:?}"
        );
    };
    is_ordered(
        &up,
        &[
            "initdb",
            "postgres",
            "version-gate",
            "mattermost",
            "first-administrator",
        ],
    );
    is_ordered(
        &up,
        &["udevd", "udev-trigger", "seed", "site-render", "edge"],
    );
    let (down, ended) = follow(&mut system, Input::End(Action::Poweroff), |effect| {
        matches!(effect, UnitEffect::Signal { .. })
    });
    assert!(ended, "the end never comes: {down:?}");
    is_ordered(&down, &["mattermost", "postgres"]);
    is_ordered(&down, &["edge", "networkd", "udevd"]);
}

/// A newcomer copies them.
#[test]
fn the_units_that_the_docs_show_are_possible() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/supervisor.md");
    let text = std::fs::read_to_string(page).unwrap();
    let files: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(!files.is_empty());
    let mut units = shipped();
    for (index, file) in files.into_iter().enumerate() {
        let name = format!("shown-{index}");
        units.push(parse_unit(&name, "docs/supervisor.md", file).unwrap());
    }
    System::new(units).unwrap();
}

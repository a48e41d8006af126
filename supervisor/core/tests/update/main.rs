//! Random lists of what happens in and around updates, against a model of the machine outside: a loader that counts, a boot partition on FAT, two
//! slots, generations of data, units that answer or do not, an atalayad that dies, and power that goes at any moment. After every step the promises
//! of an update are checked (`promises`). `sweeps` tries every fault at every step of one update. What a person would ask first is in `cases`, what a boot means in `boots`; `format` has the bytes of the
//! record, frozen, and `table` the page docs/update-states.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod acts;
mod answers;
mod boots;
mod cases;
mod driver;
mod fixtures;
mod format;
mod outside;
mod promises;
mod sweeps;
mod table;
mod trials;
mod world;

use acts::acts;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngSeed, TestRunner};
use world::World;

/// More by PROPTEST_CASES, for a longer search.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(1500)
}

/// The same lists in every run, so that a red one is the work of a change; another number searches elsewhere.
fn seed() -> RngSeed {
    let given = std::env::var("PROPTEST_RNG_SEED").ok();
    RngSeed::Fixed(given.and_then(|seed| seed.parse().ok()).unwrap_or(1))
}

/// What was once found is a case of its own, by name; a seed means another list after every change of the generator.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: cases(),
        rng_seed: seed(),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A promise that nothing ever comes near is not kept but untried.
#[test]
fn the_lists_come_to_every_phase_and_every_end() {
    let mut runner = TestRunner::new(config());
    let mut seen = BTreeSet::new();
    for _ in 0..1000 {
        let (qualities, acts) = acts().new_tree(&mut runner).unwrap().current();
        let mut world = World::new(&qualities);
        for act in acts {
            world.act(act);
        }
        seen.append(&mut world.seen);
    }
    let phases = table::PHASES.map(|(phase, _)| format!("{phase:?}"));
    let ends = [
        "Opened",
        "RolledBack",
        "Failed",
        "back on demand",
        "quarantined",
    ];
    for expected in phases.iter().map(String::as_str).chain(ends) {
        assert!(seen.contains(expected), "never seen: {expected}; {seen:?}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_list_of_events_and_cuts_breaks_a_promise((qualities, acts) in acts()) {
        let mut world = World::new(&qualities);
        for act in acts {
            world.act(act);
        }
        world.calm_down();
        world.cycle_power();
    }
}

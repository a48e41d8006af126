//! Random lists of events over random graphs, against a model of the machine outside: processes that start, report,
//! answer, ignore signals and die when they like, and an atalayad that dies too. After every step the promises of
//! supervision are checked (`invariants`). What the lists once found, and what a person would ask first, is in `cases`,
//! `care` and `between`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod between;
mod care;
mod cases;
mod crash;
mod generators;
mod handover;
mod invariants;
mod pair;
mod world;

use atalaya_core::link::Action;
use atalaya_core::system::Input;
use generators::{act, two_graphs, units};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use world::World;

/// More by PROPTEST_CASES, for a longer search.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(3000)
}

/// The same lists in every run, so that a red one is the work of a change; another number searches elsewhere.
fn seed() -> RngSeed {
    let given = std::env::var("PROPTEST_RNG_SEED").ok();
    RngSeed::Fixed(given.and_then(|seed| seed.parse().ok()).unwrap_or(1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), rng_seed: seed(), ..ProptestConfig::default() })]

    #[test]
    fn no_list_of_events_breaks_a_promise(
        graphs in two_graphs(),
        acts in prop::collection::vec(act(), 0..150),
    ) {
        let mut world = World::new(units(&graphs));
        for act in acts {
            world.act(act);
        }
        // Whatever happened: the machine can be switched off, and nothing is left.
        world.input(Input::End(Action::Poweroff));
        world.calm_down();
        prop_assert!(world.processes.is_empty(), "{:?}", world.processes);
    }
}

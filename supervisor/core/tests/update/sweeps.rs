//! One update there and back again, and at each of its steps, one after the other, everything that can go wrong. Where the lists of chance seldom
//! come to, this comes to for certain.

use crate::acts::{Act, Quality};
use crate::world::World;

/// States in which a power cut may leave what is being done: `World::cut` takes them apart by remainders of 2, 3 and more.
const CUTS: u8 = 12;

/// What people do meanwhile, in this order.
fn wishes(by_name: bool) -> Vec<Act> {
    let begin = |version| Act::Begin {
        version,
        arm: true,
        by_name,
        again: true,
    };
    vec![Act::Post, Act::Rollback, Act::Post, begin(1), Act::Post]
}

/// One step further, if there is one: an effect, an answer, or a wish.
fn advance(world: &mut World, wishes: &mut Vec<Act>) -> bool {
    if world.is_busy() {
        world.go_on();
        return true;
    }
    let Some(wish) = wishes.pop() else {
        return false;
    };
    world.act(wish);
    true
}

fn sweep(quality: Quality, by_name: bool) {
    let all = [quality, Quality::Good, Quality::Good];
    let mut whole = World::new(&all);
    let (mut steps, mut left) = (0, wishes(by_name));
    while advance(&mut whole, &mut left) {
        steps += 1;
    }
    assert!(steps > 40, "{steps} steps are no update");
    let cuts = (0..CUTS).map(|luck| Act::Cut(luck * 7 + luck));
    let faults = cuts.chain([
        Act::Restart,
        Act::Broken,
        Act::Cancel,
        Act::FailWrite(false),
        Act::FailWrite(true),
    ]);
    let faults: Vec<Act> = faults.collect();
    for at in 0..steps {
        for fault in &faults {
            let (mut world, mut left) = (World::new(&all), wishes(by_name));
            for _ in 0..at {
                advance(&mut world, &mut left);
            }
            world.act(fault.clone());
            world.calm_down();
        }
    }
}

#[test]
fn a_good_version_there_and_back_with_a_fault_at_each_step() {
    sweep(Quality::Good, false);
}

#[test]
fn a_version_that_fails_with_a_fault_at_each_step() {
    sweep(Quality::Failing, true);
}

#[test]
fn a_version_that_dies_in_silence_with_a_fault_at_each_step() {
    sweep(Quality::Hangs, true);
}

//! What happens: everything that is left to chance.

use proptest::prelude::*;

/// How a version behaves. The one that the machine was installed with is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    Good,
    /// Its kernel image is not one.
    Unloadable,
    /// It dies before anybody of ours runs.
    Silent,
    /// It dies in the middle of its trial without a word.
    Hangs,
    /// Its trial fails, and it sees that.
    Failing,
}

/// What the world does next. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub enum Act {
    /// The driver carries out so many effects.
    Do(usize),
    /// One of the units that are waited for ends, well if `Luck` says so.
    Answer(usize, u8),
    /// The power goes, in the middle of whatever is done.
    Cut(u8),
    /// The same, and somebody picks the entry of the next start by hand.
    CutAndChoose(u8, usize),
    /// The power goes, and the boot partition then has another entry: which version's, its number, its tries.
    CutAndSurprise(u8, usize, u32, Option<u32>),
    Post,
    Begin {
        version: usize,
        arm: bool,
        by_name: bool,
        again: bool,
    },
    Arm,
    Rollback,
    Cancel,
    Tidy(bool),
    /// The record cannot be written; whether it is there all the same.
    FailWrite(bool),
    /// atalayad dies.
    Restart,
    Broken,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let luck = any::<u8>;
    prop_oneof![
        30 => (1_usize..8).prop_map(Act::Do),
        30 => (0_usize..4, luck()).prop_map(|(which, luck)| Act::Answer(which, luck)),
        3 => luck().prop_map(Act::Cut),
        1 => (luck(), 0_usize..4).prop_map(|(luck, which)| Act::CutAndChoose(luck, which)),
        1 => (luck(), 0_usize..4, 1_u32..12, prop::option::of(0_u32..4))
            .prop_map(|(luck, version, number, tries)| Act::CutAndSurprise(luck, version, number, tries)),
        6 => Just(Act::Post),
        6 => (0_usize..4, prop::bool::weighted(0.9), any::<bool>(), any::<bool>())
            .prop_map(|(version, arm, by_name, again)| Act::Begin { version, arm, by_name, again }),
        2 => Just(Act::Arm),
        2 => Just(Act::Rollback),
        1 => Just(Act::Cancel),
        1 => any::<bool>().prop_map(Act::Tidy),
        1 => any::<bool>().prop_map(Act::FailWrite),
        2 => Just(Act::Restart),
        1 => Just(Act::Broken),
        2 => prop::sample::select(vec![1, 60, 86_400, 2_000_000]).prop_map(Act::Pass),
    ]
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        4 => Just(Quality::Good),
        1 => Just(Quality::Unloadable),
        1 => Just(Quality::Silent),
        1 => Just(Quality::Hangs),
        1 => Just(Quality::Failing),
    ]
}

pub fn acts() -> impl Strategy<Value = (Vec<Quality>, Vec<Act>)> {
    (
        prop::collection::vec(quality(), 3..=3),
        prop::collection::vec(act(), 0..250),
    )
}

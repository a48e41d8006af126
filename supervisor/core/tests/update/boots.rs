//! What a boot means, row by row.

use atalaya_core::update::assess::{Facts, GaveUp, Mode, OtherSlot, Plan, TRIES, assess};
use atalaya_core::update::record::{Reason, Record, Slot, Stage};
use atalaya_core::update::task::Copy;

use crate::fixtures::{NOW, at, image, rest};

/// Version `number` runs from its slot; the other slot holds `other`.
fn facts(number: u32, other: Option<u32>) -> Facts {
    Facts {
        running: image(number),
        slot: if number == 2 { Slot::B } else { Slot::A },
        entry: Some(number),
        counted: number == 3,
        other: other.map_or(OtherSlot::Nothing, |n| OtherSlot::Holds(format!("r{n}"))),
        generations: vec![1, 2, 3],
        key_set: 1,
        gave_up: None,
        now: NOW,
    }
}

fn boot(record: &Record, facts: &Facts) -> Plan {
    assess(Ok(Some(record.clone())), facts)
}

fn is_stranded(plan: &Plan) -> bool {
    matches!(plan.mode, Mode::Stranded { .. }) && plan.generation.is_none()
}

fn gives_way(plan: &Plan) -> bool {
    matches!(plan.mode, Mode::GiveWay { .. }) && plan.generation.is_none()
}

#[test]
fn the_first_boot_makes_a_record() {
    let mut first = facts(1, None);
    first.generations = vec![1];
    first.running.epoch = 4;
    first.key_set = 3;
    let plan = assess(Ok(None), &first);
    assert_eq!((plan.generation, &plan.mode), (Some(1), &Mode::Ordinary));
    let record = plan.record.unwrap();
    assert_eq!((record.stage, record.good.entry), (Stage::Idle, 1));
    assert_eq!((record.epoch_floor, record.key_set), (4, 3));
    // Data without a word about them are somebody's.
    first.generations = vec![1, 2];
    assert!(is_stranded(&assess(Ok(None), &first)));
    let plan = assess(Err("no update record can be read".to_owned()), &first);
    assert!(is_stranded(&plan) && plan.record.is_none());
}

#[test]
fn the_good_version_is_ordinary_whatever_was_last() {
    for stage in [
        Stage::Idle,
        Stage::Opened,
        Stage::Failed,
        Stage::RolledBack,
        Stage::Staged,
    ] {
        let mut record = rest();
        record.stage = stage;
        let plan = boot(&record, &facts(2, Some(1)));
        assert_eq!(
            (plan.generation, plan.mode),
            (Some(2), Mode::Ordinary),
            "{stage:?}"
        );
        assert_eq!(plan.record, None);
    }
    // What was kept is no offer any more when its slot was written over.
    let plan = boot(&rest(), &facts(2, Some(9)));
    assert_eq!(plan.record.unwrap().kept, None);
    let mut unknown = facts(2, None);
    unknown.other = OtherSlot::Unknown;
    assert_eq!(boot(&rest(), &unknown).record, None);
}

#[test]
fn a_slot_is_where_the_system_was_found() {
    let mut moved = facts(2, Some(1));
    moved.slot = Slot::A;
    let record = boot(&rest(), &moved).record.unwrap();
    assert_eq!(record.good.slot, Slot::A);
}

#[test]
fn a_trial_is_on_its_own_data_and_from_the_second_boot_on_a_fresh_copy() {
    let mut record = at(Stage::Armed);
    for boots in 1..=TRIES {
        let plan = boot(&record, &facts(3, Some(2)));
        let copy = (boots > 1).then_some(Copy {
            from: 2,
            to: 3,
            beforehand: false,
        });
        let expected = Mode::Trial {
            boot: boots,
            copy,
            counted: true,
        };
        assert_eq!((plan.generation, plan.mode), (Some(3), expected));
        record = plan.record.unwrap();
        assert_eq!(record.stage, Stage::Trial);
        assert_eq!(
            record.good,
            rest().good,
            "the good version is not forgotten"
        );
    }
    // The loader should have stopped counting it by now; if it has not, the version stops by itself.
    let plan = boot(&record, &facts(3, Some(2)));
    assert!(gives_way(&plan));
    let record = plan.record.unwrap();
    assert!(record.candidate.as_ref().unwrap().reason.is_some());
    assert!(gives_way(&boot(&record, &facts(3, Some(2)))));
}

#[test]
fn marked_good_and_not_opened_is_a_trial_still() {
    let plan = boot(&at(Stage::Blessed), &facts(3, Some(2)));
    assert!(
        matches!(plan.mode, Mode::Trial { copy: Some(_), .. }),
        "{plan:?}"
    );
    let plan = boot(&at(Stage::Blessed), &facts(2, Some(3)));
    assert!(matches!(plan.mode, Mode::TakenBack(_)) && plan.generation == Some(2));
}

#[test]
fn a_way_back_has_its_own_data_and_nothing_is_copied_over_them() {
    let mut record = at(Stage::Trial);
    record.candidate.as_mut().unwrap().way_back = true;
    let plan = boot(&record, &facts(3, Some(2)));
    assert!(
        matches!(
            plan.mode,
            Mode::Trial {
                boot: 2,
                copy: None,
                ..
            }
        ),
        "{plan:?}"
    );
}

#[test]
fn a_version_that_saw_its_failure_does_not_try_again() {
    let mut record = at(Stage::Trial);
    record.candidate.as_mut().unwrap().reason = Some(Reason::new(Stage::Trial, "no post", &[]));
    assert!(gives_way(&boot(&record, &facts(3, Some(2)))));
    // Unless there would be nothing left that starts.
    assert!(is_stranded(&boot(&record, &facts(3, None))));
}

#[test]
fn a_version_whose_supervisor_dies_gives_way_at_its_next_start_and_init_has_said_why() {
    let mut dead = facts(3, Some(2));
    let gave_up = |root_hash: &str| {
        let (root_hash, why) = (root_hash.to_owned(), "it died five times".to_owned());
        Some(GaveUp { root_hash, why })
    };
    let what = |record: &Record| {
        let reason = record.candidate.as_ref().unwrap().reason.clone();
        reason.unwrap().what
    };
    dead.gave_up = gave_up("r3");
    let plan = boot(&at(Stage::Trial), &dead);
    assert!(gives_way(&plan));
    assert_eq!(what(&plan.record.unwrap()), "it died five times");
    // Of another version's trial, long ago.
    dead.gave_up = gave_up("r9");
    assert!(matches!(
        boot(&at(Stage::Trial), &dead).mode,
        Mode::Trial { .. }
    ));

    // Even where it died too early to record anything.
    for boots in [0, 1, 2] {
        let mut record = at(Stage::Trial);
        record.candidate.as_mut().unwrap().boots = boots;
        let mut back = facts(2, Some(3));
        back.gave_up = gave_up("r3");
        let plan = boot(&record, &back);
        let Mode::TakenBack(reason) = plan.mode else {
            panic!("{plan:?}");
        };
        let record = plan.record.unwrap();
        assert_eq!(
            (reason.what.as_str(), reason.stage),
            ("it died five times", Stage::Trial)
        );
        assert_eq!(record.history.last().unwrap().reason, Some(reason));
        assert_eq!(record.quarantine.len(), 1);
        // Otherwise the loader's count would be taken for the reason.
        assert!(record.candidate.unwrap().boots > 0);
        // What the new version itself has seen counts.
        let mut seen = at(Stage::Trial);
        seen.candidate.as_mut().unwrap().reason = Some(Reason::new(Stage::Trial, "no post", &[]));
        assert_eq!(what(&boot(&seen, &back).record.unwrap()), "no post");
    }
}

#[test]
fn taken_back_says_why_and_never_tries_a_proven_failure_again() {
    let told = |record: &Record| {
        let plan = boot(record, &facts(2, Some(3)));
        let record = plan.record.unwrap();
        assert_eq!(plan.generation, Some(2));
        assert_eq!(record.stage, Stage::RolledBack);
        let past = record.history.last().unwrap().clone();
        assert_eq!(
            (past.to.as_str(), past.outcome),
            ("1.3.0", Stage::RolledBack)
        );
        (past.reason.unwrap().what, record.quarantine.len())
    };
    let mut record = at(Stage::Trial);
    assert_eq!(told(&record).1, 0, "once is no proof");
    record.candidate.as_mut().unwrap().boots = TRIES;
    let (what, quarantined) = told(&record);
    assert!(what.contains("3 times") && quarantined == 1, "{what}");
    let candidate = record.candidate.as_mut().unwrap();
    candidate.boots = 1;
    candidate.reason = Some(Reason::new(Stage::Trial, "no post goes through", &[]));
    assert_eq!(told(&record), ("no post goes through".to_owned(), 1));
    record.candidate.as_mut().unwrap().way_back = true;
    assert_eq!(
        told(&record).1,
        0,
        "a version that was good here is not judged by a way back"
    );
}

#[test]
fn what_is_neither_good_nor_armed_starts_nothing() {
    for stage in [Stage::RolledBack, Stage::Failed, Stage::Staged] {
        assert!(
            gives_way(&boot(&at(stage), &facts(3, Some(2)))),
            "{stage:?}"
        );
    }
    let kept = boot(&rest(), &facts(1, Some(2)));
    let Mode::Stranded {
        previous, heals, ..
    } = kept.mode
    else {
        panic!("{kept:?}");
    };
    assert!(previous && heals && kept.generation.is_none());
    assert!(is_stranded(&boot(&rest(), &facts(7, Some(2)))));
    // What is done to the boot partition then must leave something that starts.
    let heals = |number, other| {
        let mut stranger = facts(number, None);
        stranger.other = other;
        let plan = boot(&rest(), &stranger);
        matches!(plan.mode, Mode::Stranded { heals: true, .. })
    };
    for number in [1, 7] {
        assert!(heals(number, OtherSlot::Holds("r2".to_owned())));
        assert!(!heals(number, OtherSlot::Unknown));
    }
}

#[test]
fn an_armed_version_without_data_of_its_own_starts_nothing() {
    for generation in [None, Some(2)] {
        let mut record = at(Stage::Armed);
        record.candidate.as_mut().unwrap().generation = generation;
        let plan = boot(&record, &facts(3, Some(2)));
        assert!(is_stranded(&plan) && plan.record.is_none(), "{plan:?}");
    }
}

#[test]
fn a_disk_that_was_written_anew_takes_the_data_that_were_kept() {
    let record = at(Stage::RolledBack);
    let mut fresh = facts(7, None);
    fresh.entry = Some(1);
    fresh.key_set = 9;
    let plan = boot(&record, &fresh);
    assert_eq!((plan.generation, &plan.mode), (Some(2), &Mode::Ordinary));
    let after = plan.record.unwrap();
    assert_eq!(after.good.image.root_hash, "r7");
    assert_eq!(
        (after.last_entry, after.last_generation),
        (3, 3),
        "numbers are not given twice"
    );
    assert_eq!(after.key_set, 9);
    assert_eq!(after.history.last().unwrap().to, "1.7.0");
    // Not where the good one might only be unreadable, nor with a counter, nor below the floor.
    fresh.other = OtherSlot::Unknown;
    assert!(is_stranded(&boot(&record, &fresh)));
    fresh.other = OtherSlot::Nothing;
    fresh.counted = true;
    assert!(is_stranded(&boot(&record, &fresh)));
    fresh.counted = false;
    let mut high = record;
    high.epoch_floor = 2;
    assert!(is_stranded(&boot(&high, &fresh)));
}

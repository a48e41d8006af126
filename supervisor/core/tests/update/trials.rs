//! What a person would ask first of trials, of what comes after a failed one, and of a restart of atalayad.

use atalaya_core::update::assess::Mode;
use atalaya_core::update::machine::{Effect, Event, Notice, Phase, Run, Work, boot, resume, step};
use atalaya_core::update::record::{Past, Reason, Record, Stage};
use atalaya_core::update::task::Outcome;

use crate::acts::{Act, Quality};
use crate::cases::admits;
use crate::fixtures::{NOW, at, in_phase, report, rest};
use crate::world::{World, failure, refusal};

#[test]
fn a_failed_trial_is_recorded_before_its_entry_goes() {
    let events: [(Phase, Event); 5] = [
        (
            Phase::CopyingAnew,
            Event::Copied(Outcome::Refused(refusal("no space"))),
        ),
        (
            Phase::Starting,
            Event::Broken(failure("postgres is not ready")),
        ),
        (Phase::Probing, Event::Probed(Err(failure("no post")))),
        (
            Phase::Blessing,
            Event::Entries(Outcome::Refused(refusal("read-only"))),
        ),
        (
            Phase::Blessing,
            Event::Entries(Outcome::Done(report(Some(1)))),
        ),
    ];
    for (phase, event) in events {
        let (record, run) = in_phase(phase);
        let after = step(&record, &run, NOW, event).unwrap();
        assert_eq!(after.run.phase, Phase::GivingUp, "{phase:?}");
        assert!(after.record.candidate.as_ref().unwrap().reason.is_some());
        assert!(matches!(
            after.effects.first(),
            Some(Effect::WriteRecord(_))
        ));
        assert!(
            matches!(after.effects.last(), Some(Effect::Start(Work::Esp(esp)))
            if esp.entries.len() == 1 && esp.entries[0].number == record.good.entry)
        );
        assert_eq!(admits(&after.effects), Vec::<bool>::new());
    }
}

#[test]
fn a_failure_while_the_boot_partition_is_written_waits_for_it() {
    let (record, run) = in_phase(Phase::Blessing);
    let broken = step(
        &record,
        &run,
        NOW,
        Event::Broken(failure("mattermost died")),
    )
    .unwrap();
    assert_eq!(broken.effects, []);
    let entries = Event::Entries(Outcome::Done(report(None)));
    let after = step(&broken.record, &broken.run, NOW, entries).unwrap();
    assert_eq!(after.run.phase, Phase::GivingUp);
    assert_eq!(after.record.good, record.good);
}

#[test]
fn a_trial_that_cannot_give_way_restarts_only_while_somebody_counts() {
    let (record, mut run) = in_phase(Phase::GivingUp);
    let refused = || Event::Entries(Outcome::Refused(refusal("read-only")));
    let stays = step(&record, &run, NOW, refused()).unwrap();
    assert_eq!(stays.run.phase, Phase::Stranded);
    run.counted = true;
    let leaves = step(&record, &run, NOW, refused()).unwrap();
    assert_eq!(leaves.run.phase, Phase::Leaving);
}

#[test]
fn what_the_loader_used_up_in_silence_is_not_tried_again() {
    let mut record = at(Stage::RolledBack);
    record.candidate.as_mut().unwrap().boots = 0;
    record.history.push(Past {
        from: "1.2.0".to_owned(),
        to: "1.3.0".to_owned(),
        outcome: Stage::RolledBack,
        marks: Vec::new(),
        downtime: None,
        reason: Some(Reason::new(Stage::Armed, "not known", &[])),
    });
    let run = Run::of(Phase::Looking);
    let looked = |left| {
        let entries = Event::Entries(Outcome::Done(report(left)));
        step(&record, &run, NOW, entries).unwrap().record
    };
    let generation = |record: &Record| record.candidate.as_ref().unwrap().generation;
    assert_eq!(generation(&record), Some(3));
    let unused = looked(Some(3));
    assert!(unused.quarantine.is_empty(), "it was never started");
    assert_eq!(generation(&unused), None, "nobody has written to the copy");
    let used_up = looked(Some(0));
    assert_eq!(generation(&used_up), Some(3), "kept for diagnosis");
    assert_eq!(used_up.quarantine[0].root_hash, "r3");
    let reason = used_up.history.last().unwrap().reason.clone().unwrap();
    assert!(reason.what.contains("1.3.0"), "{reason:?}");
}

#[test]
fn a_restart_in_the_moment_after_the_record_goes_on_from_the_record() {
    // The record is one step ahead of the run in each of these.
    let mut opened = rest();
    opened.stage = Stage::Opened;
    let mut reasoned = at(Stage::Trial);
    reasoned.candidate.as_mut().unwrap().reason = Some(Reason::new(Stage::Trial, "x", &[]));
    let mut failed = at(Stage::Failed);
    failed.wanted = None;
    // On the way back nothing is copied.
    let mut back = at(Stage::Armed);
    back.candidate.as_mut().unwrap().way_back = true;
    for (record, phase, expected) in [
        (opened, Phase::Blessing, Phase::Healing),
        (reasoned, Phase::Probing, Phase::GivingUp),
        (at(Stage::Armed), Phase::Copying, Phase::Arming),
        (back, Phase::Closing, Phase::Arming),
        (failed.clone(), Phase::Arming, Phase::Disarming),
        (failed, Phase::Closing, Phase::Rest),
        (at(Stage::Writing), Phase::Rest, Phase::Installing),
        (at(Stage::Staged), Phase::Installing, Phase::Rest),
    ] {
        let run = Run {
            closed: Some(NOW),
            ..Run::of(phase)
        };
        let after = resume(&record, &run, NOW);
        assert_eq!(after.run.phase, expected, "{phase:?}");
    }
}

#[test]
fn a_restart_makes_it_so_that_users_are_in_or_out() {
    for (phase, open) in [
        (Phase::Rest, true),
        (Phase::Healing, true),
        (Phase::Installing, true),
        (Phase::Copying, false),
        (Phase::Probing, false),
        (Phase::TakingBack, false),
        (Phase::Returning, true),
        (Phase::Stranded, false),
    ] {
        let (record, run) = in_phase(phase);
        let after = resume(&record, &run, NOW);
        assert_eq!(after.run.phase, phase);
        assert_eq!(admits(&after.effects), [open], "{phase:?}");
        // Once it is done nothing is started again that somebody has stopped by hand.
        let run = Run { done: true, ..run };
        let after = resume(&record, &run, NOW);
        let is_awaited = matches!(phase, Phase::Returning);
        assert_eq!(
            after.effects.contains(&Effect::StartServices),
            is_awaited,
            "{phase:?}"
        );
        assert!(admits(&after.effects).is_empty());
    }
}

#[test]
fn an_uncounted_trial_alarms_and_gets_its_counter() {
    let record = at(Stage::Trial);
    let mode = Mode::Trial {
        boot: 1,
        copy: None,
        counted: false,
    };
    let first = boot(&record, &mode);
    assert_eq!(first.run.phase, Phase::Recounting);
    let alarms = first
        .effects
        .iter()
        .any(|e| matches!(e, Effect::Tell(Notice::Alarm(_))));
    assert!(alarms);
    let Some(Effect::Start(Work::Esp(esp))) = first.effects.last() else {
        panic!("{first:?}");
    };
    assert_eq!(
        esp.entries[1].tries,
        Some(2),
        "this start is one of the three"
    );
}

#[test]
fn with_its_counter_back_a_trial_copies_what_an_earlier_one_has_used() {
    for (boots, way_back, expected) in [
        (1, false, Phase::Starting),
        (2, false, Phase::CopyingAnew),
        (2, true, Phase::Starting),
    ] {
        let mut record = at(Stage::Trial);
        let candidate = record.candidate.as_mut().unwrap();
        candidate.boots = boots;
        candidate.way_back = way_back;
        let entries = Event::Entries(Outcome::Done(report(Some(1))));
        let after = step(&record, &Run::of(Phase::Recounting), NOW, entries).unwrap();
        assert_eq!(after.run.phase, expected);
        assert!(after.run.counted);
    }
}

/// Two versions, three boots that end in silence, and the first one serves again with every post.
#[test]
fn three_silent_boots_and_back() {
    let mut world = World::new(&[Quality::Hangs, Quality::Good, Quality::Good]);
    world.calm_down();
    world.act(Act::Post);
    world.act(Act::Begin {
        version: 1,
        arm: true,
        by_name: false,
        again: true,
    });
    world.calm_down();
    let record = world.durable().unwrap();
    assert_eq!(record.stage, Stage::RolledBack);
    assert_eq!(record.candidate.unwrap().boots, 3);
    assert_eq!(record.quarantine.len(), 1);
    assert_eq!(world.ledger.len(), 1);
}

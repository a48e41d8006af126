//! What a person would ask first.

use atalaya_core::update::assess::OtherSlot;
use atalaya_core::update::machine::{Effect, Event, KEEP_S, Phase, Run, Step, Work, rules, step};
use atalaya_core::update::record::{Kept, Quarantined, Reason, Record, Stage};
use atalaya_core::update::task::{Asked, Drop, Outcome, Source};

use crate::fixtures::{
    NOW, at, copied, image, in_phase, installed, nothing_found, report, rest, staged, wanted,
};
use crate::world::{failure, of_machine, refusal};

fn begin(arm: bool) -> Event {
    Event::Begin {
        source: Source::Http("https://example.com/3".to_owned()),
        shown: "example.com/3".to_owned(),
        asked: Asked::default(),
        arm,
    }
}

fn kept() -> OtherSlot {
    OtherSlot::Holds("r1".to_owned())
}

fn written() -> OtherSlot {
    OtherSlot::Holds("r3".to_owned())
}

/// One event after the other, a second apart.
fn lead(record: Record, events: Vec<Event>) -> Step {
    let mut all = Step {
        record,
        run: Run::of(Phase::Rest),
        effects: Vec::new(),
    };
    for (second, event) in (0..).zip(events) {
        let next = step(&all.record, &all.run, NOW + second, event).unwrap();
        all.record = next.record;
        all.run = next.run;
        all.effects.extend(next.effects);
    }
    all
}

fn forward() -> Vec<Event> {
    vec![
        begin(true),
        Event::Installed(Outcome::Done(staged()), written()),
        Event::Probed(Ok(())),
        Event::Copied(Outcome::Done(copied())),
        Event::Stopped(Ok(vec!["eth0".to_owned()])),
        Event::Copied(Outcome::Done(copied())),
        Event::Entries(Outcome::Done(report(Some(3)))),
    ]
}

fn stages(effects: &[Effect]) -> Vec<Stage> {
    let records = effects.iter().filter_map(|effect| match effect {
        Effect::WriteRecord(record) => Some(record.stage),
        _ => None,
    });
    records.collect()
}

pub fn admits(effects: &[Effect]) -> Vec<bool> {
    let doors = effects.iter().filter_map(|effect| match effect {
        Effect::Admit { open, .. } => Some(*open),
        _ => None,
    });
    doors.collect()
}

#[test]
fn the_way_forward() {
    let armed = lead(rest(), forward());
    assert_eq!(armed.run.phase, Phase::Leaving);
    let recorded = stages(&armed.effects);
    assert_eq!(
        recorded,
        [Stage::Writing, Stage::Staged, Stage::Staged, Stage::Armed]
    );
    assert_eq!(
        admits(&armed.effects),
        [false],
        "users are out, and stay out"
    );
    assert!(matches!(armed.effects.last(), Some(Effect::Reboot(_))));
    let candidate = armed.record.candidate.clone().unwrap();
    assert_eq!((candidate.entry, candidate.generation), (Some(3), Some(3)));
    assert_eq!(candidate.interfaces, ["eth0"]);
    assert_eq!(armed.record.kept, None, "its slot was taken");
    let drop = Effect::Start(Work::Drop(Drop {
        generations: vec![1],
    }));
    assert!(
        armed.effects.contains(&drop),
        "nor its data: the copy needs the space"
    );

    let trial = vec![
        Event::Ready,
        Event::Probed(Ok(())),
        Event::Entries(Outcome::Done(report(None))),
        Event::Entries(Outcome::Done(report(None))),
    ];
    let mut record = armed.record;
    record.stage = Stage::Trial;
    let mut all = Step {
        run: Run {
            closed: candidate.closed,
            ..Run::of(Phase::Starting)
        },
        record,
        effects: Vec::new(),
    };
    for (event, second) in trial.into_iter().zip(60..) {
        let next = step(&all.record, &all.run, NOW + second, event).unwrap();
        all = Step {
            effects: [all.effects, next.effects].concat(),
            ..next
        };
    }
    assert_eq!(all.run.phase, Phase::Rest);
    assert_eq!(stages(&all.effects), [Stage::Blessed, Stage::Opened]);
    assert_eq!(admits(&all.effects), [true]);
    let opened = all.record;
    assert_eq!(opened.good, installed(3, candidate.slot, 3, 3));
    let until = NOW + 62;
    assert_eq!(
        opened.kept,
        Some(Kept {
            installed: rest().good,
            until
        })
    );
    let past = opened.history.last().unwrap();
    assert_eq!(
        (past.outcome, past.downtime),
        (Stage::Opened, Some(until - NOW - 3))
    );
    assert_eq!(opened.loader.as_deref(), Some("l3"));
}

#[test]
fn a_floor_and_a_key_set_rise_and_never_fall() {
    let mut newer = staged();
    newer.image.epoch = 5;
    newer.key_set = 7;
    let event = Event::Installed(Outcome::Done(newer), written());
    let after = lead(rest(), vec![begin(false), event]);
    assert_eq!(after.record.key_set, 7, "accepted with the bundle");
    assert_eq!(after.record.epoch_floor, 1, "not before it was opened");
    let mut blessing = at(Stage::Trial);
    blessing.candidate.as_mut().unwrap().image.epoch = 5;
    let run = Run::of(Phase::Blessing);
    let entries = Event::Entries(Outcome::Done(report(None)));
    let opened = step(&blessing, &run, NOW, entries).unwrap().record;
    assert_eq!(opened.epoch_floor, 5);
    let refused = step(
        &opened,
        &Run::of(Phase::Rest),
        NOW,
        Event::Rollback(OtherSlot::Holds("r2".to_owned())),
    );
    assert_eq!(refused.unwrap_err().code, "epoch");
}

#[test]
fn until_armed_everybody_goes_on_as_if_nothing_had_been() {
    let answers = forward();
    for length in 2..answers.len() {
        let before = lead(rest(), answers[..length - 1].to_vec());
        let refused = match &answers[length - 1] {
            Event::Installed(..) => {
                Event::Installed(Outcome::Refused(refusal("no")), OtherSlot::Nothing)
            }
            Event::Probed(_) => Event::Probed(Err(failure("no"))),
            Event::Copied(_) => Event::Copied(Outcome::Refused(refusal("no"))),
            Event::Stopped(_) => Event::Stopped(Err(failure("no"))),
            _ => Event::Entries(Outcome::Refused(refusal("no"))),
        };
        let is_closed = before.run.closed.is_some();
        let after = step(&before.record, &before.run, NOW, refused).unwrap();
        let (after, effects) = if after.run.phase == Phase::Disarming {
            assert_eq!(
                after.record.stage,
                Stage::Failed,
                "recorded before anything is undone"
            );
            let entries = Event::Entries(Outcome::Done(nothing_found()));
            let last = step(&after.record, &after.run, NOW, entries).unwrap();
            (last.clone(), last.effects)
        } else {
            (after.clone(), after.effects)
        };
        assert_eq!(
            (after.record.stage, after.run.phase),
            (Stage::Failed, Phase::Rest)
        );
        assert_eq!(after.record.good, rest().good);
        assert!(
            after.record.quarantine.is_empty(),
            "what ended before a trial proves nothing"
        );
        assert_eq!(
            admits(&effects),
            if is_closed { vec![true] } else { vec![] }
        );
        assert_eq!(effects.contains(&Effect::StartServices), is_closed);
        assert!(after.record.history.last().unwrap().reason.is_some());
    }
}

#[test]
fn an_update_can_be_cancelled_until_armed() {
    let answers = forward();
    for length in 1..answers.len() {
        let before = lead(rest(), answers[..length].to_vec());
        let asked = step(&before.record, &before.run, NOW, Event::Cancel);
        if before.run.phase == Phase::Arming {
            assert_eq!(asked.unwrap_err().code, "too_late");
            continue;
        }
        let asked = asked.unwrap();
        // Even if what was under way has ended well in the meantime.
        let answer = answers[length].clone();
        let after = step(&asked.record, &asked.run, NOW, answer).unwrap();
        assert_eq!(
            (after.record.stage, after.run.phase),
            (Stage::Failed, Phase::Rest)
        );
        let reason = after.record.history.last().unwrap().reason.clone().unwrap();
        assert!(reason.what.contains("cancelled"), "{reason:?}");
    }
    for phase in [Phase::Rest, Phase::Healing] {
        let refused = step(&rest(), &Run::of(phase), NOW, Event::Cancel);
        assert_eq!(refused.unwrap_err().code, "nothing_under_way");
    }
}

/// The restart comes only when the boot partition holds both: the way forward with its tries, and the way back without any.
#[test]
fn without_both_entries_the_machine_does_not_restart() {
    let (record, run) = in_phase(Phase::Arming);
    let arming = |report| {
        let found = Event::Entries(Outcome::Done(report));
        step(&record, &run, NOW, found).unwrap()
    };
    assert_eq!(arming(report(Some(3))).run.phase, Phase::Leaving);
    let mut without_good = report(Some(3));
    without_good.entries.retain(|entry| entry.number != 2);
    let mut counted_good = report(Some(3));
    counted_good.entries[0].left = Some(3);
    let mut without_new = report(Some(3));
    without_new.entries.retain(|entry| entry.number != 3);
    for found in [
        without_good,
        counted_good,
        without_new,
        report(None),
        report(Some(0)),
    ] {
        let after = arming(found);
        assert_eq!(after.run.phase, Phase::Disarming);
        assert_eq!(after.record.stage, Stage::Failed);
        assert!(stages(&after.effects).contains(&Stage::Failed));
    }
}

/// An entry of the running version that is not known cannot be kept: then nobody is shut out, and nothing is armed.
#[test]
fn without_a_way_back_there_is_no_way_forward() {
    let mut record = rest();
    record.good.image.uki = String::new();
    let after = lead(record, forward()[..3].to_vec());
    assert_eq!(after.record.stage, Stage::Failed);
    assert_eq!(after.run.phase, Phase::Rest);
    assert!(admits(&after.effects).is_empty());
}

/// An entry's number is above every other that there is, whatever the record has counted: the loader starts the highest.
#[test]
fn a_new_entry_has_the_highest_number() {
    let mut record = rest();
    record.last_entry = 1;
    record.good.entry = 7;
    let armed = lead(record, forward()[..6].to_vec());
    assert_eq!(armed.run.phase, Phase::Arming);
    let number = |step: &Step| step.record.candidate.as_ref().and_then(|c| c.entry);
    assert_eq!(number(&armed), Some(8));
    // The version to which one goes back may have the highest.
    let mut record = rest();
    record.kept.as_mut().unwrap().installed.entry = 9;
    let back = lead(
        record,
        vec![Event::Rollback(kept()), Event::Stopped(Ok(Vec::new()))],
    );
    assert_eq!((number(&back), back.record.last_entry), (Some(10), 10));
}

#[test]
fn one_thing_at_a_time() {
    for phase in [
        Phase::Installing,
        Phase::Copying,
        Phase::Probing,
        Phase::Returning,
        Phase::Stranded,
    ] {
        let (record, run) = in_phase(phase);
        for event in [begin(true), Event::Arm] {
            assert_eq!(
                step(&record, &run, NOW, event).unwrap_err().code,
                "busy",
                "{phase:?}"
            );
        }
    }
}

#[test]
fn a_quarantined_version_is_refused_by_the_rules_unless_it_is_named() {
    let mut record = rest();
    record.quarantine.push(Quarantined {
        version: "1.3.0".to_owned(),
        root_hash: "r3".to_owned(),
        reason: Reason::new(Stage::Trial, "no post", &[]),
        at: NOW,
    });
    record.epoch_floor = 1;
    record.good.image.epoch = 3;
    let made = rules(&record, &Asked::default(), of_machine(&record));
    assert_eq!(made.quarantine, ["r3"]);
    assert_eq!(
        made.epoch_floor, 3,
        "the higher of the recorded and the running image's own"
    );
    assert!(!made.allow_quarantined);
    let asked = Asked {
        allow_quarantined: true,
        ..Asked::default()
    };
    assert!(rules(&record, &asked, of_machine(&record)).allow_quarantined);
}

#[test]
fn back_on_demand_without_a_copy() {
    let armed = lead(
        rest(),
        vec![
            Event::Rollback(kept()),
            Event::Stopped(Err(failure("postgres hangs"))),
            Event::Entries(Outcome::Done(report(Some(3)))),
        ],
    );
    assert_eq!(armed.run.phase, Phase::Leaving);
    let candidate = armed.record.candidate.clone().unwrap();
    assert_eq!((candidate.entry, candidate.generation), (Some(3), Some(1)));
    assert!(candidate.way_back && candidate.image == image(1));
    let copies = armed
        .effects
        .iter()
        .any(|e| matches!(e, Effect::Start(Work::Copy(_))));
    assert!(!copies, "nothing is written into either of the two");
    assert!(
        armed.record.kept.is_some(),
        "if it fails, it can be tried again"
    );
}

#[test]
fn no_way_back_that_leads_nowhere() {
    let rest_run = Run::of(Phase::Rest);
    let refused = |record: &Record, other| {
        step(record, &rest_run, NOW, Event::Rollback(other))
            .unwrap_err()
            .code
    };
    assert_eq!(refused(&rest(), written()), "slot");
    assert_eq!(refused(&rest(), OtherSlot::Unknown), "slot");
    let mut none = rest();
    none.kept = None;
    assert_eq!(refused(&none, kept()), "nothing_kept");
    let mut high = rest();
    high.epoch_floor = 2;
    assert_eq!(refused(&high, kept()), "epoch");
    // The kept version itself, started by hand because the good one does not come up.
    let (record, run) = in_phase(Phase::Stranded);
    let after = step(&record, &run, NOW, Event::Rollback(OtherSlot::Nothing)).unwrap();
    assert_eq!(after.run.phase, Phase::Closing);
}

#[test]
fn a_refused_bundle_leaves_the_way_back_unless_it_has_written() {
    let refused = |other| {
        let event = Event::Installed(Outcome::Refused(refusal("signatures")), other);
        lead(rest(), vec![begin(true), event]).record.kept
    };
    assert!(refused(kept()).is_some());
    assert!(refused(OtherSlot::Unknown).is_some());
    assert_eq!(refused(OtherSlot::Nothing), None);
    // What was written has taken its place, whether or not the slot can be read just now.
    let event = Event::Installed(Outcome::Done(staged()), OtherSlot::Unknown);
    assert_eq!(lead(rest(), vec![begin(false), event]).record.kept, None);
}

#[test]
fn an_installation_survives_a_reboot_if_its_source_does() {
    let healed = |record: &Record| {
        let entries = Event::Entries(Outcome::Done(nothing_found()));
        step(record, &Run::of(Phase::Healing), NOW, entries).unwrap()
    };
    let mut record = at(Stage::Writing);
    let again = healed(&record);
    assert_eq!(again.run.phase, Phase::Installing);
    assert_eq!(again.record.wanted.unwrap().attempts, 2);
    record.wanted.as_mut().unwrap().attempts = 3;
    assert_eq!(healed(&record).record.stage, Stage::Failed, "not for ever");
    record.wanted = Some(wanted());
    record.wanted.as_mut().unwrap().source = Source::File("/run/x".to_owned());
    assert_eq!(
        healed(&record).record.stage,
        Stage::Failed,
        "what was sent is gone"
    );
}

#[test]
fn old_data_go_when_their_time_is_over_or_space_is_short() {
    let tidy = |now: u64, short: bool| {
        let present = vec![1, 2, 5];
        step(
            &rest(),
            &Run::of(Phase::Rest),
            now,
            Event::Tidy { present, short },
        )
        .unwrap()
    };
    let dropped = |step: &Step| {
        let drops = step.effects.iter().find_map(|effect| match effect {
            Effect::Start(Work::Drop(drop)) => Some(drop.generations.clone()),
            _ => None,
        });
        drops.unwrap()
    };
    let soon = tidy(NOW, false);
    assert_eq!(dropped(&soon), [5], "what nobody knows");
    assert!(soon.record.kept.is_some());
    for over in [tidy(NOW + KEEP_S, false), tidy(NOW, true)] {
        assert_eq!(dropped(&over), [1, 5]);
        assert_eq!(over.record.kept, None);
        assert!(
            matches!(over.effects[0], Effect::WriteRecord(_)),
            "recorded before they go"
        );
    }
}

#[test]
fn the_reason_stays_within_what_a_record_holds() {
    let log: Vec<String> = (0..100)
        .map(|n| format!("{n} {}", "é".repeat(1000)))
        .collect();
    let reason = Reason::new(Stage::Trial, &"x".repeat(5000), &log);
    assert_eq!(reason.what.len(), 1000);
    assert_eq!(reason.log.len(), 30);
    assert!(reason.log[29].starts_with("99 ") && reason.log[29].chars().count() == 400);
}

#[test]
fn a_lost_loader_alarms_and_ends_nothing() {
    let (record, run) = in_phase(Phase::Healing);
    for lost_loader in [false, true] {
        let report = atalaya_core::update::task::EspReport {
            lost_loader,
            ..report(None)
        };
        let healed = step(&record, &run, NOW, Event::Entries(Outcome::Done(report))).unwrap();
        assert_eq!(healed.run.phase, Phase::Rest);
        assert_eq!(healed.record, record);
        assert_eq!(healed.effects.len(), usize::from(lost_loader));
    }
}

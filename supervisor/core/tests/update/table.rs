//! docs/update-states.md is what the code does: every phase with every event, tried out. Bless a change with
//! `ATALAYA_BLESS=1 cargo test --release -p atalaya-core`.

use std::fmt::Write as _;
use std::path::Path;

use atalaya_core::update::assess::OtherSlot;
use atalaya_core::update::machine::{Effect, Event, Notice, Phase, Work, step};
use atalaya_core::update::record::Record;
use atalaya_core::update::task::{Asked, Outcome, Source};

use crate::fixtures::{NOW, copied, in_phase, nothing_found, report, staged};
use crate::world::{failure, refusal};

const HEAD: &str = "# The states of an update

Made from the code by `supervisor/core/tests/update/table.rs`; a test compares. To take over a change:
`ATALAYA_BLESS=1 cargo test --release -p atalaya-core`.

`supervisor/core/src/update` decides and does nothing; atalayad carries out. Two things are kept apart:

- **The stage** stands in the record on /data, survives power cuts, and never goes back for one update:
  Idle, Writing, Staged, Armed, Trial, Blessed, then Opened or RolledBack; or Failed, which is before Armed, so that nothing was at stake.
- **The phase** is what this boot is waiting for. It ends with the boot, and survives a restart of atalayad.

## What a boot means

Decided before any unit starts (`assess.rs`), from the record, the root hash that is running, and what the other slot holds.

| running | the record says | then |
|---|---|---|
| the good version | nothing is between | ordinary: its generation, users are in |
| the good version | Armed, Trial or Blessed | taken back: its generation, RolledBack is recorded, the other's entry goes, then users are in |
| the new version | Armed, Trial or Blessed | trial: the new generation, copied again unless this is its first boot |
| the new version | the same, with a reason or after three boots | gives way: no unit starts, its entry goes, restart |
| the new version | anything else | gives way |
| the kept version | nothing is between, or another update is | stranded: no unit starts; `atalaya update rollback` is on offer |
| a version that is not in the record | the good one is in the other slot | stranded |
| a version that is not in the record | the good one is in no slot: the disk was written anew and /data kept | ordinary, with the data as they are, unless it is below the epoch floor |
| any | it cannot be read, or is not there though there are later generations | stranded |
| any | it is not there, and there is at most the first generation | ordinary; the first record is made |

Up to Opened the last good version's generation is the truth, whatever the boot partition says; a cut at any moment leads to one of these rows.

";

/// With the word for it.
fn every_event(phase: Phase) -> Vec<(&'static str, Event)> {
    let kept = || OtherSlot::Holds("r1".to_owned());
    let refused = || refusal("why");
    let begin = Event::Begin {
        source: Source::Usb("ATALAYA-UPDATE".to_owned()),
        shown: "usb".to_owned(),
        asked: Asked::default(),
        arm: true,
    };
    let tries = match phase {
        Phase::Arming => Some(3),
        Phase::Looking => Some(0),
        Phase::Rest
        | Phase::Finding
        | Phase::Healing
        | Phase::Installing
        | Phase::Baseline
        | Phase::Beforehand
        | Phase::Closing
        | Phase::Copying
        | Phase::Disarming
        | Phase::Leaving
        | Phase::Recounting
        | Phase::CopyingAnew
        | Phase::Starting
        | Phase::Probing
        | Phase::Blessing
        | Phase::GivingUp
        | Phase::TakingBack
        | Phase::Returning
        | Phase::Stranded => None,
    };
    let written = OtherSlot::Holds("r3".to_owned());
    let events = vec![
        ("Begin", begin),
        ("Arm", Event::Arm),
        ("Rollback", Event::Rollback(kept())),
        ("Cancel", Event::Cancel),
        (
            "Tidy, space is short",
            Event::Tidy {
                present: vec![1, 2, 3, 4],
                short: true,
            },
        ),
        (
            "Installed",
            Event::Installed(Outcome::Done(staged()), written),
        ),
        (
            "Installed, refused",
            Event::Installed(Outcome::Refused(refused()), OtherSlot::Nothing),
        ),
        ("Copied", Event::Copied(Outcome::Done(copied()))),
        (
            "Copied, refused",
            Event::Copied(Outcome::Refused(refused())),
        ),
        (
            "Entries as wanted",
            Event::Entries(Outcome::Done(report(tries))),
        ),
        (
            "Entries other than wanted",
            Event::Entries(Outcome::Done(nothing_found())),
        ),
        (
            "Entries, refused",
            Event::Entries(Outcome::Refused(refused())),
        ),
        ("Probed", Event::Probed(Ok(()))),
        ("Probed, failed", Event::Probed(Err(failure("no post")))),
        ("Stopped", Event::Stopped(Ok(vec!["eth0".to_owned()]))),
        ("Stopped, failed", Event::Stopped(Err(failure("it hangs")))),
        ("Ready", Event::Ready),
        ("Broken", Event::Broken(failure("a unit is not ready"))),
        (
            "Unrecorded",
            Event::Unrecorded("the disk is full".to_owned()),
        ),
    ];
    for (_, event) in &events {
        is_listed(event);
    }
    events
}

/// A new event belongs into the list: the compiler asks for it here.
const fn is_listed(event: &Event) {
    match event {
        Event::Begin { .. }
        | Event::Arm
        | Event::Rollback(_)
        | Event::Cancel
        | Event::Tidy { .. }
        | Event::Installed(..)
        | Event::Copied(_)
        | Event::Entries(_)
        | Event::Probed(_)
        | Event::Stopped(_)
        | Event::Ready
        | Event::Broken(_)
        | Event::Unrecorded(_) => {}
    }
}

pub const PHASES: [(Phase, &str); 21] = [
    (Phase::Rest, "nothing is under way"),
    (
        Phase::Finding,
        "the running version looks for its own entry on the boot partition, for the first time",
    ),
    (
        Phase::Healing,
        "the boot partition is compared with the record; users are in",
    ),
    (
        Phase::Installing,
        "the bundle is verified and written to the other slot",
    ),
    (
        Phase::Baseline,
        "the probe goes through the running version",
    ),
    (
        Phase::Beforehand,
        "the space is checked, uploads are copied; users are in",
    ),
    (Phase::Closing, "users are out, the units stop"),
    (Phase::Copying, "the data are copied"),
    (Phase::Arming, "the new entry is put on the boot partition"),
    (
        Phase::Disarming,
        "that failed, the boot partition is put back",
    ),
    (Phase::Leaving, "the machine restarts"),
    (
        Phase::Recounting,
        "trial: the entry gets the counter that it should have",
    ),
    (Phase::CopyingAnew, "trial: the data are copied again"),
    (
        Phase::Starting,
        "trial: the units start, without the network",
    ),
    (Phase::Probing, "trial: a post goes through"),
    (Phase::Blessing, "trial: the entry loses its counter"),
    (Phase::GivingUp, "trial: the entry is taken away"),
    (
        Phase::Looking,
        "taken back without a word from the new version: what did the loader count?",
    ),
    (
        Phase::TakingBack,
        "taken back: the new version's entry is taken away",
    ),
    (
        Phase::Returning,
        "taken back: users are in as soon as the units are ready",
    ),
    (
        Phase::Stranded,
        "no unit that uses data has started; a person has to decide",
    ),
];

fn words(effect: &Effect) -> String {
    match effect {
        Effect::WriteRecord(record) => format!("WriteRecord({:?})", record.stage),
        Effect::Start(work) => format!("Start({})", unit(work)),
        Effect::Cancel(work) => format!("Cancel({})", unit(work)),
        Effect::StopServices => "StopServices".to_owned(),
        Effect::StartServices => "StartServices".to_owned(),
        Effect::Release => "Release".to_owned(),
        Effect::Admit { open: true, .. } => "Admit".to_owned(),
        Effect::Admit { open: false, .. } => "ShutOut".to_owned(),
        Effect::MarkBlessed => "MarkBlessed".to_owned(),
        Effect::Reboot(_) => "Reboot".to_owned(),
        Effect::Tell(notice) => format!("Tell({})", told(notice)),
    }
}

fn unit(work: &Work) -> String {
    match work {
        Work::Install { .. } => "install".to_owned(),
        Work::Copy(copy) if copy.beforehand => "copy beforehand".to_owned(),
        Work::Copy(_) => "copy".to_owned(),
        Work::Esp(esp) => {
            let entries = esp.entries.iter().map(|entry| match entry.tries {
                Some(tries) => format!("{}+{tries}", entry.number),
                None => entry.number.to_string(),
            });
            let entries: Vec<String> = entries.collect();
            if entries.is_empty() {
                "esp: look".to_owned()
            } else {
                format!("esp: {}", entries.join(" "))
            }
        }
        Work::Drop(drop) => format!("drop: {:?}", drop.generations),
        Work::Probe => "probe".to_owned(),
    }
}

const fn told(notice: &Notice) -> &'static str {
    match notice {
        Notice::Staged(_) => "staged",
        Notice::Failed(_) => "failed",
        Notice::GivingUp(_) => "giving up",
        Notice::Opened(_) => "opened",
        Notice::TakenBack(_) => "taken back",
        Notice::Alarm(_) => "alarm",
        Notice::Stranded(_) => "stranded",
    }
}

fn stage(before: &Record, after: &Record) -> String {
    if before.stage == after.stage {
        String::new()
    } else {
        format!("{:?}", after.stage)
    }
}

fn table() -> String {
    let mut text = HEAD.to_owned();
    text += "## What follows from an event\n\nVersion 2 (entry 2, generation 2) serves, version 1 is kept (entry 1), and version 3 is the new one. `esp: 2 3+3` asks for a boot\n\
        partition with entry 2 and entry 3 with three tries. What is not listed changes nothing, or is refused because one thing is done at a time.\n\n";
    for (phase, doing) in PHASES {
        let (record, run) = in_phase(phase);
        writeln!(text, "### {phase:?}: {doing}\n").unwrap();
        text += "| event | phase | stage | effects |\n|---|---|---|---|\n";
        for (name, event) in every_event(phase) {
            let row = match step(&record, &run, NOW, event) {
                Err(refusal) if refusal.code == "busy" => continue,
                Err(refusal) => format!("| {name} | refused: {} | | |", refusal.code),
                Ok(after) => {
                    if after.record == record && after.run == run && after.effects.is_empty() {
                        continue;
                    }
                    let effects: Vec<String> = after.effects.iter().map(words).collect();
                    let becomes = if after.run.phase == phase {
                        "the same".to_owned()
                    } else {
                        format!("{:?}", after.run.phase)
                    };
                    let stage = stage(&record, &after.record);
                    format!("| {name} | {becomes} | {stage} | {} |", effects.join(", "))
                }
            };
            writeln!(text, "{row}").unwrap();
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[test]
fn the_page_of_states_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/update-states.md");
    let now = table();
    if std::env::var_os("ATALAYA_BLESS").is_some() {
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, now.as_bytes()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == now,
        "docs/update-states.md is not what the code does; see its first lines"
    );
}

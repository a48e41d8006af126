//! Records and runs as they are met on the way, and answers of units.

use atalaya_core::update::machine::{Phase, Run};
use atalaya_core::update::record::{
    Candidate, Image, Installed, Kept, Mark, Record, Slot, Stage, Wanted,
};
use atalaya_core::update::task::{
    Asked, Copied, EspReport, FoundEntry, Progress, Source, Staged, Step as Doing,
};
use serde_json::Map;

pub const NOW: u64 = 1_800_000_000;

pub fn image(number: u32) -> Image {
    Image {
        version: format!("1.{number}.0"),
        root_hash: format!("r{number}"),
        epoch: 1,
        uki: format!("u{number}"),
    }
}

pub fn installed(number: u32, slot: Slot, entry: u32, generation: u32) -> Installed {
    Installed {
        image: image(number),
        slot,
        entry,
        generation,
    }
}

/// Version 2 serves, version 1 is kept.
pub fn rest() -> Record {
    Record {
        stage: Stage::Opened,
        good: installed(2, Slot::B, 2, 2),
        wanted: None,
        candidate: None,
        kept: Some(Kept {
            installed: installed(1, Slot::A, 1, 1),
            until: NOW - 1000,
        }),
        epoch_floor: 1,
        key_set: 1,
        last_entry: 2,
        last_generation: 2,
        loader: None,
        quarantine: Vec::new(),
        history: Vec::new(),
        unknown: Map::new(),
    }
}

pub fn wanted() -> Wanted {
    Wanted {
        source: Source::Http("https://example.com/3".to_owned()),
        shown: "example.com/3".to_owned(),
        asked: Asked::default(),
        arm: true,
        at: NOW - 500,
        attempts: 1,
    }
}

/// Version 3 at `stage`.
pub fn at(stage: Stage) -> Record {
    let mut record = rest();
    record.stage = stage;
    if stage == Stage::Writing {
        record.wanted = Some(wanted());
        return record;
    }
    let is_armed = record.is_between() || stage == Stage::RolledBack;
    record.kept = None;
    record.last_generation = 3;
    record.last_entry = 3;
    record.candidate = Some(Candidate {
        image: image(3),
        slot: Slot::A,
        source: "example.com/3".to_owned(),
        entry: is_armed.then_some(3),
        generation: Some(3),
        way_back: false,
        asked: Asked::default(),
        loader: Some("l3".to_owned()),
        interfaces: vec!["eth0".to_owned()],
        closed: is_armed.then_some(NOW - 100),
        boots: u32::from(stage == Stage::Trial || stage == Stage::Blessed),
        marks: vec![Mark {
            stage: Stage::Staged,
            at: NOW - 300,
        }],
        reason: None,
    });
    record
}

/// As it is met in that phase.
pub fn in_phase(phase: Phase) -> (Record, Run) {
    let stage = match phase {
        Phase::Rest | Phase::Finding | Phase::Healing | Phase::Stranded => Stage::Opened,
        Phase::Installing => Stage::Writing,
        Phase::Baseline | Phase::Beforehand | Phase::Closing | Phase::Copying => Stage::Staged,
        Phase::Arming => Stage::Armed,
        Phase::Disarming => Stage::Failed,
        Phase::Leaving
        | Phase::Recounting
        | Phase::CopyingAnew
        | Phase::Starting
        | Phase::Probing
        | Phase::Blessing
        | Phase::GivingUp => Stage::Trial,
        Phase::Looking | Phase::TakingBack | Phase::Returning => Stage::RolledBack,
    };
    let record = if stage == Stage::Opened {
        rest()
    } else {
        at(stage)
    };
    let is_closed = match phase {
        Phase::Closing | Phase::Copying | Phase::Arming | Phase::Disarming => true,
        Phase::Rest
        | Phase::Finding
        | Phase::Healing
        | Phase::Installing
        | Phase::Baseline
        | Phase::Beforehand
        | Phase::Stranded => false,
        Phase::Leaving
        | Phase::Recounting
        | Phase::CopyingAnew
        | Phase::Starting
        | Phase::Probing
        | Phase::Blessing
        | Phase::GivingUp
        | Phase::Looking
        | Phase::TakingBack
        | Phase::Returning => true,
    };
    let run = Run {
        closed: is_closed.then_some(NOW - 100),
        previous: phase == Phase::Stranded,
        ..Run::of(phase)
    };
    (record, run)
}

pub fn staged() -> Staged {
    Staged {
        image: image(3),
        key_set: 1,
        loader: "l3".to_owned(),
        mattermost: "11.7.9".to_owned(),
        postgresql: "17".to_owned(),
        progress: Progress {
            done: 1,
            total: 1,
            reused: 0,
            fetched: 1,
            step: Doing::Compare,
            seconds_left: None,
        },
    }
}

pub fn copied() -> Copied {
    Copied {
        files: 1,
        kept: 0,
        bytes: 1,
        milliseconds: 1,
    }
}

/// Entry 2 of version 2, and entry 3 of version 3 with so many tries left.
pub fn report(left: Option<u32>) -> EspReport {
    let found = |number: u32, left: Option<u32>| FoundEntry {
        name: String::new(),
        number,
        left,
        uki: format!("u{number}"),
        root_hash: Some(format!("r{number}")),
    };
    EspReport {
        entries: vec![found(2, None), found(3, left)],
        loader: None,
        foreign: Vec::new(),
        steps: Vec::new(),
        lost_loader: false,
    }
}

pub fn nothing_found() -> EspReport {
    EspReport {
        entries: Vec::new(),
        loader: None,
        foreign: Vec::new(),
        steps: Vec::new(),
        lost_loader: false,
    }
}

//! What the units of an update are asked for, from the record alone: which entries the boot partition has to hold at which moment, and by which
//! rules a bundle is verified.

use crate::update::assess::TRIES;
use crate::update::record::{Candidate, Installed, Record, Stage};
use crate::update::task::{Asked, Entry, Esp, Rules};

/// The rest of the rules is the driver's: product, kind, architecture, schema, external database.
pub fn rules(record: &Record, asked: &Asked, of_machine: Rules) -> Rules {
    let quarantine = record.quarantine.iter();
    Rules {
        running: record.good.image.clone(),
        epoch_floor: record.epoch_floor.max(record.good.image.epoch),
        key_set: record.key_set,
        quarantine: quarantine.map(|one| one.root_hash.clone()).collect(),
        allow_downgrade: asked.allow_downgrade,
        allow_quarantined: asked.allow_quarantined,
        external_backup: asked.external_backup.clone(),
        ..of_machine
    }
}

/// SHA-256 of the kernel images that somebody may still want to start.
pub fn needed_ukis(record: &Record) -> Vec<String> {
    let waiting = record.candidate.as_ref().filter(|_| match record.stage {
        Stage::Writing | Stage::Staged | Stage::Armed | Stage::Trial | Stage::Blessed => true,
        Stage::Idle | Stage::Opened | Stage::RolledBack | Stage::Failed => false,
    });
    let kept = record.kept.as_ref().map(|kept| &kept.installed.image.uki);
    let mut ukis: Vec<String> = [Some(&record.good.image.uki), kept]
        .into_iter()
        .chain([waiting.map(|candidate| &candidate.image.uki)])
        .flatten()
        .cloned()
        .collect();
    ukis.sort_unstable();
    ukis.dedup();
    ukis
}

/// Nothing is changed; the answer is what there is.
pub(super) fn look() -> Esp {
    esp(Vec::new())
}

/// While nothing is under way: the good version, and below it the kept one for whoever chooses it by hand.
pub(super) fn at_rest(record: &Record) -> Esp {
    let kept = record.kept.as_ref();
    let kept = kept.filter(|kept| kept.installed.entry < record.good.entry);
    let mut entries: Vec<Entry> = kept.map(|kept| good(&kept.installed)).into_iter().collect();
    entries.push(good(&record.good));
    Esp {
        loader: record.loader.clone(),
        needed: Some(needed_ukis(record)),
        ..esp(entries)
    }
}

/// The next boot is the candidate's, for as often as it may still be tried.
pub(super) fn armed(record: &Record, candidate: &Candidate) -> Esp {
    with_candidate(
        record,
        candidate,
        Some(TRIES.saturating_sub(candidate.boots).max(1)),
    )
}

pub(super) fn blessed(record: &Record, candidate: &Candidate) -> Esp {
    with_candidate(record, candidate, None)
}

/// Without the candidate.
pub(super) fn only_good(record: &Record) -> Esp {
    esp(vec![good(&record.good)])
}

fn with_candidate(record: &Record, candidate: &Candidate, tries: Option<u32>) -> Esp {
    let new = candidate.entry.map(|number| Entry {
        number,
        uki: candidate.image.uki.clone(),
        tries,
    });
    esp([good(&record.good)].into_iter().chain(new).collect())
}

fn good(installed: &Installed) -> Entry {
    Entry {
        number: installed.entry,
        uki: installed.image.uki.clone(),
        tries: None,
    }
}

fn esp(entries: Vec<Entry>) -> Esp {
    Esp {
        entries,
        loader: None,
        needed: None,
    }
}

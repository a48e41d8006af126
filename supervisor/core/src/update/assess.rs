//! What a boot means: whose data this version may touch, and whether it is on trial, took over again, or has no business here. Decided once in
//! each boot, from the record and from what the machine sees of itself, before any unit starts.
//!
//! The record counts, not the boot partition: until it says `Opened`, the last good version's generation is the truth, and a version that the
//! record does not know as good or as armed starts no unit on any data. Must not read anything; what follows is [`super::machine`]'s.

use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::record::{Candidate, Image, Installed, Mark, Past, Reason, Record, Slot, Stage};
use super::task::Copy;

/// How often a new version is started before it counts as failed: what its entry's counter begins with.
pub const TRIES: u32 = 3;

/// What this boot knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its `uki` may be empty: then the record learns it from the boot partition.
    pub running: Image,
    pub slot: Slot,
    /// The number in the name of the entry that the loader started; none if the loader did not say.
    pub entry: Option<u32>,
    /// That entry has a counter: the loader set LoaderBootCountPath.
    pub counted: bool,
    pub other: OtherSlot,
    /// What there is in /data/gen.
    pub generations: Vec<u32>,
    /// The newest key set that the running image and /data know.
    pub key_set: u32,
    pub gave_up: Option<GaveUp>,
    /// Seconds since 1970.
    pub now: u64,
}

/// What init noted when it gave up a version on trial, because its supervisor died again and again: at the last orderly end on this disk. Arming a
/// version once more ends in a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaveUp {
    pub root_hash: String,
    /// In init's words.
    pub why: String,
}

/// What the slot that is not running holds, by the top of its hash tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherSlot {
    /// It could not be read: nothing follows from it.
    Unknown,
    Nothing,
    /// A system with that root hash.
    Holds(String),
}

impl OtherSlot {
    pub fn holds(&self, root_hash: &str) -> bool {
        matches!(self, Self::Holds(held) if held == root_hash)
    }

    /// Certainly not: not knowing is no reason to give up a system.
    pub fn lacks(&self, root_hash: &str) -> bool {
        *self != Self::Unknown && !self.holds(root_hash)
    }
}

impl Facts {
    /// What init has recorded instead of the supervisor that could not.
    fn failure_of(&self, candidate: &Candidate) -> Option<Reason> {
        let gave_up = self.gave_up.as_ref()?;
        let is_its = gave_up.root_hash == candidate.image.root_hash;
        is_its.then(|| Reason::new(Stage::Trial, &gave_up.why, &[]))
    }
}

/// What this boot is to do. A restarted atalayad takes the plan of its boot, instead of assessing again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The one that units find under the usual paths; none: no unit that uses data is started.
    pub generation: Option<u32>,
    pub mode: Mode,
    /// Has to be durable before anything starts; if it cannot be written, no unit that uses data is started. None: it stays as it is.
    #[serde(skip)]
    pub record: Option<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The good version.
    Ordinary,
    /// A new version on its own generation. Users stay out, nothing leaves the machine.
    Trial {
        /// 1, 2 or 3.
        boot: u32,
        /// To be made before any unit starts: an earlier boot of the trial may have written into the generation.
        copy: Option<Copy>,
        counted: bool,
    },
    /// The good version after an update that did not come through. Users are admitted when the boot partition is in order.
    TakenBack(Reason),
    /// This version is not to run: it takes its entry from the boot partition and restarts.
    GiveWay { why: String, counted: bool },
    /// This version has no data and the good one is not to be had by a restart: a person has to decide.
    Stranded {
        why: String,
        /// It is the kept version, to which one can go back.
        previous: bool,
        /// The good one is there: the boot partition is put in order, so that the next restart can try it.
        heals: bool,
    },
}

/// Decides. `record` is an error where files are there and cannot be read.
pub fn assess(record: Result<Option<Record>, String>, facts: &Facts) -> Plan {
    match record {
        Err(why) => stranded(format!(
            "{why}. Nothing was started on the data and nothing was changed. Restore /data/update from a backup, or ask for help with these files"
        )),
        Ok(None) => assess_without_record(facts),
        Ok(Some(record)) => assess_with(record, facts),
    }
}

fn assess_without_record(facts: &Facts) -> Plan {
    if let Some(later) = facts.generations.iter().find(|&&number| number > 1) {
        return stranded(format!(
            "there is no update record, but the data have a generation {later}, so there was one. Nothing was started on the data and nothing \
             was changed. Restore /data/update from a backup"
        ));
    }
    let good = installed(facts, 1, 1);
    let record = Record {
        stage: Stage::Idle,
        last_entry: good.entry,
        last_generation: good.generation,
        epoch_floor: good.image.epoch,
        good,
        wanted: None,
        candidate: None,
        kept: None,
        key_set: facts.key_set,
        loader: None,
        quarantine: Vec::new(),
        history: Vec::new(),
        unknown: Map::new(),
    };
    ordinary(record)
}

fn installed(facts: &Facts, entry: u32, generation: u32) -> Installed {
    Installed {
        image: facts.running.clone(),
        slot: facts.slot,
        entry: facts.entry.unwrap_or(entry),
        generation,
    }
}

fn assess_with(record: Record, facts: &Facts) -> Plan {
    let running = &facts.running.root_hash;
    let is_candidate = record
        .candidate
        .as_ref()
        .is_some_and(|candidate| candidate.image.root_hash == *running);
    let kept = record.kept.as_ref();
    if record.good.image.root_hash == *running {
        return assess_good(record, facts);
    }
    if is_candidate && record.is_between() {
        return assess_candidate(record, facts);
    }
    if kept.is_some_and(|kept| kept.installed.image.root_hash == *running) {
        return Plan {
            generation: None,
            mode: Mode::Stranded {
                why: format!(
                    "version {} was started, but the data belong to version {}, which did not start or was not chosen. Nothing was started on the \
                     data and nothing was changed. Restart to try version {1} again, or go back with `atalaya update rollback`",
                    facts.running.version, record.good.image.version
                ),
                previous: true,
                heals: facts.other.holds(&record.good.image.root_hash),
            },
            record: None,
        };
    }
    let is_quarantined = record
        .quarantine
        .iter()
        .any(|quarantined| quarantined.root_hash == *running);
    if is_candidate || is_quarantined {
        let why = format!(
            "version {} is not the one that the data belong to",
            facts.running.version
        );
        return give_way(&record, facts, why, None);
    }
    assess_stranger(record, facts)
}

fn assess_good(mut record: Record, facts: &Facts) -> Plan {
    if record.is_between() {
        return take_back(record, facts);
    }
    let before = record.clone();
    // Stage 1 takes whichever slot holds the root hash; the next update must go to the other one.
    record.good.slot = facts.slot;
    if record
        .kept
        .as_ref()
        .is_some_and(|kept| facts.other.lacks(&kept.installed.image.root_hash))
    {
        record.kept = None;
    }
    let is_changed = record != before;
    Plan {
        record: is_changed.then_some(record),
        ..ordinary(before)
    }
}

/// The good version runs although another one was to: whatever that was, it is over.
fn take_back(mut record: Record, facts: &Facts) -> Plan {
    record.good.slot = facts.slot;
    if let Some(candidate) = record.candidate.as_mut()
        && let Some(reason) = facts.failure_of(candidate)
    {
        candidate.reason.get_or_insert(reason);
        // It may have died before it could record that it was started.
        candidate.boots = candidate.boots.max(1);
    }
    let reason = record
        .candidate
        .as_ref()
        .and_then(|candidate| candidate.reason.clone())
        .unwrap_or_else(|| silence(&record));
    end_in_rollback(&mut record, reason.clone(), facts.now);
    Plan {
        generation: Some(record.good.generation),
        mode: Mode::TakenBack(reason),
        record: Some(record),
    }
}

/// What is known where the new version said nothing.
fn silence(record: &Record) -> Reason {
    let version = |record: &Record| {
        let candidate = record.candidate.as_ref();
        candidate.map_or_else(String::new, |candidate| candidate.image.version.clone())
    };
    let boots = record.candidate.as_ref().map_or(0, |c| c.boots);
    let what = match boots {
        0 => format!(
            "version {} did not come as far as to report anything",
            version(record)
        ),
        TRIES.. => format!(
            "version {} was started {boots} times, and each time it ended without a word",
            version(record)
        ),
        _ => format!(
            "version {} was started before version {} had passed its trial",
            record.good.image.version,
            version(record)
        ),
    };
    Reason::new(record.stage, &what, &[])
}

fn end_in_rollback(record: &mut Record, reason: Reason, now: u64) {
    let from = record.good.image.version.clone();
    record.stage = Stage::RolledBack;
    let Some(candidate) = record.candidate.as_mut() else {
        return;
    };
    let is_proven = candidate.reason.is_some() || candidate.boots >= TRIES;
    candidate.marks.push(Mark {
        stage: Stage::RolledBack,
        at: now,
    });
    candidate.reason = Some(reason.clone());
    let past = Past {
        from,
        to: candidate.image.version.clone(),
        outcome: Stage::RolledBack,
        marks: candidate.marks.clone(),
        downtime: None,
        reason: Some(reason),
    };
    record.remember(past);
    if is_proven {
        record.quarantine_candidate(now);
    }
}

fn assess_candidate(mut record: Record, facts: &Facts) -> Plan {
    let good = record.good.generation;
    let stage = record.stage;
    let Some(candidate) = record.candidate.as_mut() else {
        return assess_stranger(record, facts);
    };
    let Some(generation) = candidate.generation.filter(|&number| number != good) else {
        return stranded(format!(
            "version {} was armed without data of its own. Nothing was started on the data and nothing was changed. Restart and choose version \
             {} in the boot menu",
            facts.running.version, record.good.image.version
        ));
    };
    if let Some(reason) = &candidate.reason {
        let why = reason.what.clone();
        return give_way(&record, facts, why, None);
    }
    if let Some(reason) = facts.failure_of(candidate) {
        let why = reason.what.clone();
        candidate.reason = Some(reason);
        return give_way(&record.clone(), facts, why, Some(record));
    }
    if candidate.boots >= TRIES {
        let why = format!(
            "version {} was started {} times and did not pass its trial",
            candidate.image.version, candidate.boots
        );
        candidate.reason = Some(Reason::new(stage, &why, &[]));
        return give_way(&record.clone(), facts, why, Some(record));
    }
    // The first boot has the copy that was made while arming; nobody has written into it.
    let copy = (candidate.boots > 0 && !candidate.way_back).then_some(Copy {
        from: good,
        to: generation,
        beforehand: false,
    });
    candidate.boots += 1;
    candidate.slot = facts.slot;
    candidate.marks.push(Mark {
        stage: Stage::Trial,
        at: facts.now,
    });
    let boot = candidate.boots;
    record.stage = Stage::Trial;
    Plan {
        generation: Some(generation),
        mode: Mode::Trial {
            boot,
            copy,
            counted: facts.counted,
        },
        record: Some(record),
    }
}

/// A version that the record does not know. If the good one is in neither slot, the disk was written anew and the data were kept: then this is
/// the good one from now on.
fn assess_stranger(mut record: Record, facts: &Facts) -> Plan {
    let running = &facts.running;
    let is_reinstalled = facts.other.lacks(&record.good.image.root_hash) && !facts.counted;
    if !is_reinstalled {
        let why = format!(
            "version {} was started, but the data belong to version {}. Nothing was started on the data and nothing was changed. Restart to have \
             version {1}; if this one comes again, choose the other in the boot menu",
            running.version, record.good.image.version
        );
        let mode = Mode::Stranded {
            why,
            previous: false,
            heals: facts.other.holds(&record.good.image.root_hash),
        };
        return Plan {
            mode,
            ..stranded(String::new())
        };
    }
    if running.epoch < record.epoch_floor {
        return stranded(format!(
            "version {} is of epoch {}, and since version {} was used here nothing below epoch {} may run: it has a fault that must not come back. \
             Nothing was started on the data and nothing was changed. Install a newer image",
            running.version, running.epoch, record.good.image.version, record.epoch_floor
        ));
    }
    let good = installed(facts, 1, record.good.generation);
    record.remember(Past {
        from: record.good.image.version.clone(),
        to: running.version.clone(),
        outcome: Stage::Opened,
        marks: vec![Mark {
            stage: Stage::Opened,
            at: facts.now,
        }],
        downtime: None,
        reason: Some(Reason::new(
            Stage::Idle,
            "the disk image was written anew and the data were kept",
            &[],
        )),
    });
    record.stage = Stage::Idle;
    record.last_entry = record.last_entry.max(good.entry);
    record.key_set = record.key_set.max(facts.key_set);
    record.epoch_floor = record.epoch_floor.max(running.epoch);
    record.good = good;
    record.wanted = None;
    record.candidate = None;
    record.kept = None;
    record.loader = None;
    ordinary(record)
}

fn ordinary(record: Record) -> Plan {
    Plan {
        generation: Some(record.good.generation),
        mode: Mode::Ordinary,
        record: Some(record),
    }
}

/// Its own entry may go only if the good version can start: the last entry of a machine is never taken away.
fn give_way(record: &Record, facts: &Facts, why: String, changed: Option<Record>) -> Plan {
    if facts.other.lacks(&record.good.image.root_hash) {
        return Plan {
            record: changed,
            ..stranded(format!(
                "{why}, and version {}, to which the data belong, is not on the disk any more. Nothing was started on the data. Write the disk \
                 image of version {0} anew and keep the data",
                record.good.image.version
            ))
        };
    }
    Plan {
        generation: None,
        mode: Mode::GiveWay {
            why,
            counted: facts.counted,
        },
        record: changed,
    }
}

fn stranded(why: String) -> Plan {
    Plan {
        generation: None,
        mode: Mode::Stranded {
            why,
            previous: false,
            heals: false,
        },
        record: None,
    }
}

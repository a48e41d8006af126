//! What a power cut must not make anybody forget: which version is good, how far an update has come, what was tried and why it failed. Lies
//! outside the generations and is read by older and newer versions: keys are only ever added, and unknown ones are kept. Says nothing of when
//! it changes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::task::{Asked, Source};

pub use super::format::{Chosen, Error, FILES, Unreadable, choose, decode, encode, places};

/// Past updates that are remembered.
pub const HISTORY: usize = 100;
/// What is kept of a reason: characters of its sentence, lines of its log (the last ones), characters of each.
const SENTENCE: usize = 1000;
const LINES: usize = 30;
const COLUMNS: usize = 400;

/// One of the two places of the disk that hold a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A system that can be booted. Two of one version are the same only if their root hash is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub version: String,
    /// Of dm-verity, 64 hexadecimal digits.
    pub root_hash: String,
    /// Images below the floor are refused for ever: they have a fault that must not come back.
    pub epoch: u64,
    /// SHA-256 of its unified kernel image, hexadecimal; by it the copy on /data is named.
    pub uki: String,
}

/// A system with its place, its entry on the boot partition and the data that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    #[serde(flatten)]
    pub image: Image,
    pub slot: Slot,
    /// The number in the name of its entry: `atalaya_000008.efi`. It only ever rises, whatever the version.
    pub entry: u32,
    /// /data/gen/N.
    pub generation: u32,
}

/// How far an update has come. Before `Opened` the last good version's generation counts, whatever the boot partition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing is under way.
    Idle,
    /// The other slot is being written, and holds nothing of worth.
    Writing,
    /// The other slot holds the new version, read back and compared.
    Staged,
    /// The data are copied; the next boot is to be the new version's.
    Armed,
    /// The new version has started on its copy of the data.
    Trial,
    /// The new version has passed; its entry has no counter any more.
    Blessed,
    /// Users were admitted: the new version is the good one. Nothing takes this back by itself.
    Opened,
    /// The last good version serves again.
    RolledBack,
    /// It ended before anything was at stake.
    Failed,
}

/// Why an update ended, or why a version is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// During which stage.
    pub stage: Stage,
    /// One sentence: what happened.
    pub what: String,
    /// The last lines of the log of whatever failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Reason {
    /// Cut to what a record has room for.
    pub fn new(stage: Stage, what: &str, log: &[String]) -> Self {
        let from = log.len().saturating_sub(LINES);
        Self {
            stage,
            what: what.chars().take(SENTENCE).collect(),
            log: log
                .iter()
                .skip(from)
                .map(|line| line.chars().take(COLUMNS).collect())
                .collect(),
        }
    }
}

/// When a stage began, seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub stage: Stage,
    pub at: u64,
}

/// What was asked for and is being written: enough to begin again after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub source: Source,
    /// For people: as [`Candidate::source`].
    pub shown: String,
    #[serde(default)]
    pub asked: Asked,
    /// Whether the machine is to go on to the new version without being asked again.
    pub arm: bool,
    /// When it was asked for, seconds since 1970.
    pub at: u64,
    /// How often it was begun.
    pub attempts: u32,
}

/// The update under way, or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    #[serde(flatten)]
    pub image: Image,
    pub slot: Slot,
    /// From where: a file's name, an address without what may be secret in it, `usb`, `kept` for a way back.
    pub source: String,
    /// Given when it is armed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// It was here before and starts on the data that it left: nothing is copied for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub way_back: bool,
    #[serde(default)]
    pub asked: Asked,
    /// SHA-256 of its loader, which is put in place once users were admitted; none leaves the one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<String>,
    /// The network interfaces of the machine when it was armed: the trial, which sends nothing, must find the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// When users were shut out for it, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<u64>,
    /// Boots of it that have begun.
    #[serde(default)]
    pub boots: u32,
    pub marks: Vec<Mark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// The version before the good one, for as long as there is space: the way back on demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub installed: Installed,
    /// From when on its data lack what was written since, seconds since 1970.
    pub until: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    pub version: String,
    pub root_hash: String,
    pub reason: Reason,
    pub at: u64,
}

/// One update that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub from: String,
    pub to: String,
    /// `opened`, `rolled_back` or `failed`.
    pub outcome: Stage,
    pub marks: Vec<Mark>,
    /// From the edge's closing to its opening, in seconds; none if it was never closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub stage: Stage,
    /// What serves, or serves again after a failure.
    pub good: Installed,
    /// Being written, while the stage says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// No image below it is taken. Rises at `Opened`, never falls.
    pub epoch_floor: u64,
    /// The newest key set that was accepted. Never falls.
    pub key_set: u32,
    /// The highest numbers that were ever given.
    pub last_entry: u32,
    pub last_generation: u32,
    /// SHA-256 of the loader that belongs on the boot partition; none before the first update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<Quarantined>,
    /// The latest last, at most [`HISTORY`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Past>,
    /// What a newer version has added, which it does here only: an older one that was started again keeps it.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Record {
    /// Adds an update that has ended to the history, from which the oldest goes.
    pub(super) fn remember(&mut self, past: Past) {
        self.history.push(past);
        let over = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..over);
    }

    /// The candidate is not tried again unless somebody asks for it by name. A version that was good here once is not judged by a way back.
    pub(super) fn quarantine_candidate(&mut self, at: u64) {
        let Some(candidate) = self.candidate.as_ref().filter(|c| !c.way_back) else {
            return;
        };
        let reason = candidate.reason.as_ref();
        let quarantined = Quarantined {
            version: candidate.image.version.clone(),
            root_hash: candidate.image.root_hash.clone(),
            // The log is in the history; this list has no end.
            reason: Reason {
                stage: reason.map_or(self.stage, |reason| reason.stage),
                what: reason.map_or_else(String::new, |reason| reason.what.clone()),
                log: Vec::new(),
            },
            at,
        };
        let is_same = |other: &Quarantined| other.root_hash == quarantined.root_hash;
        self.quarantine.retain(|other| !is_same(other));
        self.quarantine.push(quarantined);
    }

    /// Whether a new version was to start, and has not been opened.
    pub const fn is_between(&self) -> bool {
        match self.stage {
            Stage::Armed | Stage::Trial | Stage::Blessed => true,
            Stage::Idle
            | Stage::Writing
            | Stage::Staged
            | Stage::Opened
            | Stage::RolledBack
            | Stage::Failed => false,
        }
    }
}

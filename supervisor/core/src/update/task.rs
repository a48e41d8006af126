//! What the supervisor asks of the one-shot units of an update (`atalaya-update install|look|copy|esp|drop`), and what they answer. A request stands
//! in /run/atalaya/update/NAME.request.json before the unit is started; the unit leaves NAME/result.json before it ends, in its runtime
//! directory, because it may have a user of its own. `install` also keeps install/progress.json up to date. None of them writes the record.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::record::{Image, Slot};

/// Where requests, results and progress lie.
pub const DIRECTORY: &str = "/run/atalaya/update";

/// The [`Numbered`] request of `install`, `look`, `copy`, `esp` or `drop`. Root's alone: a unit with another user is given it as a credential.
pub fn request_file(name: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(format!("{name}.request.json"))
}

/// A [`Numbered`] [`Outcome`]; one of an earlier run has to be removed before the unit is started.
pub fn result_file(name: &str) -> PathBuf {
    PathBuf::from(DIRECTORY).join(name).join("result.json")
}

/// A [`Progress`], replaced about once a second.
pub fn progress_file() -> PathBuf {
    PathBuf::from(DIRECTORY).join("install/progress.json")
}

/// A request or an answer as it stands in its file. An answer repeats the request's number: what a unit answers to an older request is no answer
/// to this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered<T> {
    #[serde(default)]
    pub number: u64,
    #[serde(flatten)]
    pub content: T,
}

/// `install`: verifies a bundle and writes it to the slot that is not running. Begins again from the beginning if it was interrupted: blocks that
/// the slot already holds are not fetched or written again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    pub source: Source,
    pub slot: Slot,
    pub rules: Rules,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A file, or a socket or pipe from which it comes once and in order.
    File(String),
    Http(String),
    /// A file system of that label: `ATALAYA-UPDATE`.
    Usb(String),
}

/// What the verification needs to know of this machine and of what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    pub running: Image,
    pub product: String,
    /// `official` or `standin`.
    pub kind: String,
    pub architecture: String,
    /// Of the database as it is; none while it is not known.
    pub schema: Option<u64>,
    /// The release that runs, as in `17.6`: the data of one major version are not read by another. Empty while it is not known.
    #[serde(default)]
    pub postgresql: String,
    /// The higher of the recorded floor and the running image's own epoch.
    pub epoch_floor: u64,
    /// The newest key set that was accepted.
    pub key_set: u32,
    /// Root hashes that are not tried again.
    pub quarantine: Vec<String>,
    pub allow_downgrade: bool,
    /// Asked for by name, so a quarantined one may be tried again.
    pub allow_quarantined: bool,
    pub external_database: bool,
    /// What the administrator says of the backup of an external database.
    pub external_backup: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes of the new system that are in place, of all.
    pub done: u64,
    pub total: u64,
    /// Of those, already there: in the running slot, or from an interrupted attempt.
    pub reused: u64,
    /// Bytes read from the source.
    pub fetched: u64,
    /// `verify`, `write` or `compare`.
    pub step: Step,
    /// At the present pace; none while it is not known.
    pub seconds_left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Verify,
    Write,
    Compare,
}

/// What `install` has put in place. Its UKI lies in /data/update/uki/SHA256.efi.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    pub image: Image,
    /// The newest key set of the bundle, already kept on /data.
    pub key_set: u32,
    /// SHA-256 of its loader, by which it is kept in [`LOADERS`].
    pub loader: String,
    pub mattermost: String,
    pub postgresql: String,
    pub progress: Progress,
}

/// `look`: what the bundle on a stick is, and whether it may be installed; writes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    pub rules: Rules,
}

/// A bundle whose signatures and rules are fine. Its content was not read yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    pub version: String,
    pub mattermost: String,
    pub postgresql: String,
}

/// What an administrator has said beyond "update", to be kept for as long as the update goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asked {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
    /// By name, so a version that failed here may be tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_quarantined: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_backup: Option<String>,
}

/// `copy`: makes /data/gen/TO from /data/gen/FROM, with the database shut down. A TO that is there is removed first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    pub from: u32,
    pub to: u32,
    /// Only what can be copied while the services run, and the check of the space; `to` is not complete afterwards.
    pub beforehand: bool,
}

/// Where kernel images are kept, each as SHA256.efi: the boot partition can be made anew from there.
pub const UKIS: &str = "/data/update/uki";
/// Where boot loaders are kept, each as SHA256.efi.
pub const LOADERS: &str = "/data/update/loader";

/// What `copy` has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Files, directories and links.
    pub files: u64,
    /// Of the files, those that had been copied beforehand and have not changed since.
    pub kept: u64,
    /// Sum of the files' sizes. They are shared, and take no space until they are changed.
    pub bytes: u64,
    pub milliseconds: u64,
}

/// How far `copy` or `drop` has come: NAME/progress.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    pub files: u64,
    pub bytes: u64,
}

/// `esp`: makes the boot partition hold exactly these entries, and keeps on /data a copy of each good one that it finds there. The loader's own
/// file is replaced only if `loader` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Esp {
    /// One at least must be good, that is without `tries`. With none at all the boot partition is looked at and not changed.
    pub entries: Vec<Entry>,
    /// SHA-256 of the file in [`LOADERS`].
    pub loader: Option<String>,
    /// Kernel images (SHA-256) that are needed besides those of `entries`: all others in [`UKIS`] are removed. Not given: all stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<Vec<String>>,
}

/// What the boot partition holds when `esp` is done, read back from the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspReport {
    pub entries: Vec<FoundEntry>,
    /// SHA-256 of the loader that firmware starts.
    pub loader: Option<String>,
    /// Names of files beside our entries, which are somebody else's and left alone.
    pub foreign: Vec<String>,
    /// What was done, in order, for the log. Empty: everything was as it should be.
    pub steps: Vec<String>,
    /// The loader that belongs there is neither there nor on /data: the one that is there stays.
    #[serde(default)]
    pub lost_loader: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEntry {
    /// `atalaya_000008+2-1.efi`.
    pub name: String,
    pub number: u32,
    /// Tries left; none for a good one.
    pub left: Option<u32>,
    /// SHA-256 of the file.
    pub uki: String,
    /// The root hash on its command line, by which one knows its slot and so which entry is the running one.
    pub root_hash: Option<String>,
}

/// One unified kernel image on the boot partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `atalaya_000008`.
    pub number: u32,
    /// SHA-256; the file is copied from /data/update/uki.
    pub uki: String,
    /// How often it may be tried; none for one that is good. One that is there with fewer tries left keeps them.
    pub tries: Option<u32>,
}

/// `drop`: removes generations, and what a copy that was given up has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    pub generations: Vec<u32>,
}

/// What `drop` has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Files, directories and links.
    pub files: u64,
}

/// How a unit's work ended: its own answer, or a refusal in the words that an administrator is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    Done(T),
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs: `signatures`, `epoch`, `space`, ...
    pub code: String,
    pub what: String,
    pub data: String,
    pub next: String,
}

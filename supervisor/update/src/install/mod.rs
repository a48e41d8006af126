//! `install`: streams a bundle to the slot that is not running, every byte verified before it counts.
//!
//! ```text
//! signatures, this machine's rules, room     nothing was written
//!   kernel image, loader -> /data/update     each under its digest, when it is verified and the firmware would start it
//!     the other slot is marked invalid       from here on nothing starts from it
//!       blocks of the root                   in place already, from the running slot, or from the bundle: by the tree's digests in any case
//!         hash tree                          all but its superblock
//!           all of it is read back           from the device, not from memory
//!             key sets, superblock           the slot is valid
//! ```
//! Ended anywhere (SIGTERM, a power cut), the slot is as it was or invalid, and the next attempt finds in place what this one has written. What
//! comes next, and whether it may come, is the supervisor's to decide.

pub mod confine;
mod failure;
mod kept;
mod partitions;
mod progress;
mod reuse;
pub mod secure_boot;
pub mod source;
mod write;

use std::fs;
use std::path::{Path, PathBuf};

use atalaya_bundle::keys::TrustFile;
use atalaya_bundle::verity::BLOCK;
use atalaya_bundle::{Reader, Refusal, Root, Source, Tree, Trust, policy};
use atalaya_core::update::record::Image;
use atalaya_core::update::task::{self, Numbered, Outcome, Staged, Step};

pub use failure::Failure;
pub use kept::Kept;
pub use partitions::{Device, Partitions, Slots};
pub use progress::Report;
pub use source::Meter;

use crate::exchange;
use kept::Incoming;
use reuse::Index;
use secure_boot::SecureBoot;

/// Whom this image trusts.
pub const TRUST: &str = "/usr/lib/atalaya/update-trust.json";
/// Holds what is kept of updates.
const DATA: &str = "/data/update";
/// Newer key sets that were accepted.
pub const KEY_SETS: &str = "/data/update/keysets.json";

/// All that an installation touches.
#[derive(Debug)]
pub struct Machine {
    pub slots: Slots,
    pub kept: Kept,
    /// A [`TrustFile`].
    pub trust: PathBuf,
    pub progress: PathBuf,
    /// Where a stick is mounted for a moment.
    pub medium: PathBuf,
    /// The firmware's.
    pub variables: PathBuf,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// The request means the slot that runs, or there are no slots.
    pub fn here(request: &task::Install) -> Result<Self, Failure> {
        Ok(Self {
            slots: Slots::find(request.slot)?,
            kept: Kept {
                ukis: task::UKIS.into(),
                loaders: task::LOADERS.into(),
                key_sets: KEY_SETS.into(),
            },
            trust: TRUST.into(),
            progress: task::progress_file(),
            medium: Path::new(task::DIRECTORY).join(NAME).join("medium"),
            variables: secure_boot::VARIABLES.into(),
        })
    }
}

const NAME: &str = "install";

/// The unit: its request is where the supervisor left it, its result goes where the supervisor looks.
///
/// # Errors
/// There is no request, or no result could be left.
pub fn unit(say: &dyn Fn(&str)) -> Result<(), String> {
    let Numbered {
        number,
        content: request,
    } = exchange::read_request::<task::Install>(&exchange::request_directory(), NAME)?;
    let outcome = run(&request);
    match &outcome {
        Outcome::Done(staged) => say(&format!(
            "version {} is in slot {:?}: {} bytes fetched, {} of {} were there",
            staged.image.version,
            request.slot,
            staged.progress.fetched,
            staged.progress.reused,
            staged.progress.total,
        )),
        Outcome::Refused(refusal) => {
            say(&format!(
                "{} {} {}",
                refusal.what, refusal.data, refusal.next
            ));
        }
    }
    exchange::write_result(Path::new(task::DIRECTORY), NAME, number, outcome)
}

/// Does what the request says on this machine. When the first byte of the bundle is read, this process has no rights left to lose.
pub fn run(request: &task::Install) -> Outcome<Staged> {
    let own = [Path::new(task::DIRECTORY).join(NAME), PathBuf::from(DATA)];
    let own: Vec<&Path> = own.iter().map(PathBuf::as_path).collect();
    match Machine::here(request) {
        Ok(machine) => install(request, &machine, || confine::to(&own)),
        Err(failure) => Outcome::Refused(failure.told(false)),
    }
}

/// The same on any machine.
pub fn install(
    request: &task::Install,
    machine: &Machine,
    confine: impl FnOnce() -> Result<(), Failure>,
) -> Outcome<Staged> {
    let meter = Meter::default();
    let mut report = Report::new(machine.progress.clone(), meter.clone());
    let mut begun = false;
    let staged = source::open(&request.source, &machine.medium, &meter)
        .map_err(Failure::Open)
        .and_then(|source| confine().map(|()| source))
        .and_then(|source| stage(source, &request.rules, machine, &mut report, &mut begun));
    match staged {
        Ok(staged) => Outcome::Done(staged),
        Err(failure) => Outcome::Refused(failure.told(begun)),
    }
}

fn stage(
    source: Box<dyn Source>,
    rules: &task::Rules,
    machine: &Machine,
    report: &mut Report,
    begun: &mut bool,
) -> Result<Staged, Failure> {
    let Slots { running, target } = &machine.slots;
    let trust = Trust::new(
        read_trust(&machine.trust)?,
        machine.kept.accepted().as_ref(),
    )?;
    let reader = Reader::open(source, &trust)?;
    let head = reader.head().clone();
    let manifest = &head.manifest;
    policy::assess(manifest, rules)?;
    check_fits(&target.root, manifest.root.blocks * BLOCK as u64)?;
    check_fits(&target.verity, Tree::area_bytes(manifest.root.blocks))?;
    machine
        .kept
        .check_room(manifest.uki.bytes + manifest.loader.bytes)?;

    let secure_boot = SecureBoot::read(&machine.variables)?;

    let mut root = keep_files(reader, &machine.kept, secure_boot.as_ref())?;
    *begun = true;
    target.invalidate()?;
    report.begin(Step::Write, manifest.root.blocks * BLOCK as u64);
    let index = Index::of(running, root.tree())?;
    write::root(&mut root, running, &index, &target.root, report)?;
    drop(index);
    write::tree_and_compare(root.tree(), target, report)?;
    let superblock = root.tree().area().first_chunk::<BLOCK>().copied();
    let superblock = superblock.ok_or(Refusal::RootHash)?;
    root.finish()?;
    machine.kept.accept(&head.key_sets)?;
    write::superblock(&superblock, &target.verity)?;

    Ok(Staged {
        image: Image {
            version: manifest.version.clone(),
            root_hash: manifest.root_hash.clone(),
            epoch: manifest.epoch,
            uki: manifest.uki.sha256.clone(),
        },
        key_set: manifest.key_set,
        loader: manifest.loader.sha256.clone(),
        mattermost: manifest.mattermost.version.clone(),
        postgresql: manifest.postgresql.clone(),
        progress: report.progress(),
    })
}

/// The kernel image and the loader go to /data as they come, and count when all of them is verified and this machine's firmware would start
/// them.
fn keep_files<S: Source>(
    reader: Reader<S>,
    kept: &Kept,
    secure_boot: Option<&SecureBoot>,
) -> Result<Root<S>, Failure> {
    let manifest = &reader.head().manifest;
    let mut uki = Incoming::new(&kept.ukis, &manifest.uki)?;
    let mut loader = Incoming::new(&kept.loaders, &manifest.loader)?;
    let root = reader.files(uki.writer(), loader.writer())?;
    if let Some(secure_boot) = secure_boot {
        secure_boot.assess("kernel image", uki.place())?;
        secure_boot.assess("loader", loader.place())?;
    }
    uki.keep()?;
    loader.keep()?;
    Ok(root)
}

pub(crate) fn read_trust(path: &Path) -> Result<TrustFile, Failure> {
    let unusable =
        |error: &dyn std::fmt::Display| Failure::Trust(format!("{}: {error}", path.display()));
    let text = fs::read(path).map_err(|error| unusable(&error))?;
    serde_json::from_slice(&text).map_err(|error| unusable(&error))
}

fn check_fits(device: &Device, needed: u64) -> Result<(), Failure> {
    if device.bytes < needed {
        return Err(Failure::Small {
            path: device.path.clone(),
            needed,
            there: device.bytes,
        });
    }
    Ok(())
}

//! `atalaya-image bundle`: the update bundle of an image that was built. It is made without signatures first, which takes long and is kept;
//! signatures, made here or on other machines, are then put into it, and nothing goes to its place that the keys' owners would not take.

mod inspect;
#[cfg(test)]
mod tests;

pub use inspect::inspect;

use crate::artifacts::{self, LOADER};
use crate::error::{IoContext, Result};
use crate::keys::{self, Content, Request};
use crate::lock;
use crate::manifest::{Kind, Manifest};
use crate::progress::{Progress, Stage};
use crate::project::{Project, Variant};
use atalaya_bundle::keys::{KeySet, KeySets, Purpose, Signatures, SigningKey, Trust, TrustFile};
use atalaya_bundle::manifest::Mattermost;
use atalaya_bundle::writer::{self, Description, Parts, Prepared, WriteError};
use atalaya_bundle::{Head, Refusal, Seekable, reader};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// As the kernel calls it; there is no other.
const ARCHITECTURE: &str = "x86_64";
/// What a bundle's file name ends in.
const ENDING: &str = "bundle";
/// More than any of a bundle's first entries has, in bytes.
const HEAD: u64 = 1 << 20;
/// Link with a stable name beside the bundle, whose name carries the version.
pub const LINK: &str = "atalaya.bundle";

pub struct Options {
    pub variant: Variant,
    pub output: Option<PathBuf>,
    pub signers: Signers,
}

/// Where the signatures come from.
pub enum Signers {
    /// Secret keys that lie on this machine; none: the development key, if the image trusts it.
    Here(Vec<PathBuf>),
    /// Other machines: write what they have to sign, and end.
    Asked(PathBuf),
    /// Other machines: they have signed these.
    Elsewhere(Vec<PathBuf>),
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("there is no image in {}; nothing was made; build it first (`atalaya-image build` with the same options)", .0.display())]
    NoImage(PathBuf),
    #[error(
        "the release in this image did not tell its database schema, which an update has to know; nothing was made; report this with the release's version"
    )]
    NoSchema,
    #[error(
        "this image trusts the release keys, none of which lies about on this machine; nothing was made; write a request for them with --request, or give keys with --signing-key"
    )]
    NoSigners,
    #[error(
        "{} was signed for another bundle than that of this image; nothing was made; ask anew with --request", .0.display()
    )]
    OtherBundle(PathBuf),
    #[error("no machine would take this bundle; it was not put into place; {next}")]
    Refused {
        source: atalaya_bundle::Error,
        next: &'static str,
    },
    #[error("{} would be refused by every machine; don't give it to anybody", path.display())]
    Bad {
        path: PathBuf,
        source: atalaya_bundle::Error,
    },
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The bundle's place, or that of the request.
pub fn make(project: &Project, options: &Options, progress: &mut Progress) -> Result<PathBuf> {
    let _lock = lock::take(project)?;
    let folder = project.output(&options.variant);
    if !folder.join("manifest.json").exists() {
        return Err(BundleError::NoImage(folder).into());
    }
    let manifest = Manifest::of(&folder)?;
    let sets = keys::sets(project, manifest.update.trust)?;
    let unsigned = unsigned(&folder, &manifest, &sets, progress)?;
    let (text, _) = head(&unsigned)?;
    let signatures = match &options.signers {
        Signers::Asked(request) => {
            let set = keys::newest(&sets).cloned().unwrap_or_else(no_set);
            let manifest = String::from_utf8_lossy(&text).into_owned();
            let asked = Request::new(Content::Bundle { manifest, set });
            asked.write(request)?;
            eprint!("{asked}");
            return Ok(request.clone());
        }
        Signers::Here(files) => {
            let keys = keys_here(project, manifest.update.trust, files)?;
            let mut signatures: Vec<_> = keys.iter().map(|key| key.sign_manifest(&text)).collect();
            signatures.sort_by_key(|signed| signed.key);
            signatures
        }
        Signers::Elsewhere(files) => signed_elsewhere(files, &text)?,
    };
    let stage = progress.stage("signatures");
    let place = match &options.output {
        Some(place) => place.clone(),
        None => folder.join(format!("atalaya-{}.{ENDING}", manifest.release.version)),
    };
    sign(&unsigned, &sets, &Signatures { signatures }, &place)?;
    if options.output.is_none() {
        link(&folder, &place)?;
    }
    stage.finish("verified");
    Ok(place)
}

/// Never met: a chain that was verified has a last set.
fn no_set() -> KeySet {
    KeySet {
        version: 0,
        threshold: 0,
        keys: Vec::new(),
    }
}

fn keys_here(project: &Project, trust: Purpose, files: &[PathBuf]) -> Result<Vec<SigningKey>> {
    match (files, trust) {
        ([], Purpose::Development) => Ok(vec![keys::development_key(project)?]),
        ([], Purpose::Release) => Err(BundleError::NoSigners.into()),
        (files, _) => files.iter().map(|file| keys::signing_key(file)).collect(),
    }
}

fn signed_elsewhere(files: &[PathBuf], text: &[u8]) -> Result<Vec<atalaya_bundle::keys::Signed>> {
    let request = Request::gather(files)?;
    match &request.sign {
        Content::Bundle { manifest, .. } if manifest.as_bytes() == text => Ok(request.signatures),
        _ => {
            let file = files.first().cloned().unwrap_or_default();
            Err(BundleError::OtherBundle(file).into())
        }
    }
}

/// The bundle without signatures, made if it is not there: the parts are the same as long as the image is.
fn unsigned(
    folder: &Path,
    manifest: &Manifest,
    sets: &KeySets,
    progress: &mut Progress,
) -> Result<PathBuf> {
    let place = folder.join(format!("atalaya-{}.unsigned", manifest.release.version));
    let stage = progress.stage("bundle");
    let wanted = description(manifest, sets)?;
    if place.exists() && is_current(&place, manifest, &wanted)? {
        stage.finish("made before");
        return Ok(place);
    }
    stage.say("checking the image's parts");
    let parts = &manifest.artifacts;
    for file in [&parts.root, &parts.verity, &parts.uki] {
        artifacts::check(folder, file)?;
    }
    let parts = Parts {
        root: folder.join(&parts.root.name),
        verity: folder.join(&parts.verity.name),
        uki: folder.join(&parts.uki.name),
        loader: folder.join(LOADER),
    };
    let prepared = prepare(parts, wanted, folder, manifest.artifacts.root.size, &stage);
    let mut prepared = prepared?;
    let new = Project::temporary_beside(&place);
    let file = File::create(&new).during("create", &new)?;
    let mut to = BufWriter::new(file);
    prepared
        .write(sets, &Signatures::default(), &mut to)
        .map_err(BundleError::from)?;
    to.flush().during("write", &new)?;
    fs::rename(&new, &place).during("rename into place", &place)?;
    let bytes = fs::metadata(&place).during("look at", &place)?.len();
    stage.finish(&format!(
        "{} MiB of {}",
        bytes >> 20,
        (manifest.artifacts.root.size + manifest.artifacts.uki.size) >> 20
    ));
    Ok(place)
}

fn prepare(
    parts: Parts,
    wanted: Description,
    folder: &Path,
    total: u64,
    stage: &Stage<'_>,
) -> Result<Prepared> {
    let scratch = tempfile::tempfile_in(folder).during("create a file in", folder)?;
    let prepared = Prepared::new(parts, wanted, scratch, |done| {
        stage.say(&format!(
            "compressing {} of {} MiB",
            done >> 20,
            total >> 20
        ));
    });
    Ok(prepared.map_err(BundleError::from)?)
}

fn description(manifest: &Manifest, sets: &KeySets) -> Result<Description> {
    let release = &manifest.release;
    let mattermost = &release.mattermost;
    Ok(Description {
        product: release.product.clone(),
        kind: match mattermost.kind {
            Kind::Official => "official",
            Kind::Standin => "standin",
        }
        .to_owned(),
        architecture: ARCHITECTURE.to_owned(),
        version: release.version.clone(),
        build: release.build.clone(),
        built: release.built.clone(),
        epoch: release.epoch,
        key_set: keys::newest(sets).map_or(0, |set| set.version),
        minimum_from: manifest.update.minimum_from.clone(),
        forbidden_from: manifest.update.forbidden_from.clone(),
        mattermost: Mattermost {
            version: mattermost.version.clone(),
            schema: mattermost.schema.ok_or(BundleError::NoSchema)?,
        },
        postgresql: release.postgresql.clone(),
        postgresql_from: manifest.update.postgresql_from.clone(),
    })
}

/// Whether the bundle that lies there is that of this image, and names the newest keys.
fn is_current(unsigned: &Path, manifest: &Manifest, wanted: &Description) -> Result<bool> {
    let file = File::open(unsigned).during("open", unsigned)?;
    let Ok(found) = atalaya_bundle::inspect::inspect(Seekable(file), None, None) else {
        return Ok(false);
    };
    let found = found.manifest;
    Ok(found.build == wanted.build
        && found.key_set == wanted.key_set
        && found.root.chunk_blocks == writer::CHUNK_BLOCKS
        && found.root_hash == manifest.artifacts.root_hash
        && found.uki.sha256 == manifest.artifacts.uki.sha256)
}

/// The manifest's bytes, which are what is signed, and the key sets of a bundle that was made here.
fn head(bundle: &Path) -> Result<(Vec<u8>, KeySets)> {
    let file = File::open(bundle).during("open", bundle)?;
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut entries = archive.entries().during("read", bundle)?;
    let mut next = || -> std::io::Result<Vec<u8>> {
        let mut content = Vec::new();
        if let Some(entry) = entries.next() {
            entry?.take(HEAD).read_to_end(&mut content)?;
        }
        Ok(content)
    };
    let manifest = next().during("read", bundle)?;
    let sets = next().during("read", bundle)?;
    let sets = serde_json::from_slice(&sets)
        .map_err(std::io::Error::from)
        .during("understand the key sets of", bundle)?;
    Ok((manifest, sets))
}

/// Puts signatures into a bundle, and the bundle to its place if everything in it is verified by the keys that come with it.
fn sign(unsigned: &Path, sets: &KeySets, signatures: &Signatures, place: &Path) -> Result<()> {
    let new = Project::temporary_beside(place);
    let from = File::open(unsigned).during("open", unsigned)?;
    let mut to = BufWriter::new(File::create(&new).during("create", &new)?);
    writer::put_signatures(BufReader::new(from), sets, signatures, &mut to)
        .map_err(BundleError::from)?;
    to.flush().during("write", &new)?;
    drop(to);
    let file = File::open(&new).during("open", &new)?;
    let refused = |source| BundleError::Refused {
        source,
        next: "let those sign whose signatures are missing (docs/keys.md)",
    };
    match verify(file, sets) {
        Ok(_) => fs::rename(&new, place).during("rename into place", place),
        Err(error) => {
            fs::remove_file(&new).during("remove", &new)?;
            Err(refused(error).into())
        }
    }
}

/// Every byte of a bundle, as a machine would that knows these sets.
fn verify(bundle: File, sets: &KeySets) -> atalaya_bundle::Result<Head> {
    let file = TrustFile {
        purpose: Purpose::Development,
        sets: sets.sets.clone(),
    };
    let trust = Trust::new(file, None).map_err(Refusal::from)?;
    reader::verify(Seekable(BufReader::new(bundle)), &trust)
}

fn link(folder: &Path, place: &Path) -> Result<()> {
    let link = folder.join(LINK);
    if fs::symlink_metadata(&link).is_ok() {
        fs::remove_file(&link).during("remove", &link)?;
    }
    let name = place.file_name().unwrap_or_default();
    std::os::unix::fs::symlink(name, &link).during("create link", &link)
}

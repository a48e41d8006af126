//! Kernel images and loaders on /data, from which the boot partition can be made anew: each lies under its own SHA-256.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use atalaya_core::update::esp::{EntryName, Kept, LOADERS, Listing};
use atalaya_core::update::task::{self, Entry, Esp};
use atalaya_sys::{Context, Result, durable};

use super::listing::digest;

const SUFFIX: &str = ".efi";

#[derive(Debug, Clone)]
pub struct Store {
    pub images: PathBuf,
    pub loaders: PathBuf,
}

impl Store {
    pub fn of_machine() -> Self {
        Self {
            images: task::UKIS.into(),
            loaders: task::LOADERS.into(),
        }
    }

    /// Of a loader if there is one of that digest, else of a kernel image.
    pub fn path_of(&self, sha256: &str) -> PathBuf {
        let name = format!("{sha256}{SUFFIX}");
        let loader = self.loaders.join(&name);
        if loader.exists() {
            loader
        } else {
            self.images.join(name)
        }
    }

    /// By name and size; that the content is what the name says is seen when it is written.
    pub fn kept(&self) -> Result<Kept> {
        let mut kept = Kept::new();
        for directory in [&self.images, &self.loaders] {
            for (sha256, path) in files(directory)? {
                let metadata = path
                    .metadata()
                    .context("read the metadata of", path.display())?;
                kept.insert(sha256, metadata.len());
            }
        }
        Ok(kept)
    }

    /// Copies what is not here yet: entries without a counter, of those that are wanted if anything is, the loader that firmware starts, and the
    /// wanted one wherever it is.
    pub fn keep(&self, top: &Path, listing: &Listing, wanted: &Esp) -> Result<()> {
        let entries: &[Entry] = &wanted.entries;
        let is_good = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            EntryName::parse(name).is_some_and(|name| name.counter.is_none())
        };
        for file in &listing.files {
            let Some(sha256) = &file.sha256 else {
                continue;
            };
            let is_wanted = entries.is_empty() || entries.iter().any(|entry| entry.uki == *sha256);
            let is_loader = |path: &str| path.eq_ignore_ascii_case(&file.path);
            let is_wanted_loader = wanted.loader.as_ref() == Some(sha256)
                && LOADERS.iter().any(|path| is_loader(path));
            let directory = if is_loader(LOADERS[0]) || is_wanted_loader {
                &self.loaders
            } else if is_wanted && is_good(&file.path) {
                &self.images
            } else {
                continue;
            };
            let path = directory.join(format!("{sha256}{SUFFIX}"));
            // One that was damaged here has the right size, and is found when it is needed; then this is where a good one comes from.
            let is_kept = File::open(&path)
                .and_then(|kept| digest(&kept))
                .is_ok_and(|kept| kept == *sha256);
            if !is_kept {
                let source = top.join(&file.path);
                let bytes = fs::read(&source).context("read", source.display())?;
                durable::write(&path, &bytes, 0o600, None)?;
            }
        }
        Ok(())
    }

    /// Removes kernel images that are none of these.
    pub fn prune(&self, needed: &[&str]) -> Result<()> {
        for (sha256, path) in files(&self.images)? {
            if !needed.contains(&sha256.as_str()) {
                durable::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Those whose names are a SHA-256; others are on their way.
fn files(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).context("list", directory.display())? {
        let entry = entry.context("list", directory.display())?;
        let name = entry.file_name();
        let sha256 = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let is_digest = |text: &&str| {
            text.len() == 64
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if let Some(sha256) = sha256.filter(is_digest) {
            files.push((sha256.to_owned(), entry.path()));
        }
    }
    Ok(files)
}

//! What of a bundle is kept on /data: kernel images and loaders under their digests, and the key sets. A file is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use atalaya_bundle::KeySets;
use atalaya_bundle::manifest::Part;
use atalaya_sys::durable;
use sha2::{Digest, Sha256};

use super::failure::Failure;

/// What must be left on /data for everybody else while an update is being kept there.
const MARGIN: u64 = 64 << 20;

/// /data/update, with a directory for each kind.
#[derive(Debug, Clone)]
pub struct Kept {
    pub ukis: PathBuf,
    pub loaders: PathBuf,
    pub key_sets: PathBuf,
}

impl Kept {
    /// The key sets that were accepted before; none if there are none that can be understood: then the image's own count.
    pub fn accepted(&self) -> Option<KeySets> {
        serde_json::from_slice(&fs::read(&self.key_sets).ok()?).ok()
    }

    /// # Errors
    /// They cannot be written.
    pub fn accept(&self, sets: &KeySets) -> Result<(), Failure> {
        let failed = |error| Failure::kept("write", &self.key_sets, error);
        let json = sets.to_json().map_err(|error| failed(error.into()))?;
        durable::write(&self.key_sets, &json, 0o644, None).map_err(|error| failed(error.source))
    }

    /// # Errors
    /// There is not enough room for files of these sizes.
    pub fn check_room(&self, bytes: u64) -> Result<(), Failure> {
        fs::create_dir_all(&self.ukis).map_err(|error| Failure::kept("make", &self.ukis, error))?;
        let facts = nix::sys::statvfs::statvfs(&self.ukis)
            .map_err(|errno| Failure::kept("look at", &self.ukis, errno.into()))?;
        let free = facts.blocks_available() * facts.fragment_size();
        let needed = bytes + MARGIN;
        if free < needed {
            let path = self.ukis.clone();
            return Err(Failure::Space { path, needed, free });
        }
        Ok(())
    }
}

/// A file on its way into a directory, where its digest becomes its name.
#[derive(Debug)]
pub struct Incoming {
    target: PathBuf,
    temporary: PathBuf,
    /// None: it is there already.
    file: Option<File>,
}

impl Incoming {
    /// # Errors
    /// It cannot be made.
    pub fn new(directory: &Path, part: &Part) -> Result<Self, Failure> {
        fs::create_dir_all(directory).map_err(|error| Failure::kept("make", directory, error))?;
        let target = directory.join(format!("{}.efi", part.sha256));
        // Of an attempt that was cut off at most this one is left, and the next begins with it.
        let temporary = directory.join(".incoming");
        let file = if holds(&target, part) {
            None
        } else {
            let made = File::create(&temporary);
            Some(made.map_err(|error| Failure::kept("make", &temporary, error))?)
        };
        Ok(Self {
            target,
            temporary,
            file,
        })
    }

    /// Where the content has to go, if it is wanted.
    pub fn writer(&mut self) -> Option<&mut dyn Write> {
        self.file.as_mut().map(|file| file as &mut dyn Write)
    }

    /// Where its content is by now.
    pub fn place(&self) -> &Path {
        match self.file {
            Some(_) => &self.temporary,
            None => &self.target,
        }
    }

    /// Its content is verified: durable, under its own name.
    ///
    /// # Errors
    /// It cannot be put there.
    pub fn keep(mut self) -> Result<(), Failure> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let put = || -> io::Result<()> {
            file.sync_all()?;
            fs::rename(&self.temporary, &self.target)?;
            let directory = self.target.parent().unwrap_or(Path::new("/"));
            durable::sync_directory(directory).map_err(|error| error.source)
        };
        put().map_err(|error| Failure::kept("keep", &self.target, error))
    }
}

impl Drop for Incoming {
    /// What was not verified does not stay.
    fn drop(&mut self) {
        if self.file.is_some() {
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// Whether that very file is there.
fn holds(path: &Path, part: &Part) -> bool {
    digest(path, part.bytes).is_ok_and(|digest| digest.as_deref() == Some(part.sha256.as_str()))
}

/// None for a file of another size.
fn digest(path: &Path, bytes: u64) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != bytes {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    let hash = hash.finalize();
    Ok(Some(
        hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_needed_for_the_files_and_for_everybody_else() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept {
            ukis: folder.path().join("uki"),
            loaders: folder.path().join("loader"),
            key_sets: folder.path().join("keysets.json"),
        };
        const ALL_DISKS: u64 = 1 << 60;
        match kept.check_room(ALL_DISKS) {
            Err(Failure::Space { needed, free, .. }) => {
                assert_eq!(needed, ALL_DISKS + MARGIN);
                assert!(free < ALL_DISKS);
            }
            other => panic!("{other:?}"),
        }
        kept.check_room(0).unwrap();
    }
}

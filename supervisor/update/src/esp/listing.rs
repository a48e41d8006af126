//! What is on the boot partition, as the plan wants to know it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use atalaya_core::update::esp::{self, ENTRIES, EntryName, LOADERS, Listing, is_ours};
use atalaya_core::update::task::{EspReport, FoundEntry};
use atalaya_sys::{Context, Result, fat};
use sha2::{Digest, Sha256};

use super::image;

/// Reads our files to their end; of others' only how large they are.
pub fn read(top: &Path) -> Result<Listing> {
    let about = nix::sys::statvfs::statvfs(top).context("ask for the space of", top.display())?;
    let free = about
        .blocks_available()
        .saturating_mul(about.fragment_size());
    let mut directories = vec![ENTRIES];
    directories.extend(
        LOADERS
            .iter()
            .filter_map(|path| path.rsplit_once('/'))
            .map(|(directory, _)| directory),
    );
    let mut files = Vec::new();
    for directory in directories {
        read_directory(top, directory, &mut files)?;
    }
    Ok(Listing { files, free })
}

fn read_directory(top: &Path, directory: &str, files: &mut Vec<esp::File>) -> Result<()> {
    let path = top.join(directory);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.context("list", path.display())?,
    };
    for entry in entries {
        let entry = entry.context("list", path.display())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = entry
            .metadata()
            .context("read the metadata of", entry.path().display())?;
        if metadata.is_file() {
            files.push(read_file(&entry.path(), format!("{directory}/{name}"))?);
        }
    }
    Ok(())
}

fn read_file(path: &Path, name: String) -> Result<esp::File> {
    let file = File::open(path).context("open", path.display())?;
    let metadata = file
        .metadata()
        .context("read the metadata of", path.display())?;
    let is_loader = LOADERS
        .iter()
        .any(|loader| loader.eq_ignore_ascii_case(&name));
    let sha256 = (is_ours(&name) || is_loader)
        .then(|| digest(&file).ok())
        .flatten();
    Ok(esp::File {
        path: name,
        size: metadata.len(),
        sha256,
        start: fat::content_start(&file, path)?,
    })
}

/// SHA-256 of all that can be read, hexadecimal.
pub fn digest(mut file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&bytes[..count]),
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The listing in the words of the answer.
pub fn report(top: &Path, listing: &Listing, steps: Vec<String>) -> EspReport {
    let entries = listing.files.iter().filter_map(|file| {
        let name = entry_name(&file.path)?;
        let parsed = EntryName::parse(name)?;
        Some(FoundEntry {
            name: name.to_owned(),
            number: parsed.number,
            left: parsed.counter.map(|counter| counter.left),
            uki: file.sha256.clone()?,
            root_hash: File::open(top.join(&file.path))
                .ok()
                .and_then(|file| image::root_hash(&file)),
        })
    });
    let mut entries: Vec<FoundEntry> = entries.collect();
    entries.sort_by_key(|entry| (entry.number, entry.left));
    EspReport {
        entries,
        loader: listing
            .file(LOADERS[0])
            .and_then(|file| file.sha256.clone()),
        foreign: foreign(listing),
        steps,
        lost_loader: false,
    }
}

/// Who else has put something where the loader looks.
pub fn foreign(listing: &Listing) -> Vec<String> {
    let files = listing.files.iter().filter(|file| !is_ours(&file.path));
    let mut names: Vec<String> = files
        .filter_map(|file| entry_name(&file.path))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

fn entry_name(path: &str) -> Option<&str> {
    path.strip_prefix(ENTRIES)?.strip_prefix('/')
}

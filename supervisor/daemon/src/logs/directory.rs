//! Where segments lie: `ROOT/NNNNNN-BOOT/NNNNNN.jsonl`, or `.jsonl.zst` when closed. Listing only; names that are not of this
//! form are another's and are neither read nor deleted.

use std::fs;
use std::path::{Path, PathBuf};

/// The directories of all boots, oldest first.
pub(super) fn list_boots(root: &Path) -> Vec<PathBuf> {
    list(root, |path| {
        boot_of(path).is_some() && number_of(path).is_some() && path.is_dir()
    })
}

/// The id of the boot whose directory this is.
pub(super) fn boot_of(directory: &Path) -> Option<&str> {
    let (_, boot) = directory.file_name()?.to_str()?.split_once('-')?;
    Some(boot)
}

/// The segments of a boot, oldest first. Where a crash has left one in both forms, the compressed one, which is complete.
pub(super) fn list_segments(directory: &Path) -> Vec<PathBuf> {
    let mut segments = list(directory, |path| {
        number_of(path).is_some() && suffix(path).is_some()
    });
    // Sorted by name, the plain one comes first.
    segments.reverse();
    segments.dedup_by_key(|path| number_of(path));
    segments.reverse();
    segments
}

/// What comes behind the number of a segment.
fn suffix(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    name.get(6..)
        .filter(|suffix| matches!(*suffix, ".jsonl" | ".jsonl.zst"))
}

/// The first six digits of a boot's or a segment's name.
pub(super) fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.get(..6)?.parse().ok()
}

pub(super) fn list(directory: &Path, keep: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| keep(path))
        .collect();
    paths.sort();
    paths
}

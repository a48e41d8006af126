//! What has to be done so that the boot partition holds what is wanted, and in which order. Pure: from a listing to a list of steps.
//!
//! The file system is FAT: no journal, and a name is not changed in one write. So a power cut may leave a renamed file under both names, under
//! the new one without content, or under its short alias (`ATALAY~1.EFI`), because a long name takes several places of the directory; two names
//! of one content must never be removed one after the other with a write between, because the first removal frees what the second still points to. The order here leaves, wherever it is cut, a good entry that is whole and whose content belongs
//! to it alone, if there was one before; whoever plans again from what is then there comes to the same end. [`model`] says what a cut may leave and
//! what the loader starts, for tests.
//!
//! Entries of others are left alone. That the content is what its name promises is seen by its SHA-256, never believed.

use std::collections::BTreeMap;

use super::task::{Entry, Esp};

pub mod model;
mod name;
#[cfg(test)]
mod tests;

pub use name::{Counter, EntryName, loader_variable, name_in_variable};

/// Where the loader looks for kernel images.
pub const ENTRIES: &str = "EFI/Linux";
/// The loader: what firmware starts from any disk, and where its own installer looks for it. The first has to be there.
pub const LOADERS: [&str; 2] = ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"];

const TEMPORARY: &str = "atalaya_new";
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Clusters are 32 KiB at most; directory and table may grow by some.
const SPARE: u64 = 128 * 1024;

/// One file in [`ENTRIES`] or beside one of [`LOADERS`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// From the partition's top, with `/`.
    pub path: String,
    pub size: u64,
    /// Of its content, hexadecimal; none if it cannot be read to its end.
    pub sha256: Option<String>,
    /// Where its content begins; 0 is nowhere. Two files with one beginning are two names of one content.
    pub start: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listing {
    pub files: Vec<File>,
    /// Bytes.
    pub free: u64,
}

/// What lies on /data and may be written: size in bytes by SHA-256.
pub type Kept = BTreeMap<String, u64>;

/// Each is safe on the disk, directories and all, before the next begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A new file with the content of that SHA-256, read back and compared.
    Write { path: String, sha256: String },
    /// `to` must not be there. A cut may leave both, the new one without content, or none.
    Rename { from: String, to: String },
    /// `to`, which is there, gets the content of `from`, whose name goes; then the names `other` of what was `to`'s content are removed. The old
    /// content stays where it is until all that is on the disk: a cut leaves `to` with the one or the other.
    Replace {
        from: String,
        to: String,
        other: Vec<String>,
    },
    /// Their contents stay where they are until the names are gone from the disk.
    Remove { paths: Vec<String> },
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("no entry without a counter is asked for")]
    NoGood,
    #[error("entry {0} is asked for twice")]
    Twice(u32),
    #[error("what is to be written, {0}, is not on /data")]
    Missing(String),
    #[error("{needed} bytes are needed on the boot partition and {free} are free")]
    Space { needed: u64, free: u64 },
}

/// The steps from `listing` to what is wanted; none if it is there.
///
/// # Errors
/// Nothing has been planned then, not even the first steps.
pub fn plan(listing: &Listing, wanted: &Esp, kept: &Kept) -> Result<Vec<Step>, Problem> {
    if wanted.entries.is_empty() {
        return Ok(Vec::new());
    }
    let wants = wants(wanted)?;
    let mut listing = listing.clone();
    let mut steps = Vec::new();
    while let Some(step) = next(&listing, &wants, kept)? {
        listing = apply(&listing, &step, kept);
        steps.push(step);
    }
    Ok(steps)
}

/// Whether the loader that is wanted can be had nowhere. It must not keep the entries from being put in order, which are what the machine starts.
pub fn has_lost_loader(listing: &Listing, wanted: &Esp, kept: &Kept) -> bool {
    let Some(sha256) = &wanted.loader else {
        return false;
    };
    let is_there = |path: &&str| {
        let file = listing.file(path);
        file.is_some_and(|file| file.sha256.as_ref() == Some(sha256))
    };
    !kept.contains_key(sha256) && !LOADERS.iter().all(is_there)
}

/// What `listing` becomes by the step when nothing goes wrong.
pub fn apply(listing: &Listing, step: &Step, kept: &Kept) -> Listing {
    let mut after = listing.clone();
    match step {
        Step::Write { path, sha256 } => after.add(path, sha256, kept),
        Step::Rename { from, to } => {
            if let Some(file) = after.file_mut(from) {
                file.path.clone_from(to);
            }
        }
        Step::Replace { from, to, other } => {
            let Some(new) = after.take(from) else {
                return after;
            };
            if let Some(old) = after.take(to) {
                other.iter().for_each(|path| drop(after.take(path)));
                after.release(&old);
            }
            after.files.push(File {
                path: to.clone(),
                ..new
            });
        }
        Step::Remove { paths } => {
            let gone: Vec<File> = paths.iter().filter_map(|path| after.take(path)).collect();
            gone.iter().for_each(|file| after.release(file));
        }
    }
    after
}

impl Listing {
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| is_same(&file.path, path))
    }

    /// Whether another name has the same content.
    pub fn is_shared(&self, file: &File) -> bool {
        self.sharers(file).next().is_some()
    }

    fn sharers<'a>(&'a self, file: &'a File) -> impl Iterator<Item = &'a File> {
        let others = self.files.iter().filter(|other| other.path != file.path);
        others.filter(|other| file.start != 0 && other.start == file.start)
    }

    fn file_mut(&mut self, path: &str) -> Option<&mut File> {
        let mut files = self.files.iter_mut();
        files.find(|file| is_same(&file.path, path))
    }

    fn take(&mut self, path: &str) -> Option<File> {
        let mut files = self.files.iter();
        let index = files.position(|file| is_same(&file.path, path))?;
        Some(self.files.swap_remove(index))
    }

    /// The content of a file whose name has gone is free, and lost for whoever else has a name for it.
    fn release(&mut self, gone: &File) {
        let mut files = self.files.iter_mut();
        if gone.start != 0 {
            files
                .by_ref()
                .filter(|file| file.start == gone.start)
                .for_each(|file| file.sha256 = None);
        }
        self.free = self.free.saturating_add(gone.size);
    }

    fn add(&mut self, path: &str, sha256: &str, kept: &Kept) {
        let size = kept.get(sha256).copied().unwrap_or(0);
        let start = self.files.iter().map(|file| file.start).max().unwrap_or(0) + 1;
        self.files.push(File {
            path: path.to_owned(),
            size,
            sha256: Some(sha256.to_owned()),
            start,
        });
        self.free = self.free.saturating_sub(size);
    }
}

/// One file that has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    Entry(Entry),
    Loader { path: &'static str, sha256: String },
}

/// Good entries first, so that something boots while the rest is done; the loader last.
fn wants(wanted: &Esp) -> Result<Vec<Want>, Problem> {
    let mut entries = wanted.entries.clone();
    entries.sort_by_key(|entry| (entry.tries.is_some(), entry.number));
    if entries.iter().all(|entry| entry.tries.is_some()) {
        return Err(Problem::NoGood);
    }
    for (index, entry) in entries.iter().enumerate() {
        let number = entry.number;
        if entries[..index].iter().any(|other| other.number == number) {
            return Err(Problem::Twice(number));
        }
    }
    let mut wants: Vec<Want> = entries.into_iter().map(Want::Entry).collect();
    if let Some(sha256) = &wanted.loader {
        wants.extend(LOADERS.map(|path| Want::Loader {
            path,
            sha256: sha256.clone(),
        }));
    }
    Ok(wants)
}

impl Want {
    fn is_good_entry(&self) -> bool {
        match self {
            Self::Entry(entry) => entry.tries.is_none(),
            Self::Loader { .. } => false,
        }
    }

    fn sha256(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.uki,
            Self::Loader { sha256, .. } => sha256,
        }
    }

    /// Where it is put if it is not there.
    fn path(&self) -> String {
        match self {
            Self::Entry(entry) => {
                let counter = entry.tries.map(|left| Counter { left, done: 0 });
                let name = EntryName {
                    number: entry.number,
                    counter,
                };
                format!("{ENTRIES}/{name}")
            }
            Self::Loader { path, .. } => (*path).to_owned(),
        }
    }

    /// The file that is it. Of an entry with several counters the one with the fewest tries left: tries are never given back.
    fn fit<'a>(&self, listing: &'a Listing) -> Option<&'a File> {
        let right = |file: &&File| file.sha256.as_deref() == Some(self.sha256());
        match self {
            Self::Entry(entry) => listing
                .files
                .iter()
                .filter(right)
                .filter_map(|file| Some((entry_name(&file.path)?, file)))
                .filter(|(name, file)| {
                    name.number == entry.number
                        && is_same(&file.path, &format!("{ENTRIES}/{name}"))
                        && match (entry.tries, name.counter) {
                            (None, None) => true,
                            (Some(tries), Some(counter)) => counter.left <= tries,
                            (None, Some(_)) | (Some(_), None) => false,
                        }
                })
                .min_by_key(|(name, _)| name.counter)
                .map(|(_, file)| file),
            Self::Loader { path, .. } => listing.file(path).filter(right),
        }
    }

    /// Whether that file needs only another name to be it.
    fn is_made_of(&self, file: &File) -> bool {
        let is_right = file.sha256.as_deref() == Some(self.sha256())
            && is_same(directory(&file.path), directory(&self.path()));
        let is_number = match self {
            Self::Entry(entry) => {
                entry_name(&file.path).is_some_and(|name| name.number == entry.number)
            }
            Self::Loader { .. } => false,
        };
        is_right && (is_number || is_temporary(&file.path))
    }
}

fn next(listing: &Listing, wants: &[Want], kept: &Kept) -> Result<Option<Step>, Problem> {
    let is_alone = |file: &&File| !listing.is_shared(file);
    let found: Vec<(&Want, Option<&File>)> =
        wants.iter().map(|want| (want, want.fit(listing))).collect();
    let open: Vec<(&Want, Option<&File>)> = found
        .iter()
        .filter(|(_, file)| file.is_none_or(|file| listing.is_shared(file)))
        .copied()
        .collect();
    // With a good one that nothing can touch, what is in the way goes first: it may need the space.
    let is_safe = found
        .iter()
        .any(|(want, file)| want.is_good_entry() && file.filter(is_alone).is_some());
    // So does what nobody can read and nothing starts: its content may be free already, and would be given to the next file.
    let mut paths = rubbish(listing, &found, &open);
    paths.retain(|path| is_safe || open.is_empty() || is_torn(listing, path));
    if !paths.is_empty() {
        return Ok(Some(Step::Remove { paths }));
    }
    let Some((want, file)) = open.first() else {
        return Ok(None);
    };
    let path = want.path();
    let in_place = file.or_else(|| listing.file(&path));
    let candidates = || {
        let files = listing.files.iter().filter(is_alone);
        files.filter(|file| want.is_made_of(file) && !is_same(&file.path, &path))
    };
    let temporary = candidates().find(|file| is_temporary(&file.path));
    // Counters come and go by a name. If that is cut, another good one has to be there.
    if in_place.is_none()
        && is_safe
        && let Some(other) = candidates().next()
    {
        return Ok(Some(rename(other, path)));
    }
    let Some(temporary) = temporary else {
        return write(listing, directory(&path), want.sha256(), kept).map(Some);
    };
    Ok(Some(match in_place {
        None => rename(temporary, path),
        Some(old) => Step::Replace {
            from: temporary.path.clone(),
            to: old.path.clone(),
            other: listing
                .sharers(old)
                .filter(|other| is_ours(&other.path))
                .map(|other| other.path.clone())
                .collect(),
        },
    }))
}

fn rename(file: &File, to: String) -> Step {
    Step::Rename {
        from: file.path.clone(),
        to,
    }
}

fn write(listing: &Listing, directory: &str, sha256: &str, kept: &Kept) -> Result<Step, Problem> {
    let size = kept
        .get(sha256)
        .ok_or_else(|| Problem::Missing(sha256.to_owned()))?;
    let (needed, free) = (size.saturating_add(SPARE), listing.free);
    if free < needed {
        return Err(Problem::Space { needed, free });
    }
    let path = (0..=listing.files.len())
        .map(|number| format!("{directory}/{TEMPORARY}{number}{TEMPORARY_SUFFIX}"))
        .find(|path| listing.file(path).is_none())
        .unwrap_or_default(); // one of so many names is free
    Ok(Step::Write {
        path,
        sha256: sha256.to_owned(),
    })
}

/// What is ours and needed by nobody. A name of a content that somebody needs stays until that one has a content of its own.
fn rubbish(
    listing: &Listing,
    found: &[(&Want, Option<&File>)],
    open: &[(&Want, Option<&File>)],
) -> Vec<String> {
    let is_needed = |file: &File| {
        let fits = found
            .iter()
            .any(|(_, fit)| fit.is_some_and(|fit| fit.path == file.path));
        fits || !is_ours(&file.path)
            || (!listing.is_shared(file) && open.iter().any(|(want, _)| want.is_made_of(file)))
    };
    let can_go = |file: &&File| !is_needed(file) && !listing.sharers(file).any(is_needed);
    let files = listing.files.iter().filter(can_go);
    let mut paths: Vec<String> = files.map(|file| file.path.clone()).collect();
    paths.sort();
    paths
}

/// FAT keeps the case of a name and does not look at it.
fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn entry_name(path: &str) -> Option<EntryName> {
    is_same(directory(path), ENTRIES)
        .then(|| EntryName::parse(file_name(path)))
        .flatten()
}

fn is_temporary(path: &str) -> bool {
    let name = file_name(path).to_ascii_lowercase();
    name.starts_with(TEMPORARY) && name.ends_with(TEMPORARY_SUFFIX)
}

fn is_torn(listing: &Listing, path: &str) -> bool {
    let file = listing.file(path);
    is_temporary(path) && file.is_some_and(|file| file.sha256.is_none())
}

/// What is left of one of our names when a cut has hit the long one: `ATALAY~1.EFI`, or `AT1A2B~1.EFI` where there are many.
fn is_alias(path: &str) -> bool {
    let name = file_name(path).to_ascii_uppercase();
    let stem = name
        .strip_suffix(".EFI")
        .or_else(|| name.strip_suffix(".TMP"));
    let parts = stem.and_then(|stem| stem.split_once('~'));
    parts.is_some_and(|(base, number)| {
        base.starts_with("AT")
            && base.len() <= 6
            && number.len() == 1
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether we gave it its name. The loader's own files are never removed, only replaced.
pub fn is_ours(path: &str) -> bool {
    entry_name(path).is_some() || is_temporary(path) || is_alias(path)
}

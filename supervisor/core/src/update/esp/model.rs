//! What a power cut may leave on the boot partition, and what systemd-boot starts from it: the model that the tests of the plan, of the record and
//! of what a boot means share. More is possible here than a real disk does.

use super::{Counter, ENTRIES, EntryName, File, Kept, Listing, Step, apply, entry_name, is_same};

/// Every state in which a cut during the step may leave the partition, that before it and that after it among them.
pub fn cuts(listing: &Listing, step: &Step, kept: &Kept) -> Vec<Listing> {
    let after = apply(listing, step, kept);
    let mut states = vec![listing.clone(), after.clone()];
    match step {
        Step::Write { path, .. } => states.extend(half_written(&after, path)),
        Step::Rename { from, to } => states.extend(half_renamed(listing, &after, from, to)),
        Step::Replace { from, to, other } => {
            states.extend(half_replaced(listing, from, to, other));
        }
        Step::Remove { paths } => {
            let subsets = subsets(paths);
            states.extend(subsets.map(|gone| without(listing, &gone)));
        }
    }
    for state in &mut states {
        state.files.sort();
    }
    states.sort();
    states.dedup();
    states
}

/// There without content, and with half of it.
fn half_written(after: &Listing, path: &str) -> Vec<Listing> {
    let with = |change: &dyn Fn(&mut File)| {
        let mut state = after.clone();
        let mut files = state.files.iter_mut();
        files
            .by_ref()
            .filter(|file| is_same(&file.path, path))
            .for_each(change);
        state
    };
    vec![
        with(&|file| {
            file.sha256 = None;
            file.size /= 2;
        }),
        with(&empty),
    ]
}

fn empty(file: &mut File) {
    file.size = 0;
    file.sha256 = None;
    file.start = 0;
}

/// The old name is there or not, the new one is there, is there without content, or is not.
fn half_renamed(before: &Listing, after: &Listing, from: &str, to: &str) -> Vec<Listing> {
    let Some(old) = before.file(from) else {
        return Vec::new();
    };
    let mut hollow = after.clone();
    for file in &mut hollow.files {
        if is_same(&file.path, to) {
            empty(file);
        }
    }
    let both = |mut state: Listing| {
        state.files.push(old.clone());
        state
    };
    vec![
        without(before, &[from]),
        both(after.clone()),
        both(hollow.clone()),
        hollow,
    ]
}

/// First `to` has the old content or the new one, while the name `from` is there or not; then the other names go one by one.
fn half_replaced(before: &Listing, from: &str, to: &str, other: &[String]) -> Vec<Listing> {
    let Some(new) = before.file(from) else {
        return Vec::new();
    };
    let mut shared = before.clone();
    for file in &mut shared.files {
        if is_same(&file.path, to) {
            *file = File {
                path: file.path.clone(),
                ..new.clone()
            };
        }
    }
    let replaced = without(&shared, &[from]);
    let mut states = vec![without(before, &[from]), shared];
    states.extend(subsets(other).map(|gone| without(&replaced, &gone)));
    states
}

/// The names are gone; the contents stay where they are, and take their space.
fn without(listing: &Listing, gone: &[&str]) -> Listing {
    let mut state = listing.clone();
    state
        .files
        .retain(|file| !gone.iter().any(|path| is_same(path, &file.path)));
    state
}

fn subsets(paths: &[String]) -> impl Iterator<Item = Vec<&str>> {
    let count = 1u32 << paths.len().min(16);
    (0..count).map(move |bits| {
        let chosen = paths.iter().enumerate();
        chosen
            .filter(|(index, _)| bits & (1 << index) != 0)
            .map(|(_, path)| path.as_str())
            .collect()
    })
}

/// What a start comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// This kernel image (SHA-256) was started from this entry, whose counter is by now one less.
    Of { entry: EntryName, uki: String },
    /// The machine does not come up by itself: there is no entry, or a good one does not load.
    Stuck,
}

/// What systemd-boot 262 may start, and what is on the partition then: entries without tries left come last, then the higher number is before the
/// lower; which of two with one number is not defined. One that does not load uses up its tries and gives way. `loads` says whether a content
/// does.
pub fn starts(listing: &Listing, loads: &dyn Fn(&str) -> bool) -> Vec<(Start, Listing)> {
    let mut entries: Vec<(EntryName, &File)> = listing
        .files
        .iter()
        .filter(|file| file.size > 0)
        .filter_map(|file| Some((entry_name(&file.path)?, file)))
        .collect();
    let is_used_up = |name: &EntryName| name.counter.is_some_and(|counter| counter.left == 0);
    let rank = |name: &EntryName| (is_used_up(name), std::cmp::Reverse(name.number));
    entries.sort_by_key(|(name, _)| rank(name));
    let Some(first) = entries.first().map(|(name, _)| rank(name)) else {
        return vec![(Start::Stuck, listing.clone())];
    };
    let firsts = entries.iter().filter(|(name, _)| rank(name) == first);
    firsts
        .flat_map(|(name, file)| start(listing, *name, file, loads))
        .collect()
}

fn start(
    listing: &Listing,
    name: EntryName,
    file: &File,
    loads: &dyn Fn(&str) -> bool,
) -> Vec<(Start, Listing)> {
    let counted = name.counter.map(|Counter { left, done }| Counter {
        left: left.saturating_sub(1),
        done: done.saturating_add(1),
    });
    let entry = EntryName {
        counter: counted,
        ..name
    };
    let mut after = listing.clone();
    for other in &mut after.files {
        if other.path == file.path {
            other.path = format!("{ENTRIES}/{entry}");
        }
    }
    match &file.sha256 {
        Some(uki) if loads(uki) => vec![(
            Start::Of {
                entry,
                uki: uki.clone(),
            },
            after,
        )],
        // Again and again, until there are no tries left and another one comes first.
        Some(_) | None if name.counter.is_some_and(|counter| counter.left > 0) => {
            starts(&after, loads)
        }
        // Another one may come after it, but the loader never gets there.
        Some(_) | None => vec![(Start::Stuck, listing.clone())],
    }
}

//! What a power cut may leave on the boot partition, and what systemd-boot starts from it: the model that the tests of the plan, of the record and
//! of what a boot means share. More is possible here than a real disk does.

use super::{
    Counter, ENTRIES, EntryName, File, Kept, Listing, Step, apply, directory, entry_name, is_alias,
    is_same,
};

/// Every state in which a cut during the step may leave the partition, that before it and that after it among them.
pub fn cuts(listing: &Listing, step: &Step, kept: &Kept) -> Vec<Listing> {
    let after = apply(listing, step, kept);
    let mut states = vec![listing.clone(), after.clone()];
    match step {
        Step::Write { path, .. } => {
            let whole = after.file(path);
            let file = whole.cloned().into_iter().flat_map(half_written);
            states.extend(file.flat_map(|file| named(listing, &file)));
        }
        Step::Rename { from, to } => {
            if let Some(file) = listing.file(from) {
                let new = renamed(file, to);
                for state in half_removed(listing, &[from]) {
                    states.extend([&new, &empty(&new)].map(|new| named(&state, new)).concat());
                    states.push(state);
                }
            }
        }
        Step::Replace { from, to, other } => {
            if let Some(new) = listing.file(from) {
                let mut replaced = without(listing, to);
                replaced.files.push(renamed(new, to));
                states.extend(half_removed(listing, &[from]));
                states.extend(half_removed(&replaced, &[from]));
                let other: Vec<&str> = other.iter().map(String::as_str).collect();
                states.extend(half_removed(&without(&replaced, from), &other));
            }
        }
        Step::Remove { paths } => {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            states.extend(half_removed(listing, &paths));
        }
    }
    for state in &mut states {
        state.files.sort();
    }
    states.sort();
    states.dedup();
    states
}

/// Without content, with half of it, and whole.
fn half_written(whole: File) -> Vec<File> {
    let half = File {
        sha256: None,
        size: whole.size / 2,
        ..whole.clone()
    };
    vec![half, empty(&whole), whole]
}

fn empty(file: &File) -> File {
    File {
        size: 0,
        sha256: None,
        start: 0,
        ..file.clone()
    }
}

fn renamed(file: &File, path: &str) -> File {
    File {
        path: path.to_owned(),
        ..file.clone()
    }
}

/// With that file more: under its name, and under the alias that is left of it where only a part of the name is on the disk.
fn named(listing: &Listing, file: &File) -> Vec<Listing> {
    let with = |path: &str| {
        let mut state = listing.clone();
        state.files.push(renamed(file, path));
        state
    };
    vec![with(&file.path), with(&alias(listing, &file.path))]
}

fn alias(listing: &Listing, path: &str) -> String {
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
    let names = (1..10).map(|number| {
        let name = format!("ATALAY~{number}.{ending}").to_ascii_uppercase();
        format!("{}/{name}", directory(path))
    });
    let mut free = names.filter(|name| listing.file(name).is_none());
    free.next().unwrap_or_default()
}

/// Each of the names is there, gone, or only its alias is left, in all combinations. The contents stay where they are, and take their space.
fn half_removed(listing: &Listing, paths: &[&str]) -> Vec<Listing> {
    let mut states = vec![listing.clone()];
    for path in paths {
        let mut more = Vec::new();
        for state in &states {
            let gone = without(state, path);
            if let Some(file) = state.file(path) {
                more.push(named(&gone, file).pop().unwrap_or_else(|| gone.clone()));
            }
            more.push(gone);
        }
        states.extend(more);
    }
    states
}

fn without(listing: &Listing, path: &str) -> Listing {
    let mut state = listing.clone();
    state.files.retain(|file| !is_same(path, &file.path));
    state
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
/// does. An alias has no counter and comes after every name of ours: it counts as number 0.
pub fn starts(listing: &Listing, loads: &dyn Fn(&str) -> bool) -> Vec<(Start, Listing)> {
    let mut entries: Vec<(EntryName, &File)> = listing
        .files
        .iter()
        .filter(|file| file.size > 0)
        .filter_map(|file| Some((read_name(&file.path)?, file)))
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

fn read_name(path: &str) -> Option<EntryName> {
    let alias = EntryName {
        number: 0,
        counter: None,
    };
    let is_entry = is_same(directory(path), ENTRIES) && path.ends_with(".EFI");
    entry_name(path).or((is_entry && is_alias(path)).then_some(alias))
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
        if other.path == file.path && counted.is_some() {
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

//! `drop`: removes generations that nobody needs any more, slowly enough to be no burden. A generation loses its name first, at once, so that
//! half of one is never taken for a whole one; what a cut left behind goes with the next run. The last one is never removed, and what a copy
//! is working on is left alone.

use std::ffi::CString;
use std::path::Path;
use std::time::{Duration, Instant};

use atalaya_core::update::task::{self, Dropped, Numbered, Outcome, Refusal, Walked};
use atalaya_sys::{Context, durable};
use nix::fcntl::FlockArg;

use crate::copy::{INDEX, UNFINISHED, lock};
use crate::exchange;
use crate::tree::{self, Place};

const NAME: &str = "drop";
/// A generation that has lost its name.
const DROPPED: &str = ".dropped";

#[derive(Debug, thiserror::Error)]
pub enum DropError {
    #[error("no generation would be left")]
    Last,
    #[error(transparent)]
    System(#[from] atalaya_sys::Error),
}

impl DropError {
    fn refusal(&self) -> Refusal {
        let why = match self {
            Self::Last => self.to_string(),
            Self::System(error) => error.chain(),
        };
        Refusal {
            code: "drop".to_owned(),
            what: format!("Old data could not be removed: {why}."),
            data: "The data in use are as they were.".to_owned(),
            next: "Read the log: atalaya logs -u update-drop.".to_owned(),
        }
    }
}

/// Removes them below `generations` (/data/gen), and what was left behind there. `rest` is called after some hundred files with the time that
/// they took.
///
/// # Errors
/// What could not be removed; the next run goes on with it.
pub fn run(
    generations: &Path,
    request: &task::Drop,
    rest: &mut dyn FnMut(Duration),
    tell: &mut dyn FnMut(&Walked),
) -> Result<Dropped, DropError> {
    let top = tree::open_top(generations)?;
    take_names(generations, &request.generations)?;
    let (mut files, mut begun) = (0_u64, Instant::now());
    let mut gone = || {
        files += 1;
        if files.is_multiple_of(BATCH) {
            tell(&Walked { files, bytes: 0 });
            rest(begun.elapsed());
            begun = Instant::now();
        }
    };
    for name in names(generations)? {
        if name.ends_with(DROPPED) {
            // Names have no NUL.
            let name = CString::new(name).unwrap_or_default();
            tree::remove(&top, &Place::top(&name), &mut gone)?;
        }
    }
    durable::sync_directory(generations)?;
    Ok(Dropped { files })
}

/// What loses its name is nobody's any more: it can be removed at leisure, whatever is copied meanwhile.
fn take_names(generations: &Path, wanted: &[u32]) -> Result<(), DropError> {
    let nobody_copies = lock(generations, FlockArg::LockExclusiveNonblock);
    let wanted: Vec<String> = wanted.iter().map(u32::to_string).collect();
    let names = names(generations)?;
    let left = |name: &&String| name.parse::<u32>().is_ok() && !wanted.contains(name);
    if !wanted.is_empty() && !names.iter().any(|name| left(&name)) {
        return Err(DropError::Last);
    }
    let is_left_over = |name: &String| {
        nobody_copies.is_ok() && (name.ends_with(UNFINISHED) || name.ends_with(INDEX))
    };
    for name in names
        .iter()
        .filter(|name| wanted.contains(name) || is_left_over(name))
    {
        let free = (0_u32..)
            .map(|number| generations.join(format!("{name}.{number}{DROPPED}")))
            .find(|path| !path.exists());
        let from = generations.join(name);
        // There always is one.
        let to = free.unwrap_or_else(|| from.with_extension(&DROPPED[1..]));
        std::fs::rename(&from, to).context("take the name of", from.display())?;
    }
    durable::sync_directory(generations)?;
    Ok(())
}

const BATCH: u64 = 256;

fn names(generations: &Path) -> Result<Vec<String>, DropError> {
    let mut names = Vec::new();
    let place = generations.display();
    for entry in std::fs::read_dir(generations).context("list", &place)? {
        let entry = entry.context("list", &place)?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// The unit `update-drop`.
///
/// # Errors
/// There is no request, or the result cannot be left.
pub fn unit(say: &dyn Fn(&str)) -> Result<(), String> {
    let Numbered {
        number,
        content: request,
    } = exchange::read_request::<task::Drop>(&exchange::request_directory(), NAME)?;
    let mut progress = exchange::Progress::of(NAME);
    // Half of the time is everybody else's.
    let mut rest = |took: Duration| std::thread::sleep(took.min(Duration::from_secs(1)));
    let outcome = match run(Path::new("/data/gen"), &request, &mut rest, &mut |walked| {
        progress.tell(walked)
    }) {
        Ok(dropped) => {
            say(&format!("{} files removed", dropped.files));
            Outcome::Done(dropped)
        }
        Err(error) => {
            let refusal = error.refusal();
            say(&refusal.what);
            Outcome::Refused(refusal)
        }
    };
    exchange::write_result(Path::new(task::DIRECTORY), NAME, number, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(generations: &Path, numbers: &[u32]) -> Result<u64, DropError> {
        let request = task::Drop {
            generations: numbers.to_vec(),
        };
        run(generations, &request, &mut |_| (), &mut |_| ()).map(|dropped| dropped.files)
    }

    fn make(generations: &Path, name: &str) {
        std::fs::create_dir_all(generations.join(name).join("mattermost/files")).unwrap();
        std::fs::File::create(generations.join(name).join("mattermost/files/one")).unwrap();
    }

    fn left(generations: &Path) -> Vec<String> {
        let mut names = names(generations).unwrap();
        names.sort();
        names
    }

    #[test]
    fn what_is_named_goes_and_with_it_what_was_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let generations = folder.path();
        for name in ["1", "2", "12", "2.0.dropped", "13.unfinished"] {
            make(generations, name);
        }
        std::fs::File::create(generations.join("13.unfinished.index")).unwrap();
        assert_eq!(drop(generations, &[2, 7]).unwrap(), 3 * 4 + 1);
        assert_eq!(left(generations), ["1", "12"]);
        assert_eq!(drop(generations, &[]).unwrap(), 0);
        assert_eq!(left(generations), ["1", "12"]);
    }

    #[test]
    fn what_a_copy_is_working_on_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1", "2", "3.unfinished"] {
            make(folder.path(), name);
        }
        let copying = lock(folder.path(), FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(drop(folder.path(), &[1]).unwrap(), 4);
        assert_eq!(left(folder.path()), ["2", "3.unfinished"]);
        std::mem::drop(copying);
        assert_eq!(drop(folder.path(), &[]).unwrap(), 4);
        assert_eq!(left(folder.path()), ["2"]);
    }

    #[test]
    fn the_last_generation_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1", "2", "3.unfinished"] {
            make(folder.path(), name);
        }
        let error = drop(folder.path(), &[1, 2]).unwrap_err();
        assert!(matches!(error, DropError::Last));
        assert_eq!(left(folder.path()), ["1", "2", "3.unfinished"]);
    }

    #[test]
    fn it_rests_after_a_while_and_tells_how_far_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1", "2"] {
            make(folder.path(), name);
        }
        for number in 0..2 * BATCH {
            std::fs::File::create(folder.path().join(format!("1/{number}"))).unwrap();
        }
        let request = task::Drop {
            generations: vec![1],
        };
        let (mut rests, mut told) = (0, Vec::new());
        run(
            folder.path(),
            &request,
            &mut |_| rests += 1,
            &mut |walked| told.push(walked.files),
        )
        .unwrap();
        assert_eq!((rests, told), (2, vec![BATCH, 2 * BATCH]));
    }
}

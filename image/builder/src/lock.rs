//! One pipeline at a time works on a project's folders: a second one waits until the first has ended.

use crate::error::{Error, IoContext, Result};
use crate::project::Project;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::Path;

/// Held until dropped, or until the process ends in whatever way.
pub struct Lock(#[allow(dead_code)] Flock<File>); // held, never read

pub fn take(project: &Project) -> Result<Lock> {
    let folder = project.build();
    fs::create_dir_all(&folder).during("create folder", &folder)?;
    take_file(&folder.join("lock"), || {
        eprintln!("another atalaya-image is at work here; waiting for it to end ...");
    })
}

fn take_file(path: &Path, waiting: impl FnOnce()) -> Result<Lock> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .during("open", path)?;
    let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, _)) => {
            waiting();
            Flock::lock(file, FlockArg::LockExclusive)
        }
    };
    locked.map(Lock).map_err(|(_, error)| Error::Io {
        operation: "lock",
        object: path.display().to_string(),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_second_waits_for_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = take_file(&path, || unreachable!()).unwrap();
        let (tell, told) = mpsc::channel();
        let second = std::thread::spawn({
            let path = path.clone();
            move || drop(take_file(&path, || tell.send(()).unwrap()).unwrap())
        });
        told.recv().unwrap();
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap();
    }
}

//! What can go wrong in the pipeline, each with what happened, what it means and the next step.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {operation} {object}")]
    Io {
        operation: &'static str,
        object: String,
        source: io::Error,
    },
    #[error(
        "{program} is not installed; nothing was built; run `make setup`, which installs every package that the pipeline needs"
    )]
    ProgramMissing { program: String },
    #[error(
        "{what} failed ({status}); nothing was put into place; the last lines are:\n{tail}\nthe whole output is in {}", log.display()
    )]
    Command {
        what: String,
        status: String,
        tail: String,
        log: PathBuf,
    },
    #[error(
        "this must run as root, because it makes files of other users and mounts file systems; nothing was changed; run it again with sudo"
    )]
    NotRoot,
    #[error(
        "{} has {free_gib:.1} GiB free and {needed_gib:.1} GiB are needed; nothing was changed; free some space or point build/ and cache/ (ATALAYA_CACHE=) at a larger disk", path.display()
    )]
    DiskSpace {
        path: PathBuf,
        free_gib: f64,
        needed_gib: f64,
    },
    #[error("{file}, line {line}: {problem}")]
    Syntax {
        file: String,
        line: usize,
        problem: String,
    },
    #[error("no {what} in the image's kernel package; the initrd cannot be made")]
    KernelModule { what: String },
    #[error(
        "the image was built but {problem}; nothing was put into place; this is a fault of the build, please report it"
    )]
    Image { problem: String },
    #[error(
        "{} is damaged: its SHA-256 is {found} and the manifest says {expected}; don't use it; build again after `make clean`", path.display()
    )]
    Damaged {
        path: PathBuf,
        expected: String,
        found: String,
    },
    #[error(transparent)]
    Mirror(#[from] crate::mirrors::MirrorError),
    #[error(transparent)]
    Loader(#[from] crate::loader::LoaderError),
    #[error(transparent)]
    Release(#[from] crate::release::ReleaseError),
    #[error(transparent)]
    Keys(#[from] crate::keys::KeysError),
    #[error(transparent)]
    Bundle(#[from] crate::bundle::BundleError),
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    #[error(transparent)]
    Sys(#[from] atalaya_sys::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

/// Adds operation and object to an I/O error.
pub trait IoContext<T> {
    fn during(self, operation: &'static str, object: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, operation: &'static str, object: &Path) -> Result<T> {
        self.map_err(|source| Error::Io {
            operation,
            object: object.display().to_string(),
            source,
        })
    }
}

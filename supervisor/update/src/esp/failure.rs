//! Why the boot partition is not as it should be, in the words that an administrator is told.

use std::path::PathBuf;

use atalaya_core::update::esp::Problem;
use atalaya_core::update::task::Refusal;
use atalaya_core::words;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("this machine was not started from a disk of this product")]
    NoDisk,
    #[error("/dev/{0} has no boot partition")]
    NoPartition(String),
    #[error(transparent)]
    System(#[from] atalaya_sys::Error),
    #[error(transparent)]
    Plan(#[from] Problem),
    /// With the names of what others have put there.
    #[error(
        "the boot partition is full: {} are needed, {} are free{}",
        words::size(*needed), words::size(*free), named(foreign)
    )]
    Space {
        needed: u64,
        free: u64,
        foreign: Vec<String>,
    },
    #[error("{} is not what its name says", .0.display())]
    Damaged(PathBuf),
    #[error("{0} is not what was written")]
    ReadBack(String),
    #[error("the boot partition is not as it should be after all was done; still to do: {0}")]
    Unfinished(String),
}

impl Failure {
    fn chain(&self) -> String {
        match self {
            Self::System(error) => error.chain(),
            other => other.to_string(),
        }
    }

    pub fn refusal(&self) -> Refusal {
        let (code, next) = match self {
            Self::NoDisk | Self::NoPartition(_) => (
                "boot-partition",
                "An update needs the disk that the image was written to: install it anew, keeping /data.",
            ),
            Self::Space { .. } => (
                "boot-partition-full",
                "Remove what others have put on the boot partition, then start the update again.",
            ),
            Self::Damaged(_) | Self::Plan(Problem::Missing(_)) => (
                "kernel-image",
                "Start the update again: its kernel image is then fetched anew.",
            ),
            Self::System(error) if error.errno() == nix::libc::EROFS => (
                "boot-partition-read-only",
                "See to it that the disk is not write-protected, then start the update again.",
            ),
            Self::System(_) | Self::ReadBack(_) | Self::Unfinished(_) => (
                "boot-partition",
                "Start the update again. If it stays so, the disk is failing: make a backup now and replace it.",
            ),
            Self::Plan(Problem::NoGood | Problem::Twice(_) | Problem::Space { .. }) => (
                "boot-partition",
                "This is a fault of the appliance: keep the output of `atalaya support-bundle`.",
            ),
        };
        let what = format!("{}.", words::capital(&self.chain()));
        Refusal {
            code: code.to_owned(),
            what,
            data: "The data are as they were, and the version that ran last still starts."
                .to_owned(),
            next: next.to_owned(),
        }
    }
}

fn named(foreign: &[String]) -> String {
    if foreign.is_empty() {
        return String::new();
    }
    format!("; not of this product: {}", foreign.join(", "))
}

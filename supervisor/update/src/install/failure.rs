//! Every way in which an installation ends early, in the words that an administrator is told.

use std::io;
use std::path::{Path, PathBuf};

use atalaya_bundle::Refusal;
use atalaya_bundle::keys::KeyError;
use atalaya_core::update::task;

use super::secure_boot::Problem;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("failed to open the bundle")]
    Open(#[source] io::Error),
    #[error(transparent)]
    Bundle(#[from] atalaya_bundle::Error),
    #[error("failed to {operation} {}", path.display())]
    Slot {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to {operation} {}", path.display())]
    Kept {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("this machine was not started from a disk with two slots")]
    NoSlots,
    #[error("slot {0} is the one that runs")]
    Running(char),
    #[error("partition {0} is in use")]
    Held(String),
    #[error("the new system needs {needed} bytes in {}, which has {there}", path.display())]
    Small {
        path: PathBuf,
        needed: u64,
        there: u64,
    },
    #[error("{} has {free} bytes left, and the update needs {needed} there", path.display())]
    Space {
        path: PathBuf,
        needed: u64,
        free: u64,
    },
    #[error("block {block} of {} is not what was written", path.display())]
    ReadBack { path: PathBuf, block: u64 },
    #[error("the keys that this image trusts are unusable: {0}")]
    Trust(String),
    #[error("this machine's Secure Boot would not start the new {what}: {problem}")]
    NotStarted {
        what: &'static str,
        problem: Problem,
    },
    #[error(
        "Secure Boot is on or may be, and the firmware's {variable} cannot be understood: {problem}"
    )]
    Firmware {
        variable: &'static str,
        problem: String,
    },
    #[error("the installation could not give up its rights: {0}")]
    Confine(String),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Bundle(refusal.into())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Trust(error.to_string())
    }
}

impl Failure {
    pub fn slot(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Slot {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    pub fn kept(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Kept {
            operation,
            path: path.to_owned(),
            source,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Open(_) => "source",
            Self::Bundle(atalaya_bundle::Error::Read { .. }) => "source",
            Self::Bundle(atalaya_bundle::Error::Write { .. }) | Self::Kept { .. } => "data",
            Self::Bundle(atalaya_bundle::Error::Refused(refusal)) => refusal.code(),
            Self::Slot { .. } | Self::ReadBack { .. } | Self::Held(_) => "slot",
            Self::NoSlots | Self::Running(_) => "slots",
            Self::Small { .. } => "size",
            Self::Space { .. } => "space",
            Self::Trust(_) => "trust",
            Self::NotStarted { .. } => "secure_boot",
            Self::Firmware { .. } => "firmware",
            Self::Confine(_) => "sandbox",
        }
    }

    fn next(&self) -> String {
        let text = match self {
            Self::Open(_) | Self::Bundle(atalaya_bundle::Error::Read { .. }) => {
                "See to it that the bundle can be read there, then start the update again: what is in place already is not fetched again."
            }
            Self::Bundle(atalaya_bundle::Error::Write { .. }) | Self::Kept { .. } => {
                "Look at the space and the disk in `atalaya status`, then start the update again."
            }
            Self::Bundle(atalaya_bundle::Error::Refused(refusal)) => return refusal.next(),
            Self::Slot { .. } | Self::ReadBack { .. } => {
                "Start the update again. If it stays so, the disk is failing: make a backup now and replace it."
            }
            Self::Held(_) | Self::Running(_) => "Restart the machine, then start the update again.",
            Self::NoSlots => {
                "An update needs the disk that the image was written to: install it anew."
            }
            Self::Small { .. } => {
                "The disk is of an older layout: install the image anew, keeping /data."
            }
            Self::Space { .. } => "Make room on /data, then start the update again.",
            Self::NotStarted {
                problem: Problem::Revoked,
                ..
            } => "Use a newer bundle: this one's content was revoked.",
            Self::NotStarted { .. } => {
                "Use a bundle that is signed for this machine's firmware, put its certificate into the firmware's db, or turn Secure Boot off there, then start the update again (docs/secure-boot.md)."
            }
            Self::Firmware { .. } => {
                "Restore the Secure Boot keys in the firmware's settings, or turn Secure Boot off there, then start the update again (docs/secure-boot.md)."
            }
            Self::Confine(_) => "Read the log: atalaya logs -u update-install.",
            Self::Trust(_) => {
                "Install an image whose keys are whole; /data can be kept (docs/keys.md)."
            }
        };
        text.to_owned()
    }

    /// `begun`: the other slot had been marked invalid before.
    pub fn told(&self, begun: bool) -> task::Refusal {
        let mut what = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(inner) = source {
            what.push_str(": ");
            what.push_str(&inner.to_string());
            source = inner.source();
        }
        let mut letters = what.chars();
        if let Some(first) = letters.next() {
            what = format!("{}{}.", first.to_uppercase(), letters.as_str());
        }
        let data = if begun {
            "The running system and its data were not touched. The other slot is marked as holding nothing."
        } else {
            "The running system, its data and the other slot were not touched."
        };
        task::Refusal {
            code: self.code().to_owned(),
            what,
            data: data.to_owned(),
            next: self.next(),
        }
    }
}

//! Why reading a bundle ended: its bytes could not be had or not be put anywhere, or it was refused.

use std::io;

use crate::refusal::Refusal;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the source; trying again may help.
    #[error("failed to read {entry} of the bundle")]
    Read {
        entry: &'static str,
        #[source]
        source: io::Error,
    },
    /// Of whoever takes the verified bytes.
    #[error("failed to write {entry} of the bundle")]
    Write {
        entry: &'static str,
        #[source]
        source: io::Error,
    },
    /// Of the bundle; trying again will not help.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

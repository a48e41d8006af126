//! `mmctl --local`: the real one's arguments and words, for the commands that the appliance and its tests use.
//!
//! Speaks API v4 over the local-mode socket and nothing else; it has no log-in of its own.

pub mod arguments;
mod client;
mod commands;
mod format;
mod people;
mod places;

use arguments::Arguments;
pub use client::ClientError;

#[derive(Debug, thiserror::Error)]
pub enum MmctlError {
    #[error("this mmctl is a stand-in and works with --local only")]
    NotLocal,
    #[error("{0}")]
    Command(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Runs one command and returns what it prints.
pub async fn run(arguments: Arguments) -> Result<String, MmctlError> {
    commands::run(arguments).await
}

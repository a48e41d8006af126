//! The contract suite: what the appliance relies on of Mattermost, checked against any server by its address.
//!
//! Answers are compared with recordings of a real server (`../contract`): status, headers that clients rely on, names
//! and types of fields. It knows nothing of the stand-in, makes what it needs under names of its own, removes what the
//! API lets it remove, and may be run on the same server again and again.

mod checks;
mod client;
mod http2;
mod local;
mod recording;
mod shape;
mod socket;

pub use client::ClientError;

use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// A server, and an administrator's log-in on it.
#[derive(Clone, Debug)]
pub struct Target {
    /// `https://host[:port]` (or http://), as users type it: certificates, Host and Origin follow it.
    pub address: String,
    /// The certificate authority to trust, PEM. Needed for https.
    pub ca_pem: Option<String>,
    pub admin: String,
    pub password: String,
    /// The local-mode socket, where the suite runs on the server's own machine: further checks, better cleaning.
    pub local_socket: Option<PathBuf>,
    /// The longest that one call, or one wait for an event, may take.
    pub timeout: Duration,
    /// Fields that the recordings do not have are failures, too (a newer real server may have some).
    pub strict: bool,
    /// Everything goes over one HTTP/2 connection, WebSockets too; https only.
    pub http2: bool,
}

impl Target {
    pub fn new(
        address: impl Into<String>,
        admin: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        Self {
            address: address.into(),
            ca_pem: None,
            admin: admin.into(),
            password: password.into(),
            local_socket: None,
            timeout: Duration::from_secs(30),
            strict: false,
            http2: false,
        }
    }
}

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub passed: bool,
    /// Why it failed; empty when it passed.
    pub detail: String,
    pub milliseconds: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    pub fn passed(&self) -> usize {
        self.checks.iter().filter(|c| c.passed).count()
    }

    pub fn failed(&self) -> usize {
        self.checks.len() - self.passed()
    }

    pub fn all_passed(&self) -> bool {
        !self.checks.is_empty() && self.failed() == 0
    }

    /// One line per failed check.
    pub fn failures(&self) -> Vec<String> {
        self.checks
            .iter()
            .filter(|c| !c.passed)
            .map(|c| format!("{}: {}", c.name, c.detail))
            .collect()
    }
}

/// Runs every check; `said` is told each result as it comes. A check that fails never stops the others.
///
/// # Errors
/// Only if the target itself cannot be used: its address or its certificate authority makes no sense.
pub fn run_telling(target: &Target, said: &mut dyn FnMut(&Check)) -> Result<Report, ClientError> {
    checks::run(target, said)
}

/// Runs every check and returns what came of it.
///
/// # Errors
/// As [`run_telling`].
pub fn run(target: &Target) -> Result<Report, ClientError> {
    run_telling(target, &mut |_| {})
}

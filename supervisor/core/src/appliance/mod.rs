//! `appliance.toml`, the one file that says what the machine is: its types, its reader and its writer.
//!
//! Decides what a valid file is. Every mistake is reported at once, each with key, line, value, what is allowed and an
//! example; an unknown key is a mistake. It must not open files, look up names or know where a file came from.
//!
//! The same schema has three readers: [`parse_seed`] takes everything; [`parse_stored`] refuses the administrator's
//! password, which is never kept; [`parse_public`] takes no secret at all. Secrets are values of their own beside the
//! [`Appliance`], so that whoever has one can show it.

mod check;
mod consequences;
pub mod edge;
pub(crate) mod key;
pub mod keys;
mod reader;
pub mod reference;
mod secret;
pub mod tls;
mod value;
mod words;
mod writer;

use std::fmt;

pub use consequences::{CertificateConsequence, certificate_consequences};
pub use reader::{parse_public, parse_seed, parse_stored};
pub use secret::Secret;
pub use value::network::DnsName;
pub use value::pem::Pem;
pub use value::{Email, Host, Hostname, SiteAddress, Username};

use edge::Edge;
use reader::File;
use tls::{Secrets, Tls};

/// The largest `appliance.toml` that is read, in bytes. The whole schema with comments is some hundred times smaller.
pub const MAX_BYTES: usize = 64 * 1024;

/// Everything that `appliance.toml` can say. A key that is absent has the default of this type's `Default`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Appliance {
    pub hostname: Hostname,
    pub site: Site,
    pub administrator: Administrator,
    pub tls: Tls,
    pub edge: Edge,
    pub update: Update,
}

/// `[site]`: what browsers type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// Absent: `https://` and the machine's first address.
    pub address: Option<SiteAddress>,
    /// Others that the certificate is for. Whoever comes by one of them is sent on to the address.
    pub names: Vec<DnsName>,
}

/// `[administrator]`: the first one, made at first boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Administrator {
    pub username: Username,
    pub email: Email,
}

/// `[update]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Seconds without progress after which a migration in a trial has failed.
    pub migration_patience_seconds: u64,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            migration_patience_seconds: 900,
        }
    }
}

/// A seed: the file, and the one thing in it that must not be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seed {
    pub appliance: Appliance,
    pub secrets: Secrets,
    pub password: Option<Secret>,
}

/// The file that is kept: for root alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    pub appliance: Appliance,
    pub secrets: Secrets,
}

impl Stored {
    /// The file's text. [`parse_stored`] gives the same value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let seed = Seed {
            appliance: self.appliance.clone(),
            secrets: self.secrets.clone(),
            password: None,
        };
        writer::text(&seed, File::Stored)
    }
}

impl Appliance {
    /// The file's text without any secret. [`parse_public`] gives the same value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let seed = Seed {
            appliance: self.clone(),
            ..Seed::default()
        };
        writer::text(&seed, File::Public)
    }
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted, as in `site.address`. Empty when the file as a whole is wrong.
    pub key: String,
    /// Counted from 1; 0 when the file as a whole is wrong.
    pub line: usize,
    /// As written in the file, cut short; never a secret.
    pub value: Option<String>,
    /// What is wrong.
    pub wrong: String,
    /// What is allowed, with an example.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        match (&self.value, self.key.as_str()) {
            (Some(value), key) if !key.is_empty() => write!(f, "{key} = {value}: ")?,
            (None, key) if !key.is_empty() => write!(f, "{key}: ")?,
            (_, _) => {}
        }
        write!(f, "{}; allowed: {}", self.wrong, self.allowed)
    }
}

/// Why a file was refused: every mistake in it, in the order of the lines, never none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", join(.0))]
pub struct Invalid(pub Vec<Problem>);

fn join(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;

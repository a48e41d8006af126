//! `certificate.json` in the public directory: what is served and how its renewal goes, for status, console and metrics.
//! The format; who fills it is the sources' business.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    /// As configured: `internal`, `acme` or `static`.
    pub mode: String,
    /// What new connections get: `throwaway`, `internal`, `static` or `acme`.
    pub serving: String,
    pub names: Vec<String>,
    pub issuer: String,
    pub not_before: i64,
    pub not_after: i64,
    /// SHA-256 of the served certificate, upper-case hexadecimal in pairs with colons.
    pub sha256: String,
    pub renewal: Renewal,
    /// The internal authority, once it is made.
    pub authority: Option<Authority>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// When the next attempt is due; None where nothing renews by itself.
    pub next_at: Option<i64>,
    pub last_attempt_at: Option<i64>,
    /// Why the last attempt failed, in words for people; None after a success.
    pub error: Option<String>,
    pub failures: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    pub sha256: String,
    /// Names and networks that it may sign for.
    pub constrained_to: Vec<String>,
    /// The authority before it, which devices may still trust instead: each must be told of this one.
    pub replaces: Option<String>,
}

/// A certificate's SHA-256 as people compare it: upper-case hexadecimal in pairs with colons.
pub fn fingerprint(der: &[u8]) -> String {
    let pairs: Vec<String> = Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    pairs.join(":")
}

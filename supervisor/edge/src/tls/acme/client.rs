//! What the edge wants of an authority, whichever library speaks to it, and how it can fail, in words for the status screen.

use std::future::Future;
use std::pin::Pin;

use super::cache::{Account, CacheError};
use super::dns::DnsError;
use super::proof::Proofs;
use crate::settings::Challenge;

/// What is asked for.
pub struct Order<'a> {
    pub names: &'a [String],
    /// Certificate signing request, DER.
    pub request: &'a [u8],
    /// How each name is proved.
    pub challenge: Challenge,
    /// The certificate that it is to replace (ARI), DER.
    pub replaces: Option<&'a [u8]>,
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failed>> + Send + 'a>>;

/// One authority. Each call is cut off by the caller's time limit.
pub trait Client: Send + Sync {
    /// Makes an account; the terms have been agreed to in the settings.
    fn register(&self) -> Answer<'_, Account>;

    /// The certificate chain, PEM. Proofs that were placed are the caller's to clear away.
    fn order<'a>(
        &'a self,
        account: &'a Account,
        order: Order<'a>,
        proofs: &'a Proofs,
    ) -> Answer<'a, String>;
}

/// With what the authority said about when to come back.
#[derive(Debug)]
pub struct Failed {
    pub failure: Failure,
    /// Seconds.
    pub retry_after: Option<i64>,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            retry_after: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the authority {directory} cannot be reached")]
    Unreachable {
        directory: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A problem document (RFC 7807); `kind` is the last part of its type (RFC 8555 section 6.7).
    #[error("the authority refuses {what}: {detail} ({kind})")]
    Refused {
        what: &'static str,
        kind: String,
        detail: String,
        status: u16,
    },
    #[error("the authority could not see by {challenge} that {name} is this machine: {detail}")]
    NotProved {
        name: String,
        challenge: &'static str,
        detail: String,
    },
    #[error("the authority does not offer {challenge} for {name}")]
    NotOffered {
        name: String,
        challenge: &'static str,
    },
    #[error("the authority did not finish the order in time")]
    TooSlow,
    #[error("the authority gave a certificate that cannot be used: {why}")]
    Unusable { why: &'static str },
    #[error("failed to place the proof in the DNS")]
    Dns(#[from] DnsError),
    #[error("failed to make the certificate's key")]
    Key { source: rcgen::Error },
    #[error("failed to make the connection's trust: {why}")]
    Trust { why: String },
    #[error("the order is not placed, for what it brings could not be kept")]
    Store(#[from] CacheError),
    #[error("{what} in the settings cannot be used")]
    Settings { what: &'static str },
}

impl Failure {
    /// Another account has to be made before anything else can work.
    pub fn is_account_gone(&self) -> bool {
        match self {
            Self::Refused { kind, what, .. } => {
                kind == "accountDoesNotExist"
                    || (kind == "unauthorized" && matches!(*what, NEW_ORDER | NEW_ACCOUNT))
            }
            _ => false,
        }
    }

    pub fn is_stale_nonce(&self) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == "badNonce")
    }

    /// The authority is busy or has had enough: its Retry-After counts.
    pub fn asks_for_patience(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: 429 | 503,
                ..
            }
        )
    }

    /// Another way to prove the name may work.
    pub fn is_about_the_challenge(&self) -> bool {
        matches!(
            self,
            Self::NotProved { .. } | Self::NotOffered { .. } | Self::Dns(_)
        )
    }
}

pub const NEW_ACCOUNT: &str = "the account";
pub const NEW_ORDER: &str = "the order";
pub const AUTHORIZATION: &str = "to show what has to be proved";
pub const CHALLENGE: &str = "to look at the proof";
pub const FINALIZE: &str = "to sign";
pub const CERTIFICATE: &str = "to hand out the certificate";

/// The last part of `urn:ietf:params:acme:error:KIND`.
pub fn kind(urn: Option<&str>) -> String {
    urn.and_then(|urn| urn.rsplit(':').next())
        .unwrap_or("no reason given")
        .to_owned()
}

impl Challenge {
    /// As RFC 8555 and RFC 8737 call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn => "tls-alpn-01",
            Self::Http => "http-01",
            Self::Dns => "dns-01",
        }
    }
}

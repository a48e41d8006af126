//! Answers to an ACME server that looks whether this machine has the name: by path on port 80, by a certificate on port 443.
//! Holds them for as long as an order needs them; decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::sign::CertifiedKey;

/// The ALPN protocol of TLS-ALPN-01 (RFC 8737).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Shared by the order that sets them and by the ports that answer with them.
#[derive(Debug, Clone, Default)]
pub struct Challenges {
    tokens: Arc<RwLock<BTreeMap<String, String>>>,
    certificates: Arc<RwLock<BTreeMap<String, Arc<CertifiedKey>>>>,
}

impl Challenges {
    /// HTTP-01 (RFC 8555 section 8.3): what `/.well-known/acme-challenge/TOKEN` answers.
    pub fn set_token(&self, token: &str, authorization: &str) {
        self.tokens
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token.to_owned(), authorization.to_owned());
    }

    pub fn token(&self, token: &str) -> Option<String> {
        self.tokens
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .cloned()
    }

    /// TLS-ALPN-01: the certificate for a handshake that names `name` and offers nothing but [`ACME_TLS`].
    pub fn set_certificate(&self, name: &str, certified: Arc<CertifiedKey>) {
        self.certificates
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_ascii_lowercase(), certified);
    }

    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&name.to_ascii_lowercase())
            .cloned()
    }

    /// The order is over.
    pub fn clear(&self) {
        self.tokens
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.certificates
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

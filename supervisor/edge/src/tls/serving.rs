//! Which certificate a new connection gets: the best source that has a valid one. Replaced without touching old connections.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::challenges::{ACME_TLS, Challenges};

/// Where a certificate comes from; a later one goes before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Made at each start while the site's address is not known.
    Throwaway,
    /// Signed by the internal authority.
    Internal,
    /// Given in appliance.toml.
    Static,
    Acme,
}

/// The certificates that there are, one a source.
#[derive(Debug, Default)]
pub struct Serving {
    offers: RwLock<Vec<(Source, Arc<CertifiedKey>)>>,
    challenges: Challenges,
}

impl Serving {
    pub fn new(challenges: Challenges) -> Self {
        Self {
            offers: RwLock::default(),
            challenges,
        }
    }

    /// New connections get it from now on, unless a better source has one.
    pub fn offer(&self, source: Source, certified: Arc<CertifiedKey>) {
        let mut offers = self.offers.write().unwrap_or_else(PoisonError::into_inner);
        offers.retain(|(known, _)| *known != source);
        offers.push((source, certified));
        offers.sort_by_key(|(source, _)| std::cmp::Reverse(*source));
    }

    /// It is no longer served: expired, or not wanted any more.
    pub fn withdraw(&self, source: Source) {
        self.offers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(known, _)| *known != source);
    }

    /// What a new connection gets.
    pub fn current(&self) -> Option<(Source, Arc<CertifiedKey>)> {
        self.offers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .first()
            .cloned()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asks_for_proof = hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS));
        if asks_for_proof {
            return self.challenges.certificate(hello.server_name()?);
        }
        self.current().map(|(_, certified)| certified)
    }
}

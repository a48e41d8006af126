//! Which certificate a new connection gets: the best source whose certificate has not expired. Replaced without touching old connections.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::challenges::{ACME_TLS, Challenges};

/// Where a certificate comes from; a later one goes before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Made at each start while the site's address is not known, or the authority cannot be used.
    Throwaway,
    /// Signed by the internal authority.
    Internal,
    /// Given in appliance.toml.
    Static,
    Acme,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Self::Throwaway => "throwaway",
            Self::Internal => "internal",
            Self::Static => "static",
            Self::Acme => "acme",
        }
    }
}

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct Offer {
    pub source: Source,
    pub certified: Arc<CertifiedKey>,
    /// Seconds since 1970.
    not_after: i64,
}

/// The certificates that there are, one a source.
#[derive(Debug, Default)]
pub struct Serving {
    /// The best first.
    offers: Mutex<Vec<Offer>>,
    current: ArcSwapOption<Offer>,
    challenges: Challenges,
}

impl Serving {
    pub fn new(challenges: Challenges) -> Self {
        Self {
            challenges,
            ..Self::default()
        }
    }

    /// New connections get it from now on, unless a better source has one.
    pub fn offer(&self, source: Source, certified: Arc<CertifiedKey>, now: UnixTime) {
        let offer = Offer {
            source,
            not_after: not_after(&certified),
            certified,
        };
        self.change(now, |offers| {
            offers.retain(|known| known.source != source);
            offers.push(offer);
            offers.sort_by_key(|offer| std::cmp::Reverse(offer.source));
        });
    }

    /// It is not wanted any more.
    pub fn withdraw(&self, source: Source, now: UnixTime) {
        self.change(now, |offers| offers.retain(|known| known.source != source));
    }

    /// Time has passed: what has expired makes room for the next best. That a certificate is not valid yet says more about this machine's
    /// clock than about the certificate.
    pub fn settle(&self, now: UnixTime) {
        self.change(now, |_| {});
    }

    pub fn has(&self, source: Source) -> bool {
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers.iter().any(|offer| offer.source == source)
    }

    /// What one source has to offer, served or not.
    pub fn offered(&self, source: Source) -> Option<Arc<CertifiedKey>> {
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers
            .iter()
            .find(|offer| offer.source == source)
            .map(|offer| Arc::clone(&offer.certified))
    }

    /// What a new connection gets.
    pub fn current(&self) -> Option<Arc<Offer>> {
        self.current.load_full()
    }

    /// Whose certificate a new connection gets; costs no lock and no count.
    pub fn source(&self) -> Option<Source> {
        self.current.load().as_ref().map(|offer| offer.source)
    }

    fn change(&self, now: UnixTime, change: impl FnOnce(&mut Vec<Offer>)) {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut offers);
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let best = offers
            .iter()
            .find(|offer| now <= offer.not_after)
            .or_else(|| offers.first());
        self.current.store(best.cloned().map(Arc::new));
    }
}

/// A certificate that cannot be read never gets here; should it, it expires at once.
fn not_after(certified: &CertifiedKey) -> i64 {
    certified
        .end_entity_cert()
        .ok()
        .and_then(|der| X509Certificate::from_der(der).ok())
        .map_or(0, |(_, parsed)| parsed.validity().not_after.timestamp())
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asks_for_proof = hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS));
        if asks_for_proof {
            return self.challenges.certificate(hello.server_name()?);
        }
        let current = self.current.load();
        current.as_ref().map(|offer| Arc::clone(&offer.certified))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tls::constraints::Constraints;
    use crate::tls::internal::{Subject, make_authority, make_key, make_leaf};
    use crate::tls::throwaway;

    const DAY: u64 = 86_400;

    fn at(day: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((20_000 + day) * DAY))
    }

    fn subject() -> Subject {
        Subject {
            names: ["localhost".to_owned()].into(),
            addresses: [].into(),
        }
    }

    /// Valid for 397 days from `day` on.
    fn leaf(day: u64) -> Arc<CertifiedKey> {
        let constraints = Constraints::of(&subject().names, None);
        let authority = make_authority(&make_key().unwrap(), &constraints, at(day)).unwrap();
        let leaf = make_leaf(&authority, &subject(), at(day)).unwrap();
        leaf.certified().unwrap()
    }

    fn serves(serving: &Serving) -> Option<Source> {
        assert_eq!(
            serving.current().map(|offer| offer.source),
            serving.source()
        );
        serving.source()
    }

    #[test]
    fn the_best_source_serves_until_it_expires_and_then_the_next_best() {
        let serving = Serving::new(Challenges::default());
        assert_eq!(serves(&serving), None);
        serving.offer(Source::Internal, leaf(300), at(300));
        serving.offer(Source::Acme, leaf(0), at(300));
        serving.offer(
            Source::Throwaway,
            throwaway::make(&subject()).unwrap(),
            at(300),
        );
        assert_eq!(serves(&serving), Some(Source::Acme));
        serving.settle(at(395));
        assert_eq!(serves(&serving), Some(Source::Acme));
        serving.settle(at(397));
        assert_eq!(serves(&serving), Some(Source::Internal));
        // The clock was wrong, or there is a new one.
        serving.settle(at(301));
        assert_eq!(serves(&serving), Some(Source::Acme));
        serving.withdraw(Source::Acme, at(301));
        serving.withdraw(Source::Internal, at(301));
        assert_eq!(serves(&serving), Some(Source::Throwaway));
    }

    #[test]
    fn an_expired_certificate_is_better_than_none_and_one_that_is_early_serves() {
        let serving = Serving::new(Challenges::default());
        serving.offer(Source::Static, leaf(1000), at(0));
        assert_eq!(serves(&serving), Some(Source::Static));
        serving.settle(at(5000));
        assert_eq!(serves(&serving), Some(Source::Static));
    }
}

//! Proofs that this machine has a name, placed for as long as an order needs them: on port 80, in the handshake, in the DNS.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::client::Failure;
use super::dns::{Placed, Zones};
use crate::settings::Challenge;
use crate::tls::challenges::Challenges;

/// Where proofs are put.
pub struct Proofs {
    challenges: Challenges,
    zones: Option<Zones>,
    placed: Mutex<Vec<Placed>>,
}

impl Proofs {
    pub fn new(challenges: Challenges, zones: Option<Zones>) -> Self {
        Self {
            challenges,
            zones,
            placed: Mutex::default(),
        }
    }

    /// Makes the proof visible to the authority. `authorization` is the key authorization (RFC 8555 section 8.1).
    pub async fn place(
        &self,
        challenge: Challenge,
        name: &str,
        token: &str,
        authorization: &str,
    ) -> Result<(), Failure> {
        match challenge {
            Challenge::Http => self.challenges.set_token(token, authorization),
            Challenge::TlsAlpn => self
                .challenges
                .set_certificate(name, proof_certificate(name, authorization)?),
            Challenge::Dns => {
                let zones = self.zones.as_ref().ok_or(Failure::Settings {
                    what: "dns-01 without tls.acme.dns",
                })?;
                let value = super::base64url_text(&Sha256::digest(authorization));
                let placed = zones.place(name, &value).await?;
                self.placed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(placed);
            }
        }
        Ok(())
    }

    /// A handshake's proof that the library made itself.
    pub fn place_certificate(&self, name: &str, certified: CertifiedKey) {
        self.challenges.set_certificate(name, Arc::new(certified));
    }

    /// Takes all of them away again. What cannot be taken out of the DNS harms nobody: its token is used up.
    pub async fn clear(&self) {
        self.challenges.clear();
        let placed =
            std::mem::take(&mut *self.placed.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(zones) = &self.zones {
            for record in placed {
                drop(zones.remove(record).await);
            }
        }
    }
}

/// RFC 8737 section 3: self-signed, for the name alone, with the digest of the key authorization.
fn proof_certificate(name: &str, authorization: &str) -> Result<Arc<CertifiedKey>, Failure> {
    let make = |source| Failure::Key { source };
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(make)?;
    let digest = Sha256::digest(authorization);
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    CertifiedKey::from_der(
        vec![certificate.der().clone()],
        key,
        &aws_lc_rs::default_provider(),
    )
    .map(Arc::new)
    .map_err(|_| Failure::Unusable {
        why: "the proof's own key does not fit it",
    })
}

//! The internal certificate authority and the server's own certificate: makes them and says when the latter must be made anew.
//! Works on values; files are `store`'s business, and the clock is passed in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::constraints::Constraints;

/// How long a server certificate is valid: below 398 days, the strictest limit that any client sets.
const LEAF_LIFE: Duration = Duration::from_secs(397 * DAY);
/// How far back a server certificate's life begins, so that a client with a slow clock accepts it.
const LEAF_BACKDATE: Duration = Duration::from_secs(DAY);
/// How long the authority is valid from its making. Every device must be told of a new one by hand.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * DAY);
const DAY: u64 = 86_400;

/// What a server certificate must be valid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub names: BTreeSet<String>,
    pub addresses: BTreeSet<IpAddr>,
}

impl Subject {
    /// A certificate's content with these names and addresses, and nothing else yet.
    pub fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let names: Vec<String> = self.names.iter().cloned().collect();
        let mut params = CertificateParams::new(names)?;
        let addresses = self.addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        Ok(params)
    }

    /// For people, names first.
    pub fn describe(&self) -> Vec<String> {
        let names = self.names.iter().cloned();
        names
            .chain(self.addresses.iter().map(ToString::to_string))
            .collect()
    }
}

/// The authority, ready to sign.
pub struct Authority {
    pub pem: String,
    pub der: CertificateDer<'static>,
    pub constraints: Constraints,
    issuer: Issuer<'static, KeyPair>,
}

/// A server certificate and its key as they are written to disk: certificate first, one text, so that they cannot be torn apart.
pub struct Leaf {
    pub pem: String,
}

impl Leaf {
    /// Ready to serve.
    pub fn certified(&self) -> Result<Arc<CertifiedKey>, Remake> {
        let key = PrivateKeyDer::from_pem_slice(self.pem.as_bytes())
            .map_err(|_| Remake::Unreadable("its key is not in PEM"))?;
        let der = CertificateDer::from_pem_slice(self.pem.as_bytes())
            .map_err(|_| Remake::Unreadable("it is not in PEM"))?;
        CertifiedKey::from_der(vec![der], key, &aws_lc_rs::default_provider())
            .map(Arc::new)
            .map_err(|_| Remake::Unreadable("key and certificate do not belong together"))
    }
}

/// Why a server certificate must be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Remake {
    #[error("there is none yet")]
    Missing,
    #[error("the stored one cannot be read ({0})")]
    Unreadable(&'static str),
    #[error("names or addresses changed")]
    NamesChanged,
    #[error("two thirds of its life are over")]
    Due,
    #[error("it is not valid under this authority at this time ({0})")]
    Invalid(String),
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("failed to make {what}")]
    Make {
        what: &'static str,
        source: rcgen::Error,
    },
    #[error("the key is not a usable private key in PEM")]
    Key,
    #[error("the certificate is not a certificate in PEM")]
    NotACertificate,
    #[error("certificate and key do not belong together")]
    Mismatch,
    #[error("the certificate does not say what it may sign for")]
    Unconstrained,
    #[error("a certificate that was just made is not valid: {0}")]
    Unusable(String),
}

/// A new key for the authority, PEM (PKCS #8), ECDSA P-256.
pub fn make_key() -> Result<String, CertificateError> {
    Ok(new_key_pair()?.serialize_pem())
}

/// The authority's certificate for a key. The same key gives the same subject, so that devices which trust one certificate of a key trust
/// every other of it, within the constraints that they know.
pub fn make_authority(
    key_pem: &str,
    constraints: &Constraints,
    now: UnixTime,
) -> Result<Authority, CertificateError> {
    let make = |source| CertificateError::Make {
        what: "the internal certificate authority",
        source,
    };
    let key = parse_key(key_pem)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(make)?;
    // Two appliances in one organisation must not have authorities of one name and different keys: path building would mix them up.
    let id: String = params
        .key_identifier(&key)
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Atalaya");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Atalaya internal CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.name_constraints = Some(constraints.extension());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A fixed day in the past: the first boot may run on a clock that is ahead, and this certificate cannot be made again.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs()) + CA_LIFE;
    let certificate = params.self_signed(&key).map_err(make)?;
    read_authority(&certificate.pem(), key_pem)
}

/// Reads the stored authority and checks that certificate and key are a pair.
pub fn read_authority(certificate_pem: &str, key_pem: &str) -> Result<Authority, CertificateError> {
    let key = parse_key(key_pem)?;
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
        .map_err(|_| CertificateError::NotACertificate)?;
    let (rest, parsed) =
        X509Certificate::from_der(&der).map_err(|_| CertificateError::NotACertificate)?;
    if !rest.is_empty() {
        return Err(CertificateError::NotACertificate);
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(CertificateError::Mismatch);
    }
    let constraints = Constraints::read(&parsed).ok_or(CertificateError::Unconstrained)?;
    let issuer =
        Issuer::from_ca_cert_der(&der, key).map_err(|_| CertificateError::NotACertificate)?;
    Ok(Authority {
        pem: certificate_alone(certificate_pem).ok_or(CertificateError::NotACertificate)?,
        der,
        constraints,
        issuer,
    })
}

/// The certificate's part of a file that may hold its key too: what is published must never hold that.
fn certificate_alone(pem: &str) -> Option<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let (_, rest) = pem.split_once(BEGIN)?;
    let (inside, _) = rest.split_once(END)?;
    Some(format!("{BEGIN}{inside}{END}\n"))
}

/// A new key and certificate for the server, valid from a day ago.
pub fn make_leaf(
    authority: &Authority,
    subject: &Subject,
    now: UnixTime,
) -> Result<Leaf, CertificateError> {
    let make = |source| CertificateError::Make {
        what: "the server certificate",
        source,
    };
    let key = new_key_pair()?;
    let mut params = subject.params().map_err(make)?;
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Atalaya");
    params
        .distinguished_name
        .push(DnType::CommonName, "Atalaya server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before =
        date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs()) - LEAF_BACKDATE;
    params.not_after = params.not_before + LEAF_LIFE;
    let certificate = params.signed_by(&key, &authority.issuer).map_err(make)?;
    Ok(Leaf {
        pem: certificate.pem() + &key.serialize_pem(),
    })
}

/// The stored server certificate, if it still serves; else why it must be made anew.
pub fn assess_leaf(
    stored: Option<&Leaf>,
    authority: &CertificateDer<'static>,
    subject: &Subject,
    now: UnixTime,
) -> Result<Arc<CertifiedKey>, Remake> {
    let certified = stored.ok_or(Remake::Missing)?.certified()?;
    let der = certified
        .end_entity_cert()
        .map_err(|_| Remake::Unreadable("it is empty"))?;
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|_| Remake::Unreadable("it is not a certificate"))?;
    if subject_of(&parsed) != *subject {
        return Err(Remake::NamesChanged);
    }
    verify(der, authority, subject, now).map_err(|error| Remake::Invalid(error.to_string()))?;
    if i64::try_from(now.as_secs()).unwrap_or(i64::MAX) >= due(&parsed) {
        return Err(Remake::Due);
    }
    Ok(certified)
}

/// When two thirds of its life are over, seconds since 1970.
pub fn due(certificate: &X509Certificate<'_>) -> i64 {
    let validity = certificate.validity();
    let (from, until) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    // Seconds since 1970 in 64 bits: no overflow before the year 97 billion.
    from + (until - from) * 2 / 3
}

/// What a client would check: chain, dates, and every name and address.
fn verify(
    leaf: &CertificateDer<'_>,
    authority: &CertificateDer<'static>,
    subject: &Subject,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.clone())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::new(aws_lc_rs::default_provider()),
    )
    .build()
    .map_err(|error| rustls::Error::General(error.to_string()))?;
    let names = subject
        .names
        .iter()
        .filter_map(|name| ServerName::try_from(name.as_str()).ok());
    let addresses = subject
        .addresses
        .iter()
        .map(|address| ServerName::from(*address));
    for name in names.chain(addresses) {
        verifier.verify_server_cert(leaf, &[], &name, &[], now)?;
    }
    Ok(())
}

pub fn subject_of(certificate: &X509Certificate<'_>) -> Subject {
    let mut subject = Subject {
        names: BTreeSet::new(),
        addresses: BTreeSet::new(),
    };
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => {
                    subject.names.insert((*name).to_owned());
                }
                GeneralName::IPAddress(bytes) => {
                    let address = <[u8; 4]>::try_from(*bytes)
                        .map(IpAddr::from)
                        .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                    subject.addresses.extend(address);
                }
                _ => {}
            }
        }
    }
    subject
}

fn parse_key(pem: &str) -> Result<KeyPair, CertificateError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .ok()
        .and_then(|der| KeyPair::try_from(&der).ok())
        .ok_or(CertificateError::Key)
}

pub fn new_key_pair() -> Result<KeyPair, CertificateError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| CertificateError::Make {
        what: "a key",
        source,
    })
}

#[cfg(test)]
mod tests;

//! A certificate that somebody else made, given as PEM: whether it can be served. Works on values; the clock is passed in.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::settings::{Secrets, Settings};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FixedError {
    #[error(
        "tls.static.certificate is missing: it holds the server's certificate in PEM, and the intermediate ones after it"
    )]
    NoCertificate,
    #[error(
        "tls.static.certificate is not readable as PEM certificates: number {number} is damaged"
    )]
    NotACertificate { number: usize },
    #[error(
        "tls.static.key is missing: it holds the certificate's private key in PEM, without a password"
    )]
    NoKey,
    #[error(
        "tls.static.key is protected by a password, which nobody could type at a start: give the key without one"
    )]
    EncryptedKey,
    #[error(
        "tls.static.key is not a private key in PEM that can be used (PKCS #8, SEC 1 or PKCS #1; RSA, ECDSA or Ed25519)"
    )]
    BadKey,
    #[error("tls.static.key does not belong to the first certificate of tls.static.certificate")]
    Mismatch,
    #[error(
        "tls.static.certificate is not a chain: certificate {number} is not signed by the one after it; the order is the server's, then each \
         one's issuer"
    )]
    Chain { number: usize },
    #[error("tls.static.certificate: certificate {number} expired on {date}")]
    Expired { number: usize, date: String },
    #[error("tls.static.certificate is not for the site: it names {names}, the site is {site}")]
    Names { names: String, site: String },
    #[error("tls.static.certificate is not a server's certificate: {why}")]
    Purpose { why: String },
}

/// The pair of the settings, checked against their site.
pub fn read(
    settings: &Settings,
    secrets: &Secrets,
    now: UnixTime,
) -> Result<Arc<CertifiedKey>, FixedError> {
    let host = settings.site.as_ref().map(|site| site.host());
    let key = secrets.static_key.as_deref().unwrap_or_default();
    check(&settings.tls.certificate, key, host, now)
}

/// Checks chain, key, dates and the site's name. A certificate that is not valid yet is served: only a clock that is behind sees one. Whom
/// the last of the chain is signed by is between the issuer and the devices.
pub fn check(
    certificate: &str,
    key: &str,
    site: Option<&str>,
    now: UnixTime,
) -> Result<Arc<CertifiedKey>, FixedError> {
    let chain = read_chain(certificate)?;
    let key = read_key(key)?;
    let parsed = chain
        .iter()
        .enumerate()
        .map(|(index, der)| match X509Certificate::from_der(der) {
            Ok(([], parsed)) => Ok(parsed),
            _ => Err(FixedError::NotACertificate { number: index + 1 }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let certified = CertifiedKey::from_der(chain.clone(), key, &aws_lc_rs::default_provider())
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => FixedError::Mismatch,
            _ => FixedError::BadKey,
        })?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    for (index, certificate) in parsed.iter().enumerate() {
        let end = certificate.validity().not_after;
        if seconds > end.timestamp() {
            return Err(FixedError::Expired {
                number: index + 1,
                date: end.to_rfc2822().unwrap_or_else(|text| text),
            });
        }
    }
    check_chain(&chain, &parsed, now)?;
    if let Some(site) = site {
        check_name(&chain, &parsed, site)?;
    }
    Ok(Arc::new(certified))
}

fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, FixedError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .enumerate()
        .map(|(index, der)| der.map_err(|_| FixedError::NotACertificate { number: index + 1 }))
        .collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(if pem.trim().is_empty() {
            FixedError::NoCertificate
        } else {
            FixedError::NotACertificate { number: 1 }
        });
    }
    Ok(chain)
}

fn read_key(pem: &str) -> Result<PrivateKeyDer<'static>, FixedError> {
    if pem.trim().is_empty() {
        return Err(FixedError::NoKey);
    }
    // PKCS #8, and the header line of OpenSSL's older format.
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(FixedError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| FixedError::BadKey)
}

/// Each one signed by the next, as a client sees it that trusts the last.
fn check_chain(
    chain: &[CertificateDer<'static>],
    parsed: &[X509Certificate<'_>],
    now: UnixTime,
) -> Result<(), FixedError> {
    for (index, pair) in parsed.windows(2).enumerate() {
        if let [one, issuer] = pair
            && one.issuer() != issuer.subject()
        {
            return Err(FixedError::Chain { number: index + 1 });
        }
    }
    let [server, between @ .., last] = chain else {
        return Ok(());
    };
    let whole = FixedError::Chain {
        number: chain.len() - 1,
    };
    let mut roots = RootCertStore::empty();
    roots.add(last.clone()).map_err(|_| whole)?;
    let server = ParsedCertificate::try_from(server)
        .map_err(|_| FixedError::NotACertificate { number: 1 })?;
    // The clock may be behind all of them.
    let begin = parsed
        .iter()
        .map(|one| one.validity().not_before.timestamp())
        .max()
        .and_then(|latest| u64::try_from(latest).ok())
        .unwrap_or(0);
    let at = now.as_secs().max(begin);
    verify_server_cert_signed_by_trust_anchor(
        &server,
        &roots,
        between,
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(at)),
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all,
    )
    .map_err(|error| match error {
        rustls::Error::InvalidCertificate(
            rustls::CertificateError::InvalidPurpose
            | rustls::CertificateError::InvalidPurposeContext { .. },
        ) => FixedError::Purpose {
            why: error.to_string(),
        },
        _ => FixedError::Chain { number: 1 },
    })
}

fn check_name(
    chain: &[CertificateDer<'static>],
    parsed: &[X509Certificate<'_>],
    site: &str,
) -> Result<(), FixedError> {
    let names = || {
        let names = parsed.first().map(super::internal::subject_of);
        let names = names.map(|subject| subject.describe().join(", "));
        names
            .filter(|names| !names.is_empty())
            .unwrap_or_else(|| "nothing".to_owned())
    };
    let wrong = |_| FixedError::Names {
        names: names(),
        site: site.to_owned(),
    };
    let name = ServerName::try_from(site.trim_start_matches('[').trim_end_matches(']'))
        .map_err(|error| wrong(error.to_string()))?;
    let server = chain.first().ok_or(FixedError::NoCertificate)?;
    let server = ParsedCertificate::try_from(server)
        .map_err(|_| FixedError::NotACertificate { number: 1 })?;
    verify_server_name(&server, &name).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests;

//! The certificate that serves while the site's address is not known, or while the internal authority cannot be used: made at each start,
//! kept in memory, signed by itself. Nobody can be asked to trust it; its fingerprint is compared by eye.

use std::sync::Arc;

use rcgen::{DnType, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;

use super::internal::{CertificateError, Subject, new_key_pair};

/// It knows no clock: a machine that does not know its address may well not know the time.
pub fn make(subject: &Subject) -> Result<Arc<CertifiedKey>, CertificateError> {
    let make = |source| CertificateError::Make {
        what: "the throw-away certificate",
        source,
    };
    let key = new_key_pair()?;
    let mut params = subject.params().map_err(make)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Atalaya throw-away certificate");
    params.not_before = date_time_ymd(2020, 1, 1);
    // RFC 5280 section 4.1.2.5: no well-defined expiration.
    params.not_after = date_time_ymd(9999, 12, 31);
    let certificate = params.self_signed(&key).map_err(make)?;
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    CertifiedKey::from_der(
        vec![certificate.der().clone()],
        private.into(),
        &aws_lc_rs::default_provider(),
    )
    .map(Arc::new)
    .map_err(|_| CertificateError::Mismatch)
}

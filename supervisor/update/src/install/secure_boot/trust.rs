//! Whether firmware starts an image: nothing of it may be in `dbx`, and its digest or one of its signatures must be in `db` (UEFI 2.11, section
//! 32.5.3.3). Firmware differs where the specification leaves room; what is taken here is what all take. Times are not looked at, as in firmware.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self as check, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::asn1_rs::Oid;
use x509_parser::oid_registry as known;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Problem;
use super::lists::{Hash, Lists};
use super::signature::Signature;

/// An image's digests.
#[derive(Debug)]
pub struct Digests([(Hash, digest::Digest); 4]);

/// Digests that are being taken.
pub struct Digesting([(Hash, digest::Context); 4]);

impl Default for Digesting {
    fn default() -> Self {
        let of = |hash| (hash, digest::Context::new(algorithm(hash)));
        Self([Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512].map(of))
    }
}

impl Digesting {
    pub fn update(&mut self, bytes: &[u8]) {
        for (_, context) in &mut self.0 {
            context.update(bytes);
        }
    }

    pub fn finish(self) -> Digests {
        Digests(self.0.map(|(hash, context)| (hash, context.finish())))
    }
}

impl Digests {
    fn is(&self, hash: Hash, digest: &[u8]) -> bool {
        let mut own = self.0.iter().filter(|(kind, _)| *kind == hash);
        own.any(|(_, own)| own.as_ref() == digest)
    }

    fn are_in(&self, lists: &Lists) -> bool {
        let mut images = lists.images.iter();
        images.any(|(hash, digest)| self.is(*hash, digest))
    }
}

fn algorithm(hash: Hash) -> &'static digest::Algorithm {
    match hash {
        Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

fn hashes_to(hash: Hash, bytes: &[u8], digest: &[u8]) -> bool {
    digest::digest(algorithm(hash), bytes).as_ref() == digest
}

/// # Errors
/// Firmware with these lists would not start it.
pub fn assess(
    digests: &Digests,
    signatures: &[&[u8]],
    db: &Lists,
    dbx: &Lists,
) -> Result<(), Problem> {
    if digests.are_in(dbx) {
        return Err(Problem::Revoked);
    }
    // Only SHA-256 is what all firmware looks for.
    let mut listed = db.images.iter();
    let listed = listed.any(|(hash, digest)| *hash == Hash::Sha256 && digests.is(*hash, digest));
    let mut verdict = if listed {
        Ok(())
    } else {
        Err(Problem::Unsigned)
    };
    for signature in signatures {
        match vouches(digests, signature, db, dbx) {
            Err(Problem::Revoked) => return Err(Problem::Revoked),
            Err(problem) if verdict.is_err() => verdict = Err(problem),
            Err(_) => {}
            Ok(()) => verdict = Ok(()),
        }
    }
    verdict
}

/// Whether this signature alone would do.
fn vouches(digests: &Digests, signature: &[u8], db: &Lists, dbx: &Lists) -> Result<(), Problem> {
    let signature = Signature::parse(signature).map_err(Problem::Unusable)?;
    let chain = Chain::of(&signature);
    if chain.is_revoked(dbx) {
        return Err(Problem::Revoked);
    }
    if !digests.is(signature.hash, signature.digest) {
        return Err(Problem::Altered);
    }
    let signer = &signature.certificates[signature.signer];
    let genuine = hashes_to(signature.hash, signature.content, signature.content_digest)
        && verifies(
            signer,
            &signature.algorithm,
            Some(signature.hash),
            &signature.attributes,
            signature.value,
        );
    if !genuine {
        return Err(Problem::Unusable("its signature is false"));
    }
    if chain.is_trusted(db, dbx) {
        return Ok(());
    }
    Err(Problem::Stranger(name(signer)))
}

/// Whoever vouches for a signer: itself, and of the certificates that came with it those by which it was issued, upwards.
struct Chain<'a, 'b> {
    /// Each with its height: the signer's is 0, its issuer's 1.
    links: Vec<(&'b X509Certificate<'a>, u32)>,
}

impl<'a, 'b> Chain<'a, 'b> {
    fn of(signature: &'b Signature<'a>) -> Self {
        let mut left: Vec<&X509Certificate<'_>> = signature.certificates.iter().collect();
        let mut links = vec![(left.swap_remove(signature.signer), 0)];
        let mut next = 0;
        while let Some((child, height)) = links.get(next).copied() {
            let (issuers, others): (Vec<_>, Vec<_>) = left
                .into_iter()
                .partition(|one| has_issued(one, child, height));
            links.extend(issuers.into_iter().map(|issuer| (issuer, height + 1)));
            left = others;
            next += 1;
        }
        Self { links }
    }

    /// Whether one of these certificates is among them, or has issued one of them.
    fn leads_to(
        &self,
        certificates: &[Vec<u8>],
        counts: impl Fn(&X509Certificate<'_>) -> bool,
    ) -> bool {
        certificates.iter().any(|der| {
            if self.links.iter().any(|(one, _)| one.as_raw() == der) {
                return true;
            }
            let Ok((_, listed)) = X509Certificate::from_der(der) else {
                return false;
            };
            let issued =
                |(one, height): &(&X509Certificate<'_>, u32)| has_issued(&listed, one, *height);
            counts(&listed) && self.links.iter().any(issued)
        })
    }

    /// What a certificate in `dbx` has issued is revoked with it.
    fn is_revoked(&self, dbx: &Lists) -> bool {
        self.links.iter().any(|(one, _)| is_listed(one, dbx))
            || self.leads_to(&dbx.certificates, |_| true)
    }

    fn is_trusted(&self, db: &Lists, dbx: &Lists) -> bool {
        self.leads_to(&db.certificates, |anchor| !is_listed(anchor, dbx))
    }
}

/// Whether `lists` have the digest of what is signed in the certificate.
fn is_listed(certificate: &X509Certificate<'_>, lists: &Lists) -> bool {
    let body = certificate.tbs_certificate.as_ref();
    let mut bodies = lists.bodies.iter();
    bodies.any(|(hash, digest)| hashes_to(*hash, body, digest))
}

/// `height`: how many authorities stand between the two and the signer.
fn has_issued(issuer: &X509Certificate<'_>, child: &X509Certificate<'_>, height: u32) -> bool {
    let Ok(Some(constraints)) = issuer.basic_constraints() else {
        return false;
    };
    let constraints = constraints.value;
    let may_sign = match issuer.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    issuer.subject().as_raw() == child.issuer().as_raw()
        && constraints.ca
        && constraints
            .path_len_constraint
            .is_none_or(|most| height <= most)
        && may_sign
        && verifies(
            issuer,
            &child.signature_algorithm.algorithm,
            None,
            child.tbs_certificate.as_ref(),
            &child.signature_value.data,
        )
}

/// `hash` where the algorithm need not name it.
fn verifies(
    signer: &X509Certificate<'_>,
    algorithm: &Oid<'_>,
    hash: Option<Hash>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key = signer.public_key();
    scheme(
        algorithm,
        hash,
        key.algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok())
            .as_ref(),
    )
    .is_some_and(|scheme| {
        UnparsedPublicKey::new(scheme, &key.subject_public_key.data)
            .verify(message, signature)
            .is_ok()
    })
}

fn scheme(
    algorithm: &Oid<'_>,
    hash: Option<Hash>,
    curve: Option<&Oid<'_>>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let rsa = |of| -> Option<&'static dyn VerificationAlgorithm> {
        match of {
            Hash::Sha1 => None,
            Hash::Sha256 => Some(&check::RSA_PKCS1_2048_8192_SHA256),
            Hash::Sha384 => Some(&check::RSA_PKCS1_2048_8192_SHA384),
            Hash::Sha512 => Some(&check::RSA_PKCS1_2048_8192_SHA512),
        }
    };
    let ecdsa = |of| -> Option<&'static dyn VerificationAlgorithm> {
        let p256 = *curve? == known::OID_EC_P256;
        let p384 = *curve? == known::OID_NIST_EC_P384;
        match of {
            Hash::Sha256 if p256 => Some(&check::ECDSA_P256_SHA256_ASN1),
            Hash::Sha384 if p256 => Some(&check::ECDSA_P256_SHA384_ASN1),
            Hash::Sha256 if p384 => Some(&check::ECDSA_P384_SHA256_ASN1),
            Hash::Sha384 if p384 => Some(&check::ECDSA_P384_SHA384_ASN1),
            Hash::Sha1 | Hash::Sha256 | Hash::Sha384 | Hash::Sha512 => None,
        }
    };
    let (found, scheme) = if *algorithm == known::OID_PKCS1_RSAENCRYPTION {
        (hash?, rsa(hash?))
    } else if *algorithm == known::OID_PKCS1_SHA256WITHRSA {
        (Hash::Sha256, rsa(Hash::Sha256))
    } else if *algorithm == known::OID_PKCS1_SHA384WITHRSA {
        (Hash::Sha384, rsa(Hash::Sha384))
    } else if *algorithm == known::OID_PKCS1_SHA512WITHRSA {
        (Hash::Sha512, rsa(Hash::Sha512))
    } else if *algorithm == known::OID_SIG_ECDSA_WITH_SHA256 {
        (Hash::Sha256, ecdsa(Hash::Sha256))
    } else if *algorithm == known::OID_SIG_ECDSA_WITH_SHA384 {
        (Hash::Sha384, ecdsa(Hash::Sha384))
    } else {
        return None;
    };
    scheme.filter(|_| hash.is_none_or(|hash| hash == found))
}

/// For a person: no more of it than fits into a line, and nothing that a terminal would obey.
fn name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().to_string();
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(120)
        .collect()
}

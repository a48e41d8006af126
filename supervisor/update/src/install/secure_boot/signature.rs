//! One signature of an image, taken apart: Authenticode, which is PKCS #7 SignedData (RFC 2315) around the image's digest. Verifies nothing: what
//! a signature says of itself is as true as [`super::trust`] finds it.

use x509_parser::asn1_rs::{Any, Class, FromDer, Oid, Tag, oid};
use x509_parser::oid_registry as known;
use x509_parser::prelude::X509Certificate;

use super::lists::Hash;

/// SPC_INDIRECT_DATA_OBJID.
const IMAGE_DIGEST: Oid<'static> = oid!(1.3.6.1.4.1.311.2.1.4);
/// So many certificates may come with a signature.
const CERTIFICATES: usize = 16;

#[derive(Debug)]
pub struct Signature<'a> {
    /// Of the image, as was signed.
    pub hash: Hash,
    pub digest: &'a [u8],
    /// What is signed of it: the digest and what belongs to it.
    pub content: &'a [u8],
    /// What the signed attributes say [`Self::content`] hashes to.
    pub content_digest: &'a [u8],
    /// What the key has signed.
    pub attributes: Vec<u8>,
    pub algorithm: Oid<'a>,
    pub value: &'a [u8],
    pub certificates: Vec<X509Certificate<'a>>,
    /// Among them.
    pub signer: usize,
}

type Result<T> = std::result::Result<T, &'static str>;

const BROKEN: &str = "its signature is broken";
const KIND: &str = "its signature is of a kind that firmware does not take";

impl<'a> Signature<'a> {
    /// # Errors
    /// Why it is none.
    pub fn parse(der: &'a [u8]) -> Result<Self> {
        // Behind it are zeros up to the next multiple of eight.
        let mut all = Der(der);
        let mut outer = all.sequence()?;
        if outer.oid()? != known::OID_PKCS7_ID_SIGNED_DATA {
            return Err(KIND);
        }
        let mut signed = outer.tagged(0)?.sequence()?;
        signed.version()?;
        signed.next(Tag::Set)?;
        let mut inner = signed.sequence()?;
        if inner.oid()? != IMAGE_DIGEST {
            return Err(KIND);
        }
        let content = inner.tagged(0)?.sequence()?;
        let (hash, digest) = image_digest(content)?;
        let certificates = certificates(signed.tagged(0)?)?;
        signed.optional(1)?;
        let mut signers = signed.set()?;
        let mut signer = signers.sequence()?;
        if !signers.0.is_empty() {
            return Err(KIND);
        }

        signer.version()?;
        let name = signer.next(Tag::Sequence)?;
        let signer_is = find(&certificates, name)?;
        if hash_of(&signer.sequence()?.oid()?)? != hash {
            return Err(KIND);
        }
        let attributes = signer.tagged(0)?;
        let content_digest = content_digest(attributes)?;
        Ok(Self {
            hash,
            digest,
            content: content.0,
            content_digest,
            attributes: signed_form(attributes.0),
            algorithm: signer.sequence()?.oid()?,
            value: signer.next(Tag::OctetString)?,
            certificates,
            signer: signer_is,
        })
    }
}

/// SpcIndirectDataContent.
fn image_digest<'a>(mut content: Der<'a>) -> Result<(Hash, &'a [u8])> {
    content.next(Tag::Sequence)?;
    let mut info = content.sequence()?;
    let hash = hash_of(&info.sequence()?.oid()?)?;
    let digest = info.next(Tag::OctetString)?;
    if digest.len() != hash.bytes() {
        return Err(BROKEN);
    }
    Ok((hash, digest))
}

fn certificates<'a>(mut list: Der<'a>) -> Result<Vec<X509Certificate<'a>>> {
    let mut certificates = Vec::new();
    while !list.0.is_empty() {
        let (rest, certificate) = X509Certificate::from_der(list.0).map_err(|_| BROKEN)?;
        list = Der(rest);
        certificates.push(certificate);
        if certificates.len() > CERTIFICATES {
            return Err("its signature brings too many certificates");
        }
    }
    Ok(certificates)
}

/// The certificate that is named by IssuerAndSerialNumber.
fn find(certificates: &[X509Certificate<'_>], name: &[u8]) -> Result<usize> {
    let mut name = Der(name);
    let before = name.0;
    name.next(Tag::Sequence)?;
    let issuer = &before[..before.len() - name.0.len()];
    let serial = name.next(Tag::Integer)?;
    certificates
        .iter()
        .position(|one| one.issuer().as_raw() == issuer && one.raw_serial() == serial)
        .ok_or(BROKEN)
}

/// messageDigest of the signed attributes, whose contentType must be an image's digest. Neither may be there twice.
fn content_digest<'a>(mut attributes: Der<'a>) -> Result<&'a [u8]> {
    let (mut kind, mut digest) = (None, None);
    while !attributes.0.is_empty() {
        let mut attribute = attributes.sequence()?;
        let name = attribute.oid()?;
        let mut values = attribute.set()?;
        let before = if name == known::OID_PKCS9_CONTENT_TYPE {
            kind.replace(values.next(Tag::Oid)?)
        } else if name == known::OID_PKCS9_ID_MESSAGE_DIGEST {
            digest.replace(values.next(Tag::OctetString)?)
        } else {
            None
        };
        if before.is_some() {
            return Err(BROKEN);
        }
    }
    match (kind, digest) {
        (Some(kind), Some(digest)) if kind == IMAGE_DIGEST.as_bytes() => Ok(digest),
        _ => Err(BROKEN),
    }
}

/// The attributes are signed with the tag of a set in place of the one that they have there (RFC 2315, section 9.3).
fn signed_form(attributes: &[u8]) -> Vec<u8> {
    let length = attributes.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = &length[zeros.min(length.len() - 1)..];
    let mut form = vec![0x31];
    if attributes.len() >= 0x80 {
        form.push(0x80 | length.len() as u8);
    }
    form.extend_from_slice(length);
    form.extend_from_slice(attributes);
    form
}

fn hash_of(name: &Oid<'_>) -> Result<Hash> {
    [
        (known::OID_NIST_HASH_SHA256, Hash::Sha256),
        (known::OID_NIST_HASH_SHA384, Hash::Sha384),
        (known::OID_NIST_HASH_SHA512, Hash::Sha512),
    ]
    .into_iter()
    .find(|(known, _)| known == name)
    .map(|(_, hash)| hash)
    .ok_or(KIND)
}

/// What is left of some DER, one element after the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn any(&mut self) -> Result<Any<'a>> {
        let (rest, any) = Any::from_der(self.0).map_err(|_| BROKEN)?;
        self.0 = rest;
        Ok(any)
    }

    /// The content of the next element, which must be this.
    fn next(&mut self, tag: Tag) -> Result<&'a [u8]> {
        let any = self.any()?;
        let fits = any.class() == Class::Universal && any.tag() == tag;
        fits.then_some(any.data).ok_or(BROKEN)
    }

    fn sequence(&mut self) -> Result<Der<'a>> {
        self.next(Tag::Sequence).map(Der)
    }

    fn set(&mut self) -> Result<Der<'a>> {
        self.next(Tag::Set).map(Der)
    }

    fn oid(&mut self) -> Result<Oid<'a>> {
        Ok(Oid::new(self.next(Tag::Oid)?.into()))
    }

    /// 1 everywhere in Authenticode.
    fn version(&mut self) -> Result<()> {
        match self.next(Tag::Integer)? {
            [1] => Ok(()),
            _ => Err(KIND),
        }
    }

    /// `[number]`.
    fn tagged(&mut self, number: u32) -> Result<Der<'a>> {
        let any = self.any()?;
        let fits = any.class() == Class::ContextSpecific && any.tag() == Tag(number);
        fits.then_some(Der(any.data)).ok_or(BROKEN)
    }

    /// `[number]`, or nothing.
    fn optional(&mut self, number: u32) -> Result<()> {
        let mut ahead = *self;
        if ahead.tagged(number).is_ok() {
            *self = ahead;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_get_the_shortest_length() {
        for (bytes, head) in [
            (0, &[0x31, 0][..]),
            (127, &[0x31, 127]),
            (128, &[0x31, 0x81, 128]),
            (256, &[0x31, 0x82, 1, 0]),
        ] {
            let form = signed_form(&vec![7; bytes]);
            assert_eq!(&form[..head.len()], head);
            assert_eq!(form.len(), head.len() + bytes);
        }
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        for der in [&[][..], &[0x30], &[0x30, 0x80, 0, 0], &[0x30, 0], &[0; 64]] {
            assert!(Signature::parse(der).is_err(), "{der:?}");
        }
    }
}

//! A certificate from the authority together with its key, checked: they belong together, and what they are for and until when.

use std::sync::Arc;

use atalaya_core::renewal::Life;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::cache::Pair;

pub struct Held {
    pub pair: Pair,
    pub certified: Arc<CertifiedKey>,
    pub life: Life,
    /// DER.
    pub leaf: Vec<u8>,
    names: Vec<String>,
}

impl Held {
    pub fn read(pair: Pair) -> Result<Self, &'static str> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(pair.chain.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|_| "it is not in PEM")?;
        let leaf = chain.first().ok_or("it is empty")?.to_vec();
        let (life, names) = read_leaf(&leaf).ok_or("it is not a certificate")?;
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
            .map_err(|_| "its key is not in PEM")?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|_| "key and certificate do not belong together")?;
        Ok(Self {
            pair,
            certified: Arc::new(certified),
            life,
            leaf,
            names,
        })
    }

    /// Whether it is for each of these.
    pub fn covers(&self, names: &[String]) -> bool {
        names.iter().all(|name| {
            let above = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.names
                .iter()
                .any(|own| own == name || Some(own) == above.as_ref())
        })
    }
}

fn read_leaf(der: &[u8]) -> Option<(Life, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let life = Life {
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
    };
    let extension = parsed.subject_alternative_name().ok()??;
    let names = extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
    Some((life, names.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    fn pair(names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let Made { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        Pair::new("d", signing_key.serialize_pem(), cert.pem())
    }

    #[test]
    fn a_wildcard_covers_one_label_and_nothing_else() {
        let held = Held::read(pair(&["chat.example.org", "*.example.net"])).unwrap();
        let covers = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            held.covers(&names)
        };
        assert!(covers(&["chat.example.org", "a.example.net"]));
        assert!(!covers(&["chat.example.org", "a.b.example.net"]));
        assert!(!covers(&["example.net"]) && !covers(&["other.example.org"]));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let mut mixed = pair(&["a.example"]);
        mixed.key = pair(&["a.example"]).key;
        assert_eq!(
            Held::read(mixed).err(),
            Some("key and certificate do not belong together")
        );
        assert!(Held::read(Pair::new("d", String::new(), String::new())).is_err());
    }
}

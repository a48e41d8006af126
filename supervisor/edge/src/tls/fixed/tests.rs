//! What people get wrong when they bring a certificate.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::*;

fn at(year: i32) -> UnixTime {
    let seconds = date_time_ymd(year, 6, 1).unix_timestamp();
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
}

struct Made {
    pem: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Valid from 2025 to the end of 2027.
fn make(name: &str, by: Option<&Made>, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2027, 12, 31);
    change(&mut params);
    let certificate = match by {
        Some(by) => params.signed_by(&key, &by.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Made {
        pem: certificate.pem(),
        key: key.serialize_pem(),
        issuer: Issuer::new(params, key),
    }
}

fn ca(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
}

fn server(params: &mut CertificateParams) {
    params.subject_alt_names = vec![
        rcgen::SanType::DnsName("chat.example.org".try_into().unwrap()),
        rcgen::SanType::IpAddress("10.0.0.1".parse().unwrap()),
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

struct Chain {
    root: Made,
    between: Made,
    server: Made,
}

fn chain() -> Chain {
    let root = make("root", None, ca);
    let between = make("between", Some(&root), ca);
    let server = make("server", Some(&between), server);
    Chain {
        root,
        between,
        server,
    }
}

fn checked(certificate: &str, key: &str, site: &str, year: i32) -> Result<(), FixedError> {
    check(certificate, key, Some(site), at(year)).map(drop)
}

#[test]
fn a_chain_is_taken_with_and_without_its_root_and_alone() {
    let Chain {
        root,
        between,
        server,
    } = chain();
    for pem in [
        server.pem.clone(),
        format!("{}{}", server.pem, between.pem),
        format!("{}{}{}", server.pem, between.pem, root.pem),
    ] {
        for site in ["chat.example.org", "10.0.0.1"] {
            assert_eq!(checked(&pem, &server.key, site, 2026), Ok(()));
        }
    }
    let own = make("self", None, super::tests::server);
    assert_eq!(
        checked(&own.pem, &own.key, "chat.example.org", 2026),
        Ok(())
    );
}

#[test]
fn a_clock_that_is_behind_refuses_nothing() {
    let Chain {
        between, server, ..
    } = chain();
    let pem = server.pem + &between.pem;
    assert_eq!(checked(&pem, &server.key, "chat.example.org", 2020), Ok(()));
}

#[test]
fn a_chain_in_the_wrong_order_or_with_a_strange_issuer_is_refused() {
    let Chain {
        root,
        between,
        server,
    } = chain();
    let pem = format!("{}{}", server.pem, root.pem);
    let refused = checked(&pem, &server.key, "chat.example.org", 2026);
    assert_eq!(refused, Err(FixedError::Chain { number: 1 }));
    let pem = format!("{}{}{}", server.pem, between.pem, server.pem);
    let refused = checked(&pem, &server.key, "chat.example.org", 2026);
    assert_eq!(refused, Err(FixedError::Chain { number: 2 }));
    // The same name, another key.
    let impostor = make("between", Some(&root), ca);
    let pem = format!("{}{}", server.pem, impostor.pem);
    let refused = checked(&pem, &server.key, "chat.example.org", 2026);
    assert_eq!(refused, Err(FixedError::Chain { number: 1 }));
    // The issuer first.
    let pem = format!("{}{}", between.pem, server.pem);
    let refused = checked(&pem, &server.key, "chat.example.org", 2026);
    assert_eq!(refused, Err(FixedError::Mismatch));
}

#[test]
fn a_key_that_is_missing_strange_or_locked_is_refused_and_never_shown() {
    let Chain { server, .. } = chain();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (key, error) in [
        ("", FixedError::NoKey),
        ("geheim", FixedError::BadKey),
        (locked, FixedError::EncryptedKey),
        (other.as_str(), FixedError::Mismatch),
    ] {
        let refused = checked(&server.pem, key, "chat.example.org", 2026).unwrap_err();
        assert_eq!(refused, error);
        assert!(!refused.to_string().contains("geheim"));
    }
}

#[test]
fn a_certificate_of_another_site_or_purpose_or_time_is_refused() {
    let Chain {
        between, server, ..
    } = chain();
    let whole = format!("{}{}", server.pem, between.pem);
    for site in ["example.org", "10.0.0.2", "[fd00::1]"] {
        let refused = checked(&whole, &server.key, site, 2026).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("chat.example.org, 10.0.0.1"), "{text}");
        assert!(text.contains(site), "{text}");
    }
    let late = checked(&whole, &server.key, "chat.example.org", 2028).unwrap_err();
    assert!(
        matches!(late, FixedError::Expired { number: 1, .. }),
        "{late}"
    );
    assert!(late.to_string().contains("2027"), "{late}");
    let person = make("person", Some(&between), |params| {
        super::tests::server(params);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let pem = format!("{}{}", person.pem, between.pem);
    let refused = checked(&pem, &person.key, "chat.example.org", 2026).unwrap_err();
    assert!(matches!(refused, FixedError::Purpose { .. }), "{refused}");
}

#[test]
fn damage_is_told_from_absence() {
    let Chain { server, .. } = chain();
    for (pem, error) in [
        ("", FixedError::NoCertificate),
        ("nonsense", FixedError::NotACertificate { number: 1 }),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            FixedError::NotACertificate { number: 1 },
        ),
    ] {
        let refused = checked(pem, &server.key, "chat.example.org", 2026);
        assert_eq!(refused, Err(error));
    }
}

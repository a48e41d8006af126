//! `[tls]` and `site.names`: what they mean, what may stand together, and that secrets stay apart.

use proptest::prelude::*;

use super::super::tls::{Challenge, KeyAlgorithm, Mode};
use super::super::*;
use super::{refusal, stored};

const CERTIFICATE: &str =
    "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n";

/// A seed with every key there is, none with its default.
const WHOLE: &str = include_str!("whole.toml");

#[test]
fn two_lines_are_enough_for_a_public_name() {
    let read =
        stored("site.address = \"https://chat.example.com\"\ntls.acme.terms_agreed = true\n");
    assert_eq!(read.tls.mode(), Mode::Acme);
    assert_eq!(
        read.tls.acme.challenges(),
        [Challenge::TlsAlpn, Challenge::Http]
    );
    assert_eq!(
        read.tls.acme.directory,
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    assert_eq!(stored("").tls.mode(), Mode::Internal);
}

#[test]
fn everything_is_read_and_kept_and_the_secrets_stand_apart() {
    let seed = parse_seed(WHOLE.as_bytes()).unwrap();
    let acme = &seed.appliance.tls.acme;
    let dns = &acme.dns;
    assert_eq!(dns.server.unwrap().to_string(), "[2001:db8::53]:5353");
    assert_eq!(dns.zone.as_deref(), Some("acme.example.com"));
    assert_eq!(dns.key_algorithm, KeyAlgorithm::HmacSha512);
    assert_eq!(acme.external_account.as_deref(), Some("kid-1"));
    assert_eq!(
        seed.appliance.tls.certificate.as_ref().unwrap().as_str(),
        format!("{CERTIFICATE}{CERTIFICATE}"),
        "only the PEM blocks are kept"
    );
    assert_eq!(seed.secrets.static_key.as_ref().unwrap().expose(), KEY);

    let kept = Stored {
        appliance: seed.appliance.clone(),
        secrets: seed.secrets.clone(),
    };
    assert_eq!(parse_stored(kept.to_toml().as_bytes()).unwrap(), kept);

    let public = seed.appliance.to_toml();
    assert_eq!(parse_public(public.as_bytes()).unwrap(), seed.appliance);
    for secret in ["c2VjcmV0", "bm90LWEt", "MIGHAgEA", "PRIVATE"] {
        assert!(kept.to_toml().contains(secret));
        assert!(!public.contains(secret), "{public}");
        assert!(!format!("{seed:?}").contains(secret));
    }
}

#[test]
fn the_public_file_takes_no_secret() {
    let error = parse_public(b"[tls.static]\nkey = \"x\"\n")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "line 2: tls.static.key: a secret is never in this file; allowed: only in a seed and in the file that is kept"
    );
}

#[test]
fn the_mode_follows_from_the_tables_that_are_there() {
    let fixed = format!("[tls.static]\ncertificate = '''{CERTIFICATE}'''\nkey = '''{KEY}'''\n");
    assert_eq!(stored(&fixed).tls.mode(), Mode::Static);
    assert_eq!(
        stored(&format!("tls.mode = \"internal\"\n{fixed}"))
            .tls
            .mode(),
        Mode::Internal
    );
    let both = format!(
        "site.address = \"https://chat.example.com\"\ntls.acme.terms_agreed = true\n{}",
        fixed
            .replace("[tls.static]\n", "")
            .replace("certificate =", "tls.static.certificate =")
            .replace("key =", "tls.static.key =")
    );
    assert_eq!(
        refusal(&both),
        "line 3: tls.static: stands beside tls.acme.terms_agreed = true; allowed: one of the two, or tls.mode = \"acme\" or \"static\" to say which holds"
    );
    assert_eq!(
        stored(&format!("tls.mode = \"static\"\n{both}")).tls.mode(),
        Mode::Static
    );
}

#[test]
fn what_no_authority_would_sign_is_refused_at_its_line() {
    let acme = |rest: &str| refusal(&format!("tls.acme.terms_agreed = true\n{rest}"));
    for (text, expected) in [
        (
            String::new(),
            "line 1: tls.acme.terms_agreed: there is no name to get a certificate for; allowed: with site.address = \"https://NAME\" (example: \"https://chat.example.com\")",
        ),
        (
            "site.address = \"https://192.0.2.7\"\n".to_owned(),
            "line 2: site.address = \"https://192.0.2.7\": certificates by ACME are for names, and this is an address; allowed: a full name (example: \"https://chat.example.com\"), or tls.mode = \"internal\"",
        ),
        (
            "site.address = \"https://chat\"\n".to_owned(),
            "line 2: site.address = \"https://chat\": no authority gives a certificate for a name without a dot; allowed: a full name (example: \"https://chat.example.com\"), or tls.mode = \"internal\"",
        ),
        (
            "site.address = \"https://a.example\"\nsite.names = [\"intranet\"]\n".to_owned(),
            "line 3: site.names = \"intranet\": no authority gives a certificate for a name without a dot; allowed: full names (example: [\"chat.example.org\"]), or tls.mode = \"internal\"",
        ),
        (
            "site.address = \"https://a.example\"\nsite.names = [\"*.a.example\"]\n".to_owned(),
            "line 3: site.names: holds a name with \"*\", which only dns-01 proves; allowed: such a name with tls.acme.challenges = [\"dns-01\"] and [tls.acme.dns]",
        ),
        (
            "site.address = \"https://a.example\"\n[tls.acme]\nchallenges = [\"dns-01\"]\n"
                .replace("[tls.acme]\n", "tls.acme."),
            "line 3: tls.acme.challenges: holds \"dns-01\", and no DNS server is named; allowed: with server, key_name and key under [tls.acme.dns]",
        ),
        (
            "site.address = \"https://a.example\"\ntls.acme.challenges = []\n".to_owned(),
            "line 3: tls.acme.challenges: is empty; allowed: one at least of \"tls-alpn-01\", \"http-01\" and \"dns-01\"",
        ),
    ] {
        assert_eq!(acme(&text), expected);
    }
    assert_eq!(
        refusal("site.address = \"https://a.example\"\ntls.mode = \"acme\"\n"),
        "line 2: tls.mode = \"acme\": the authority's terms are not agreed to; allowed: with tls.acme.terms_agreed = true, once you have read them (Let's Encrypt: https://letsencrypt.org/repository/)"
    );
    // In the other modes the same names are fine.
    assert!(
        !stored("site.address = \"https://chat\"\nsite.names = [\"*.a.example\", \"b\"]\n")
            .site
            .names
            .is_empty()
    );
}

#[test]
fn half_of_a_pair_is_refused() {
    for (text, expected) in [
        (
            format!("[tls.static]\ncertificate = '''{CERTIFICATE}'''\n"),
            "line 1: tls.static: has no key; allowed: certificate and key together",
        ),
        (
            format!("[tls.static]\nkey = '''{KEY}'''\n"),
            "line 1: tls.static: has no certificate; allowed: certificate and key together",
        ),
        (
            "tls.mode = \"static\"\n".to_owned(),
            "line 1: tls.mode = \"static\": there is no certificate; allowed: with certificate and key under [tls.static]",
        ),
        (
            "[tls.acme.external_account]\nkey_id = \"k\"\n".to_owned(),
            "line 1: tls.acme.external_account: has no hmac; allowed: key_id and hmac together",
        ),
        (
            "\n[tls.acme.dns]\nserver = \"192.0.2.53\"\nkey_name = \"k\"\n".to_owned(),
            "line 2: tls.acme.dns: has no key; allowed: server, key_name and key together",
        ),
        (
            "[tls.acme.dns]\nserver = \"192.0.2.53\"\n".to_owned(),
            "line 1: tls.acme.dns: has no key_name; allowed: key_name is the name that the DNS server knows the key by (example: \"atalaya-key\")",
        ),
    ] {
        assert_eq!(refusal(&text), expected);
    }
}

#[test]
fn certificates_and_keys_are_known_by_their_looks() {
    for (text, wrong) in [
        ("", "holds no PEM block"),
        ("nothing", "holds no PEM block"),
        (
            KEY,
            "holds a private key, which has a key of its own in this file",
        ),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "holds a PEM block that is no certificate",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n",
            "holds a PEM block that does not end",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAA!A\n-----END CERTIFICATE-----\n",
            "holds a PEM block with a character that is not base64",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
            "holds an empty PEM block",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "holds a PEM block that does not end as it began",
        ),
    ] {
        assert_eq!(Pem::parse_certificates(text), Err(wrong), "{text:?}");
    }
    let key = super::super::value::pem::parse_key;
    assert!(key(&KEY.replace('\n', "\r\n")).is_ok());
    assert!(
        key(&format!(
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}",
            KEY.replace("PRIVATE", "EC PRIVATE")
        ))
        .is_ok()
    );
    assert_eq!(key(CERTIFICATE), Err("is a certificate"));
    assert_eq!(
        key(&format!("{KEY}{KEY}")),
        Err("holds more than one PEM block")
    );
    let encrypted = "is encrypted, and nobody is there at a start to say its password";
    assert_eq!(
        key(&KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")),
        Err(encrypted)
    );
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AA\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert_eq!(key(old), Err(encrypted));
}

#[test]
fn names_servers_and_secrets_by_their_form() {
    for good in [
        "chat.example.com",
        "*.example.com",
        "a",
        "xn--bcher-kva.example",
    ] {
        assert!(DnsName::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "*",
        "*.com",
        "a.*.com",
        "192.0.2.1",
        "A.example",
        "a..b",
        "a.example.",
        "ä.example",
        "a/b",
    ] {
        assert!(DnsName::parse(bad).is_err(), "{bad}");
    }
    use super::super::value::network::{parse_dns_owner, parse_dns_server};
    for (text, server) in [
        ("192.0.2.1", "192.0.2.1:53"),
        ("::1", "[::1]:53"),
        ("192.0.2.1:5353", "192.0.2.1:5353"),
    ] {
        assert_eq!(parse_dns_server(text).unwrap().to_string(), server);
    }
    for bad in ["", "ns.example.com", "192.0.2.1:0", "0.0.0.0", "192.0.2.1:"] {
        assert!(parse_dns_server(bad).is_err(), "{bad}");
    }
    for good in ["k", "_acme-challenge.example.com.", "tsig_key"] {
        assert!(parse_dns_owner(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "a..b", "hmac-sha256:k:c2VjcmV0", "a b"] {
        assert!(parse_dns_owner(bad).is_err(), "{bad}");
    }
    use super::super::value::web::{parse_directory, parse_dns_key, parse_hmac};
    for good in [
        "https://ca.example.com/dir",
        "https://ca:14000/dir?a=b",
        "https://[::1]:8/",
    ] {
        assert!(parse_directory(good).is_ok(), "{good}");
    }
    for bad in [
        "http://ca.example.com/dir",
        "https:///dir",
        "https://u@ca/dir",
        "https://ca/a b",
        "https://ca/d#x",
    ] {
        assert!(parse_directory(bad).is_err(), "{bad}");
    }
    assert_eq!(
        parse_hmac("c2VjcmV0LXNlY3JldC1zZWNyZXQ=").unwrap().expose(),
        "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
    );
    for bad in [
        "",
        "short",
        "c2VjcmV0LXNlY3JldC1zZWNyZXQ+/",
        "c2VjcmV0LXNlY3JldC1zZWNyZXQ c2",
    ] {
        assert!(parse_hmac(bad).is_err(), "{bad}");
    }
    assert!(parse_dns_key("bm90LWEtcmVhbC1rZXktYXQtYWxs").is_ok());
    for bad in [
        "",
        "AAAA",
        "bm90LWEtcmVhbC1rZXktYXQtYWx",
        "bm90LWEtcmVhbC1rZXktYXQt-WxsAA",
    ] {
        assert!(parse_dns_key(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_name_outside_the_authority_means_that_every_device_must_trust_a_new_one() {
    use CertificateConsequence as C;
    let follows = |old: &str, new: &str| certificate_consequences(&stored(old), &stored(new));
    let outside = |names: &[&str]| C::NewAuthority {
        outside: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let site = "site.address = \"https://chat.example.com\"\n";
    assert_eq!(follows(site, site), C::None);
    assert_eq!(
        follows(site, "site.address = \"https://chat.example.com:8443\"\n"),
        C::Renewed
    );
    assert_eq!(
        follows(site, "site.address = \"https://new.chat.example.com\"\n"),
        C::Renewed
    );
    assert_eq!(
        follows(site, "site.address = \"https://mychat.example.com\"\n"),
        outside(&["mychat.example.com"])
    );
    assert_eq!(
        follows(site, &format!("{site}site.names = [\"*.example.org\"]\n")),
        outside(&["example.org"])
    );
    assert_eq!(follows("", "hostname = \"chat\"\n"), outside(&["chat"]));
    assert_eq!(
        follows("", "site.address = \"https://10.0.0.7\"\n"),
        C::Renewed
    );
    assert_eq!(
        follows("", "site.address = \"https://[2001:db8::1]\"\n"),
        outside(&["2001:db8::1"])
    );
    let acme = format!("{site}tls.acme.terms_agreed = true\n");
    assert_eq!(follows(site, &acme), C::Renewed);
    assert_eq!(follows(&acme, &acme), C::None);
    assert_eq!(follows(&acme, site), C::OwnAuthority);
    let said = follows(site, "site.address = \"https://x.example\"\n").to_string();
    assert!(
        said.contains("x.example") && said.contains("every device must trust it again"),
        "{said}"
    );
}

proptest! {
    #[test]
    fn what_is_kept_survives_writing_and_reading(
        names in proptest::collection::btree_set("(\\*\\.)?[a-z]([a-z0-9-]{0,10}[a-z])?\\.[a-z]{2,5}", 0..5),
        port in 1u16..,
        zone in proptest::option::of("_?[a-z]{1,9}(\\.[a-z]{1,9}){0,3}"),
        key in "[A-Za-z0-9+/]{24}",
        key_id in "[!-~]{1,40}",
        policy in "[ -~]{0,40}[!-~]",
    ) {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let zone = zone.map_or_else(String::new, |zone| format!("tls.acme.dns.zone = '{zone}'\n"));
        let text = format!(
            "site.address = 'https://chat.example.com'\nsite.names = [{}]\ntls.acme.terms_agreed = true\n\
             tls.acme.dns.server = '192.0.2.1:{port}'\n{zone}tls.acme.dns.key_name = 'k'\ntls.acme.dns.key = '{key}'\n\
             tls.acme.external_account.key_id = \"{}\"\ntls.acme.external_account.hmac = '{}'\n\
             edge.permissions_policy = \"{}\"\n",
            names.join(", "), quote(&key_id), key.replace(['+', '/'], "-"), quote(&policy),
        );
        let read = parse_stored(text.as_bytes()).unwrap();
        prop_assert_eq!(&parse_stored(read.to_toml().as_bytes()).unwrap(), &read);
        prop_assert_eq!(parse_public(read.appliance.to_toml().as_bytes()).unwrap(), read.appliance);
    }
}

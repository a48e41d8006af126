//! TLS, and what happens to keys and certificates between two runs.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::anything::Anything;
use crate::client::{TlsStream, exchange, get, raw, raw_with, tls_config};
use crate::edge::{Edge, Place};
use crate::upstream::Upstream;

fn served(edge: &Edge, place: &Place) -> Vec<u8> {
    let stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn tls_1_2_and_1_3_are_spoken_for_every_name_and_address() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    for version in [&TLS12, &TLS13] {
        for name in ["localhost", "atalaya", "127.0.0.1"] {
            let config = tls_config(&place.ca_pem(), &[version], &["h2", "http/1.1"]);
            let stream = raw_with(edge.https(), config, name).unwrap();
            assert_eq!(stream.conn.protocol_version(), Some(version.version));
            assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        }
    }
    assert!(raw(edge.https(), &place.ca_pem(), "other.example").is_err());
}

#[test]
fn a_client_without_alpn_gets_http_1() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let mut stream = raw_with(
        edge.https(),
        tls_config(&place.ca_pem(), &[&TLS13], &[]),
        "localhost",
    )
    .unwrap();
    let answer = exchange(
        &mut stream,
        "GET /page HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn the_certificate_is_the_same_after_a_restart() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start();
    let (first, ca) = (served(&edge, &place), place.ca_pem());
    edge.terminate();
    assert!(edge.wait_exit().0.success());
    std::fs::remove_file(place.path("public/ca.crt")).unwrap();
    let edge = place.start();
    assert_eq!(served(&edge, &place), first);
    assert_eq!(place.ca_pem(), ca);
}

#[test]
fn other_names_within_the_authority_get_a_new_certificate_of_it() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let edge = place.start();
    let (first, ca) = (served(&edge, &place), place.ca_pem());
    drop(edge);
    place.names = "[\"localhost\", \"chat.atalaya\"]";
    let edge = place.start();
    assert_ne!(served(&edge, &place), first);
    assert_eq!(place.ca_pem(), ca);
    assert!(raw(edge.https(), &ca, "chat.atalaya").is_ok());
    assert!(raw(edge.https(), &ca, "atalaya").is_err());
}

#[test]
fn a_name_outside_gets_a_new_authority_and_everybody_is_told() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let edge = place.start();
    let ca = place.ca_pem();
    let former = place.certificate()["authority"]["sha256"].clone();
    assert!(place.certificate()["authority"]["replaces"].is_null());
    drop(edge);
    place.names = "[\"localhost\", \"chat.example.org\"]";
    let edge = place.start();
    let told = edge.wait_log(|line| line["names"] == json!(["chat.example.org"]));
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("every device must trust"), "{message}");
    assert_ne!(place.ca_pem(), ca);
    assert!(place.path("state/ca-old-1.pem").exists());
    let authority = &place.certificate()["authority"];
    assert_eq!(authority["replaces"], former);
    assert!(
        authority["constrained_to"]
            .as_array()
            .unwrap()
            .contains(&json!("chat.example.org"))
    );
    assert!(raw(edge.https(), &place.ca_pem(), "chat.example.org").is_ok());
    assert!(raw(edge.https(), &ca, "chat.example.org").is_err());
}

#[test]
fn a_torn_server_certificate_is_replaced_and_a_damaged_authority_is_not() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    drop(place.start());
    let ca = place.ca_pem();
    let tear = |name: &str, keep: usize| {
        let path = place.path("state").join(name);
        let text = std::fs::read(&path).unwrap();
        atalaya_sys::durable::write(&path, &text[..keep], 0o600, None).unwrap();
        std::fs::read(&path).unwrap()
    };
    tear("server.pem", 300);
    let edge = place.start();
    edge.wait_log(|line| line["message"] == "made a new server certificate");
    assert_eq!(get(edge.https(), &ca, "/").status, 503);
    drop(edge);
    let damaged = tear("ca.pem", 300);
    let edge = place.start();
    let told =
        edge.wait_log(|line| line["message"] == "the internal certificate is not as it should be");
    let error = told["error"].as_str().unwrap();
    for part in [
        "ca.pem",
        "messages and files are not touched",
        "Restore the file from a backup",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(std::fs::read(place.path("state/ca.pem")).unwrap(), damaged);
    let report = place.certificate();
    assert_eq!(report["serving"], "throwaway");
    assert_eq!(report["renewal"]["error"], error);
    assert_eq!(seen_blindly(&edge), report["sha256"]);
}

#[test]
fn a_state_directory_that_cannot_be_written_still_serves_a_page() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    // Not even root can make a file below a file.
    std::fs::remove_dir(place.path("state")).unwrap();
    atalaya_sys::durable::write(&place.path("state"), b"", 0o600, None).unwrap();
    let edge = place.start();
    assert_eq!(place.certificate()["serving"], "throwaway");
    assert_eq!(seen_blindly(&edge), place.certificate()["sha256"]);
}

#[test]
fn until_the_site_is_known_a_throw_away_certificate_serves_and_no_authority_is_made() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.site = None;
    let edge = place.start();
    let report = place.certificate();
    assert_eq!(report["serving"], "throwaway");
    assert!(report["authority"].is_null());
    assert_eq!(seen_blindly(&edge), report["sha256"]);
    assert!(!place.path("state/ca.pem").exists() && !place.path("public/ca.crt").exists());
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(edge.http()).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n");
        exchange(&mut stream, &request)
    };
    assert!(ask("/").starts_with("HTTP/1.1 503 "));
    assert!(ask("/ca.crt").starts_with("HTTP/1.1 404 "));
    assert!(ask("/ca").starts_with("HTTP/1.1 404 "));
    // It learns its address: new connections get the authority's certificate, an open one goes on.
    let (mut held, _) = ask_blindly(&edge);
    place.site = Some("https://localhost:8443");
    place.write_settings();
    edge.wait_log(|line| line["message"] == "new settings hold");
    assert_eq!(place.certificate()["serving"], "internal");
    assert!(raw(edge.https(), &place.ca_pem(), "localhost").is_ok());
    let answer = exchange(
        &mut held,
        "GET / HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn a_given_certificate_serves_and_a_wrong_one_leaves_the_internal_one_and_says_why() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    place.extra = format!("[tls]\nmode = \"static\"\ncertificate = '''\n{pem}'''\n");
    let secrets = |key: &rcgen::KeyPair| {
        let key = key.serialize_pem();
        Some(format!("static_key = '''\n{key}'''\n"))
    };
    place.secrets = secrets(&made.signing_key);
    let edge = place.start();
    let report = place.certificate();
    let (mode, serving) = (&report["mode"], &report["serving"]);
    assert_eq!((mode, serving), (&json!("static"), &json!("static")));
    assert_eq!(report["names"], json!(["localhost"]));
    assert!(report["renewal"]["error"].is_null());
    let stream = raw(edge.https(), &pem, "localhost").unwrap();
    let served = stream.conn.peer_certificates().unwrap();
    assert_eq!(served[0].as_ref(), made.cert.der().as_ref());
    drop(edge);

    let other = rcgen::KeyPair::generate().unwrap();
    place.secrets = secrets(&other);
    let edge = place.start();
    let report = place.certificate();
    let (mode, serving) = (&report["mode"], &report["serving"]);
    assert_eq!((mode, serving), (&json!("static"), &json!("internal")));
    let error = report["renewal"]["error"].as_str().unwrap();
    assert!(error.contains("tls.static.key does not belong"), "{error}");
    assert!(raw(edge.https(), &place.ca_pem(), "localhost").is_ok());
}

#[test]
fn a_question_for_a_proof_that_nobody_ordered_gets_no_certificate() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let config = tls_config(&place.ca_pem(), &[&TLS13], &["acme-tls/1"]);
    assert!(raw_with(edge.https(), config, "localhost").is_err());
    let mut stream = std::net::TcpStream::connect(edge.http()).unwrap();
    let answer = exchange(
        &mut stream,
        "GET /.well-known/acme-challenge/abc HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn port_80_tells_how_to_trust_the_authority() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start();
    let mut stream = std::net::TcpStream::connect(edge.http()).unwrap();
    let answer = exchange(
        &mut stream,
        "GET /ca HTTP/1.1\r\nHost: 10.0.0.1\r\nAccept-Language: es\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let report = place.certificate();
    let fingerprint = report["authority"]["sha256"].as_str().unwrap();
    assert!(answer.contains(&fingerprint[..24]), "{answer}");
    assert!(answer.contains("Confiar en este servidor"), "{answer}");
}

/// OpenSSL reads the authority's constraints as browsers do (that it refuses what is outside them is shown in `tls::internal`).
#[test]
fn openssl_takes_the_certificate() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start();
    let server = place.path("server.crt");
    let der = served(&edge, &place);
    atalaya_sys::durable::write(&server, &der, 0o600, None).unwrap();
    let verified = std::process::Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "localhost",
            "-CAfile",
        ])
        .args([place.path("public/ca.crt"), server])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

/// The fingerprint of what the edge serves.
fn seen_blindly(edge: &Edge) -> Value {
    ask_blindly(edge).1
}

/// A connection that trusts whatever is served, and its fingerprint.
fn ask_blindly(edge: &Edge) -> (TlsStream, Value) {
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = raw_with(edge.https(), Arc::new(config), "localhost").unwrap();
    let digest = Sha256::digest(&stream.conn.peer_certificates().unwrap()[0]);
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    (stream, json!(pairs.join(":")))
}

#[test]
fn a_socket_for_both_families_shows_ipv4_clients_as_ipv4() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.listen = "[::]:0";
    let edge = place.start_open();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], edge.https().port()));
    let answer = get(address, &place.ca_pem(), "/headers");
    assert!(
        answer.json()["headers"]
            .as_array()
            .unwrap()
            .contains(&serde_json::json!(["x-forwarded-for", "127.0.0.1"]))
    );
    assert_eq!(
        edge.wait_log(|line| line["event"] == "request")["client"],
        "127.0.0.1"
    );
}

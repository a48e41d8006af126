//! TLS, and what happens to keys and certificates between two runs.

use rustls::version::{TLS12, TLS13};

use crate::client::{exchange, get, raw, raw_with, tls_config};
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
        "GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
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
fn other_names_get_a_new_certificate_of_the_same_authority() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let edge = place.start();
    let (first, ca) = (served(&edge, &place), place.ca_pem());
    drop(edge);
    place.names = "[\"localhost\", \"chat.example.org\"]";
    let edge = place.start();
    assert_ne!(served(&edge, &place), first);
    assert_eq!(place.ca_pem(), ca);
    assert!(raw(edge.https(), &ca, "chat.example.org").is_ok());
    assert!(raw(edge.https(), &ca, "atalaya").is_err());
}

#[test]
fn a_torn_server_certificate_is_replaced_and_a_torn_authority_is_not() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    drop(place.start());
    let ca = place.ca_pem();
    let tear = |name: &str| {
        let path = place.path("state").join(name);
        let text = std::fs::read(&path).unwrap();
        atalaya_sys::durable::write(&path, &text[..text.len() / 2], 0o600, None).unwrap();
    };
    tear("leaf.crt");
    tear("leaf.key");
    let edge = place.start();
    edge.wait_log(|line| line["message"] == "made a new server certificate");
    assert_eq!(get(edge.https(), &ca, "/").status, 503);
    drop(edge);
    tear("ca.key");
    let (status, output) = place.spawn().wait_exit();
    assert_eq!(status.code(), Some(1));
    for part in [
        "ca.key",
        "messages and files are not touched",
        "Restore the file from a backup",
    ] {
        assert!(output.contains(part), "{output}");
    }
    assert_eq!(place.ca_pem(), ca);
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

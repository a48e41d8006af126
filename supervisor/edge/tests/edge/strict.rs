//! Requests that are refused rather than guessed at, and those that are for another address.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use crate::client::{Answer, exchange, get, post, raw, send};
use crate::edge::{Edge, Place};
use crate::upstream::Upstream;

fn told(edge: &Edge, place: &Place, request: &str) -> String {
    let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    exchange(&mut stream, request)
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

#[test]
fn a_request_with_two_lengths_is_refused_and_its_connection_ends() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        let request = format!(
            "GET /page HTTP/1.1\r\nHost: localhost:8443\r\n\r\n\
             POST /count HTTP/1.1\r\nHost: localhost:8443\r\n{lengths}\r\n0\r\n\r\n\
             GET /headers HTTP/1.1\r\nHost: localhost:8443\r\n\r\n"
        );
        let answer = told(&edge, &place, &request);
        let statuses: Vec<_> = answer.matches("HTTP/1.1 ").collect();
        assert_eq!(statuses.len(), 2, "{answer}");
        assert!(answer.contains("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(upstream.seen(), ["GET /page"; 2]);
}

#[test]
fn a_socket_is_not_read_as_requests() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let mut socket = crate::client::websocket(edge.https(), &place.ca_pem());
    let text = "\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let message = tungstenite::Message::text(text);
    socket.send(message.clone()).unwrap();
    assert_eq!(socket.read().unwrap(), message);
}

#[test]
fn a_target_with_a_host_is_taken_only_if_it_says_the_same() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    for (target, host, status) in [
        ("https://localhost:8443/page", "localhost:8443", "200"),
        ("https://localhost:8443/page", "LOCALHOST:8443", "200"),
        ("https://other:8443/page", "localhost:8443", "400"),
        ("http://localhost:8443/page", "localhost:8443", "400"),
        ("https://user@localhost:8443/page", "localhost:8443", "400"),
        ("/page", "user@localhost:8443", "400"),
        ("/page", "localhost:8443, localhost:8443", "400"),
        ("/page", "localhost/:8443", "400"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = told(&edge, &place, &request);
        assert_eq!(status_of(&answer), status, "{target} {host}: {answer}");
    }
    assert_eq!(upstream.seen(), ["GET /page"; 2]);
}

#[test]
fn other_names_and_addresses_lead_to_the_site() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let ca = place.ca_pem();
    for host in ["127.0.0.1", "atalaya:8443", "localhost", "localhost:443"] {
        let answer = told(
            &edge,
            &place,
            &format!("POST /a/b?c=d HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\r\nabc"),
        );
        assert_eq!(status_of(&answer), "308", "{answer}");
        let location = "location: https://localhost:8443/a/b?c=d\r\n";
        assert!(answer.contains(location), "{answer}");
    }
    let elsewhere = Request::get("https://127.0.0.1/page").body(Full::<Bytes>::default());
    let answer = send(edge.https(), &ca, "h2", elsewhere.unwrap());
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), "https://localhost:8443/page");
    // What is looked for before the name works is there under every name.
    let request = "GET /ca.crt HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let answer = told(&edge, &place, request);
    assert!(answer.ends_with(&ca), "{answer}");
    let request = "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&told(&edge, &place, request)), "404");
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

fn shape(answer: &Answer) -> (u16, bool) {
    let body = answer.json();
    let is_complete = ["id", "message", "detailed_error", "request_id"]
        .iter()
        .all(|key| body[key].is_string());
    (
        answer.status,
        is_complete && body["status_code"] == answer.status,
    )
}

#[test]
fn a_body_beyond_the_limit_is_refused_in_mattermosts_shape_before_or_while_it_comes() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\nbody_bytes = 1000".to_owned();
    let edge = place.start_open();
    let ca = place.ca_pem();
    let large = Request::post("https://localhost:8443/api/v4/files")
        .header("host", "localhost:8443")
        .body(Full::from(vec![0; 1001]));
    assert_eq!(
        shape(&send(edge.https(), &ca, "h2", large.unwrap())),
        (413, true)
    );
    assert!(upstream.seen().is_empty());
    let chunk = "x".repeat(600);
    let chunked = format!(
        "POST /count HTTP/1.1\r\nHost: localhost:8443\r\nTransfer-Encoding: chunked\r\n\r\n\
         258\r\n{chunk}\r\n258\r\n{chunk}\r\n0\r\n\r\n"
    );
    assert_eq!(status_of(&told(&edge, &place, &chunked)), "413");
    let enough = Request::post("/count")
        .header("host", "localhost:8443")
        .body(Full::from(vec![0; 1000]));
    let answer = send(edge.https(), &ca, "http/1.1", enough.unwrap());
    assert_eq!(answer.json()["total"], 1000);
}

#[test]
fn the_server_cannot_be_told_to_replace_itself() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let ca = place.ca_pem();
    for path in [
        "/api/v4/upgrade_to_enterprise",
        "/api/v4/upgrade%5Fto_enterprise",
    ] {
        let answer = post(edge.https(), &ca, path, "{}");
        assert_eq!(shape(&answer), (403, true));
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("update of the appliance"), "{message}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn an_upload_that_goes_on_is_not_measured_by_its_whole_time() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\nanswer_seconds = 4".to_owned();
    let edge = place.start_open();
    let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    let head = "POST /count HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    // A slow line: for longer than an answer may take, twice over.
    let (started, mut sent) = (Instant::now(), 0_u64);
    while started.elapsed() < Duration::from_secs(9) {
        stream.write_all(b"1\r\nx\r\n").unwrap();
        stream.flush().unwrap();
        sent += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    let answer = exchange(&mut stream, "0\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("\"total\":{sent}")),
        "{answer}"
    );
}

#[test]
fn an_answer_that_does_not_come_is_given_up() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\nanswer_seconds = 1".to_owned();
    let edge = place.start_open();
    assert_eq!(get(edge.https(), &place.ca_pem(), "/hang").status, 504);
}

#[test]
fn hsts_is_sent_only_under_a_certificate_that_was_given() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    place.extra = format!(
        "[tls]\nmode = \"static\"\ncertificate = '''\n{pem}'''\n[headers]\ncsp = \"strict\"\nreferrer_policy = \"same-origin\""
    );
    let key = made.signing_key.serialize_pem();
    place.secrets = Some(format!("static_key = '''\n{key}'''\n"));
    let edge = place.start_open();
    for path in ["/page", "/api/v4/upgrade_to_enterprise"] {
        let answer = get(edge.https(), &pem, path);
        assert_eq!(answer.header("strict-transport-security"), "max-age=86400");
    }
    let answer = get(edge.https(), &pem, "/page");
    assert_eq!(answer.header("referrer-policy"), "same-origin");
    let policies: Vec<_> = answer
        .headers
        .get_all("content-security-policy")
        .iter()
        .collect();
    let strict = policies[1].to_str().unwrap();
    assert!(
        strict.contains("connect-src 'self' wss://localhost:8443;"),
        "{strict}"
    );
}

#[test]
fn a_kept_connection_that_mattermost_has_closed_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new(listener.local_addr().unwrap());
    let (closed, is_closed) = channel();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    });
    let edge = place.start_open();
    for _ in 0..3 {
        let answer = post(edge.https(), &place.ca_pem(), "/page", "");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
        is_closed.recv().unwrap();
    }
    server.join().unwrap();
}

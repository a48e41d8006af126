//! Clients that are slow, too big, too many, or try to say two things at once.

use std::io::Write;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;

use tungstenite::Message;

use crate::client::{exchange, get, raw, read_to_end, send, websocket};
use crate::edge::Place;
use crate::upstream::Upstream;

#[test]
fn conflicting_lengths_never_make_a_second_request() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let smuggled = "0\r\n\r\nGET /headers?smuggled HTTP/1.1\r\nHost: localhost:8443\r\n\r\n";
    let lengths = [
        format!(
            "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n",
            smuggled.len()
        ),
        format!(
            "Transfer-Encoding: chunked\r\nContent-Length: {}\r\n",
            smuggled.len()
        ),
    ];
    for framing in lengths {
        let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
        let request =
            format!("POST /headers HTTP/1.1\r\nHost: localhost:8443\r\n{framing}\r\n{smuggled}");
        // RFC 9112 section 6.1: the chunks count, and the connection ends after the answer.
        let answer = exchange(&mut stream, &request);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(
            !answer.contains("content-length\",\""),
            "the upstream saw both: {answer}"
        );
    }
    assert!(
        !upstream.seen().iter().any(|seen| seen.contains("smuggled")),
        "{:?}",
        upstream.seen()
    );
}

#[test]
fn malformed_requests_are_refused_and_never_forwarded() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    for request in [
        "POST / HTTP/1.1\r\nHost: localhost:8443\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: localhost:8443\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "POST / HTTP/1.1\r\nHost: localhost:8443\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: localhost:8443\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost:8443\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: localhost:8443\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost:8443\r\nX: 1\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost:8443\r\nHost: b\r\nConnection: close\r\n\r\n",
        "GET https://b/ HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n",
    ] {
        let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
        let answer = exchange(&mut stream, request);
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{request}: {answer}"
        );
    }
    let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    let answer = exchange(
        &mut stream,
        "CONNECT a:22 HTTP/1.1\r\nHost: a:22\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    let trace = "TRACE / HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut stream, trace);
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
}

#[test]
fn a_body_with_bad_chunks_never_arrives_whole() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    let request = "POST /count HTTP/1.1\r\nHost: localhost:8443\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n";
    let answer = exchange(&mut stream, request);
    assert!(
        !answer.contains("\"total\":5") || !answer.starts_with("HTTP/1.1 200"),
        "{answer}"
    );
}

#[test]
fn too_many_or_too_large_headers_are_refused() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    let large = format!("X: {}\r\n", "a".repeat(40_000));
    for headers in [many, large] {
        let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
        let answer = exchange(
            &mut stream,
            &format!("GET /page HTTP/1.1\r\nHost: localhost:8443\r\n{headers}\r\n"),
        );
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let large = Request::get("https://localhost:8443/page").header("x", "a".repeat(40_000));
    let answer = send(
        edge.https(),
        &place.ca_pem(),
        "h2",
        large.body(Full::<Bytes>::default()).unwrap(),
    );
    assert_eq!(answer.status, 431);
    let mut many = Request::get("https://localhost:8443/page");
    for n in 0..150 {
        many = many.header(format!("x-{n}"), "1");
    }
    let many = many.body(Full::<Bytes>::default()).unwrap();
    let answer = send(edge.https(), &place.ca_pem(), "h2", many);
    assert_eq!(answer.status, 431);
    assert!(upstream.seen().is_empty());
}

#[test]
fn slow_headers_and_slow_handshakes_are_given_up() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\nheader_seconds = 1\n[access]\nmetrics = [\"127.0.0.0/8\"]".to_owned();
    let edge = place.start_open();
    let mut slow = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    slow.flush().unwrap();
    let mut silent = std::net::TcpStream::connect(edge.https()).unwrap();
    silent
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    // Both end although nobody sends anything more.
    let answer = read_to_end(&mut slow);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    assert_eq!(read_to_end(&mut silent), "");
    // An idle one that has asked before ends in the same way, which is in order.
    let mut idle = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    read_to_end(&mut idle);
    let figures = get(edge.https(), &place.ca_pem(), "/_atalaya/metrics");
    let figures = String::from_utf8(figures.body.to_vec()).unwrap();
    for line in [
        "atalaya_edge_broken_connections_total{kind=\"too_slow\"} 1",
        "atalaya_edge_broken_connections_total{kind=\"cut_off\"} 0",
        "atalaya_edge_tls_handshakes_total{version=\"\",result=\"too_slow\"} 1",
    ] {
        assert!(figures.lines().any(|it| it == line), "{line}\n{figures}");
    }
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\nbody_idle_seconds = 1".to_owned();
    let edge = place.start_open();
    let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    let answer = exchange(
        &mut stream,
        "POST /count HTTP/1.1\r\nHost: localhost:8443\r\nContent-Length: 100\r\n\r\nhello",
    );
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn connections_beyond_the_limit_are_closed_and_those_within_it_live() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\nconnections = 2".to_owned();
    let edge = place.start_open();
    let ca = place.ca_pem();
    let first = raw(edge.https(), &ca, "localhost").unwrap();
    let mut second = raw(edge.https(), &ca, "localhost").unwrap();
    assert!(raw(edge.https(), &ca, "localhost").is_err());
    edge.wait_log(|line| line["limit"] == 2);
    let answer = exchange(
        &mut second,
        "GET /page HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop((first, second));
    edge.wait_log(|line| line["event"] == "request");
    // The places are free again; the edge needs a moment to see that the clients are gone.
    while raw(edge.https(), &ca, "localhost").is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_websocket_counts_as_a_connection() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\nconnections = 1".to_owned();
    let edge = place.start_open();
    let ca = place.ca_pem();
    let mut socket = websocket(edge.https(), &ca);
    assert!(raw(edge.https(), &ca, "localhost").is_err());
    socket.send(Message::text("still there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still there"));
    drop(socket);
    while raw(edge.https(), &ca, "localhost").is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let (address, ca) = (edge.https(), place.ca_pem());
    edge.pause_reading(|| {
        let long = format!("/page/{}", "x".repeat(400));
        let request = format!("GET {long} HTTP/1.1\r\nHost: localhost:8443\r\n\r\n").repeat(2000);
        let mut stream = raw(address, &ca, "localhost").unwrap();
        let end = "GET /page HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n";
        let answer = exchange(&mut stream, &(request + end));
        assert_eq!(answer.matches("HTTP/1.1 404 ").count(), 2000);
    });
}

//! What goes through: headers, bodies of any size, WebSockets, HTTP/2.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Version};
use tungstenite::Message;

use crate::client::{get, raw, send, websocket};
use crate::edge::Place;
use crate::upstream::{Upstream, Zeros};

fn headers_of(answer: &crate::client::Answer, name: &str) -> Vec<String> {
    let pairs = answer.json()["headers"].as_array().unwrap().clone();
    pairs
        .iter()
        .filter(|pair| pair[0] == name)
        .map(|pair| pair[1].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_upstream_learns_the_true_client_and_the_hosts_name_unchanged() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let request = Request::post("/headers?q=1&r=%2F")
        .header("host", "LocalHost:8443")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-proto", "http")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-port", "1")
        .header("x-real-ip", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("te", "trailers")
        .header("cookie", "a=1")
        .body(Full::from("hello"))
        .unwrap();
    let answer = send(edge.https(), &place.ca_pem(), "http/1.1", request);
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("host", "LocalHost:8443"),
        ("x-forwarded-host", "LocalHost:8443"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "127.0.0.1"),
        ("cookie", "a=1"),
        ("content-length", "5"),
    ] {
        assert_eq!(headers_of(&answer, name), [value], "{name}");
    }
    for name in ["forwarded", "x-forwarded-port", "te"] {
        assert!(headers_of(&answer, name).is_empty(), "{name}");
    }
    assert_eq!(answer.json()["target"], "/headers?q=1&r=%2F");
    assert_eq!(answer.json()["body"], "hello");
    let line = edge.wait_log(|line| line["event"] == "request");
    assert_eq!(line["path"], "/headers", "no query in the log");
    assert_eq!(
        (line["status"].as_u64(), line["bytes_in"].as_u64()),
        (Some(200), Some(5))
    );
    assert_eq!(line["bytes_out"], answer.body.len());
}

#[test]
fn answers_carry_the_usual_headers_and_no_servers_name() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let answer = get(edge.https(), &place.ca_pem(), "/page");
    let all = |name: &str| {
        answer
            .headers
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(all("permissions-policy").len(), 1);
    assert!(all("permissions-policy")[0].contains("geolocation=()"));
    assert_eq!(
        all("content-security-policy"),
        [
            "frame-ancestors 'self' ; script-src 'self'",
            "object-src 'none'; base-uri 'self'"
        ]
    );
    assert_eq!(all("x-content-type-options"), ["nosniff"]);
    assert_eq!(all("referrer-policy"), ["no-referrer"]);
    for name in ["server", "x-powered-by", "strict-transport-security"] {
        assert!(all(name).is_empty(), "{name}");
    }
}

#[test]
fn http2_requests_arrive_as_http1_with_their_authority_as_host() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let request = Request::post("https://localhost:8443/headers")
        .version(Version::HTTP_2)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::from("two"))
        .unwrap();
    let answer = send(edge.https(), &place.ca_pem(), "h2", request);
    assert_eq!((answer.status, answer.version), (200, Version::HTTP_2));
    assert_eq!(headers_of(&answer, "host"), ["localhost:8443"]);
    assert_eq!(headers_of(&answer, "cookie"), ["a=1; b=2"]);
    assert_eq!(headers_of(&answer, "x-forwarded-proto"), ["https"]);
    assert_eq!(answer.json()["body"], "two");
    assert_eq!(
        edge.wait_log(|line| line["event"] == "request")["protocol"],
        "h2"
    );
}

#[test]
fn large_bodies_are_streamed_in_bounded_memory() {
    const SIZE: u64 = 100 * 1024 * 1024;
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let ca = place.ca_pem();
    get(edge.https(), &ca, "/page");
    let before = edge.memory_kib("VmHWM:");
    for protocol in ["http/1.1", "h2"] {
        let upload = Request::post("https://localhost:8443/count")
            .header("host", "localhost:8443")
            .body(Zeros::new(SIZE));
        let answer = send(edge.https(), &ca, protocol, upload.unwrap());
        assert_eq!(answer.json()["total"], SIZE, "{protocol}");
        let slow =
            Request::post("https://localhost:8443/count-slowly").header("host", "localhost:8443");
        let answer = send(
            edge.https(),
            &ca,
            protocol,
            slow.body(Zeros::new(SIZE / 5)).unwrap(),
        );
        assert_eq!(answer.json()["total"], SIZE / 5, "{protocol}");
        let download = Request::get("https://localhost:8443/blob").header("host", "localhost:8443");
        let answer = send(
            edge.https(),
            &ca,
            protocol,
            download.body(Full::<Bytes>::default()).unwrap(),
        );
        assert_eq!(answer.body.len() as u64, SIZE, "{protocol}");
        assert_eq!(answer.header("content-length"), SIZE.to_string());
    }
    let grown = edge.memory_kib("VmHWM:") - before;
    println!(
        "the edge's largest resident size went from {before} KiB to {} KiB",
        before + grown
    );
    assert!(grown < 16 * 1024, "the edge grew by {grown} KiB");
}

#[test]
fn websockets_pass_both_ways() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let mut socket = websocket(edge.https(), &place.ca_pem());
    for text in ["one", "two", "three"] {
        socket.send(Message::text(text)).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text(text));
    }
    drop(socket);
    let line = edge.wait_log(|line| line["event"] == "request");
    assert_eq!(
        (line["status"].as_u64(), line["path"].as_str()),
        (Some(101), Some("/api/v4/websocket"))
    );
}

#[test]
fn connections_to_the_upstream_are_kept() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let ca = place.ca_pem();
    let mut stream = raw(edge.https(), &ca, "localhost").unwrap();
    let request = "GET /page HTTP/1.1\r\nHost: localhost:8443\r\n\r\nGET /page HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n";
    let answer = crate::client::exchange(&mut stream, request);
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(upstream.seen(), ["GET /page", "GET /page"]);
}

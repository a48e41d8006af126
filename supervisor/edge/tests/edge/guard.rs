//! Who a client is and what it may do: behind load balancers, from other networks, with wrong passwords, with too many connections. What
//! tells clients apart here is the word of a load balancer on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::json;

use crate::client::{Answer, exchange, read_to_end, send, tls_config, tls_over};
use crate::edge::{Edge, Place};
use crate::upstream::Upstream;

const BALANCER: &str = "trusted_proxies = [\"127.0.0.0/8\"]";
const INSIDE: &str = "10.1.1.1";
const ADMINISTRATOR: &str = "10.0.5.7";
const OUTSIDE: &str = "192.0.2.1";

fn place(upstream: &Upstream, settings: &str) -> Place {
    let mut place = Place::new(upstream.address);
    place.extra = settings.to_owned();
    place
}

/// A request that a load balancer on loopback passes on for `client`.
fn ask(edge: &Edge, place: &Place, client: &str, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost:8443")
        .header("x-forwarded-for", client)
        .body(Full::<Bytes>::from(body.to_owned()))
        .unwrap();
    send(edge.https(), &place.ca_pem(), "http/1.1", request)
}

fn log_in(edge: &Edge, place: &Place, client: &str, body: &str) -> Answer {
    ask(edge, place, client, "POST", "/api/v4/users/login", body)
}

/// What the upstream was told about the client.
fn told(answer: &Answer) -> Vec<(String, String)> {
    let headers: Vec<(String, String)> =
        serde_json::from_value(answer.json()["headers"].clone()).unwrap();
    let about = ["x-forwarded-for", "x-real-ip", "forwarded"];
    headers
        .into_iter()
        .filter(|(name, _)| about.contains(&name.as_str()))
        .collect()
}

fn as_client(address: &str) -> Vec<(String, String)> {
    ["x-forwarded-for", "x-real-ip"]
        .map(|name| (name.to_owned(), address.to_owned()))
        .to_vec()
}

#[test]
fn the_client_is_whom_a_trusted_load_balancer_names() {
    let upstream = Upstream::start();
    let place = place(&upstream, &format!("[access]\n{BALANCER}"));
    let edge = place.start_open();
    let answer = ask(
        &edge,
        &place,
        "6.6.6.6, 198.51.100.7, 127.0.0.9",
        "GET",
        "/headers",
        "",
    );
    assert_eq!(told(&answer), as_client("198.51.100.7"));
    let line = edge.wait_log(|line| line["event"] == "request");
    assert_eq!(line["client"], "198.51.100.7");
    let answer = ask(&edge, &place, "2001:db8::7", "GET", "/headers", "");
    assert_eq!(told(&answer), as_client("2001:db8::7"));
}

#[test]
fn nobody_else_is_believed() {
    let upstream = Upstream::start();
    for settings in ["", "[access]\ntrusted_proxies = [\"10.0.0.0/8\"]"] {
        let place = place(&upstream, settings);
        let edge = place.start_open();
        let answer = ask(&edge, &place, "198.51.100.7", "GET", "/headers", "");
        assert_eq!(told(&answer), as_client("127.0.0.1"));
    }
}

/// A connection that begins with these bytes; nothing else was sent.
fn begin(address: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).unwrap();
    stream.write_all(first).unwrap();
    stream
}

const GET_HEADERS: &str =
    "GET /headers HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n";

/// GET /headers on a connection that begins with these bytes.
fn through(edge: &Edge, place: &Place, first: &[u8]) -> std::io::Result<String> {
    let config = tls_config(&place.ca_pem(), rustls::DEFAULT_VERSIONS, &["http/1.1"]);
    let mut stream = tls_over(begin(edge.https(), first), config, "localhost")?;
    Ok(exchange(&mut stream, GET_HEADERS))
}

const VERSION_1: &[u8] = b"PROXY TCP6 2001:db8::7 fd00::1 4711 443\r\n";

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    header.extend(client);
    header.extend([10, 0, 0, 1, 0x12, 0x34, 1, 187]);
    // A NOOP of no length, as balancers append.
    header.extend([4, 0, 0]);
    header
}

#[test]
fn the_proxy_protocol_names_the_client_before_tls() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        &format!("[access]\n{BALANCER}\nproxy_protocol = true"),
    );
    let edge = place.start_open();
    let answer = through(&edge, &place, VERSION_1).unwrap();
    assert!(
        answer.contains(r#"["x-real-ip","2001:db8::7"]"#),
        "{answer}"
    );
    let answer = through(&edge, &place, &version_2([198, 51, 100, 7])).unwrap();
    assert!(
        answer.contains(r#"["x-real-ip","198.51.100.7"]"#),
        "{answer}"
    );
    // The balancer's own health check speaks for itself.
    let answer = through(&edge, &place, b"PROXY UNKNOWN\r\n").unwrap();
    assert!(answer.contains(r#"["x-real-ip","127.0.0.1"]"#), "{answer}");
    assert!(through(&edge, &place, b"").is_err());
    edge.wait_log(|line| line["balancer"] == "127.0.0.1");
    // Port 80 is spoken to in the same way.
    let mut plain = begin(edge.http(), VERSION_1);
    let answer = exchange(&mut plain, GET_HEADERS);
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
}

#[test]
fn a_proxy_header_comes_in_time_or_not_at_all() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        &format!("[access]\n{BALANCER}\nproxy_protocol = true\n[limits]\nheader_seconds = 1"),
    );
    let edge = place.start_open();
    for first in [&b""[..], b"PROXY TCP4 198.", &version_2([1, 2, 3, 4])[..20]] {
        assert_eq!(read_to_end(&mut begin(edge.https(), first)), "");
    }
}

#[test]
fn a_proxy_header_of_a_stranger_is_not_taken() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        "[access]\ntrusted_proxies = [\"10.0.0.0/8\"]\nproxy_protocol = true",
    );
    let edge = place.start_open();
    assert!(through(&edge, &place, VERSION_1).is_err());
    let answer = through(&edge, &place, b"").unwrap();
    assert!(answer.contains(r#"["x-real-ip","127.0.0.1"]"#), "{answer}");
}

#[test]
fn the_site_is_open_to_its_networks_and_to_the_authority_that_proves_its_name() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        &format!("[access]\n{BALANCER}\nsite = [\"10.0.0.0/8\", \"2001:db8::/32\"]"),
    );
    let edge = place.start_open();
    for inside in [INSIDE, "2001:db8::7"] {
        assert_eq!(ask(&edge, &place, inside, "GET", "/page", "").status, 200);
    }
    for outside in [OUTSIDE, "2001:db9::7"] {
        let page = ask(&edge, &place, outside, "GET", "/page", "");
        assert_eq!(page.status, 403);
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert!(text.contains("VPN") && text.contains(outside), "{text}");
        let call = ask(&edge, &place, outside, "GET", "/api/v4/users/me", "");
        assert_eq!(call.json()["status_code"], 403);
    }
    assert_eq!(upstream.seen(), ["GET /page"; 2]);
    let plain = |path: &str| {
        let mut stream = begin(edge.http(), b"");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {OUTSIDE}\r\nConnection: close\r\n\r\n"
        );
        exchange(&mut stream, &request)
    };
    for path in ["/", "/ca.crt"] {
        let answer = plain(path);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
    // Nothing was ordered, so there is nothing to prove; but it was asked.
    let answer = plain("/.well-known/acme-challenge/token");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn administrators_calls_come_from_their_networks_and_chat_from_everywhere() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        &format!("[access]\n{BALANCER}\nadministrators = [\"10.0.5.0/24\"]"),
    );
    let edge = place.start_open();
    let put = |client, path| ask(&edge, &place, client, "PUT", path, "{}");
    for path in [
        "/api/v4/config",
        "/api/v4/%63onfig",
        "/api/v4/users/u1/roles",
    ] {
        let answer = put(INSIDE, path);
        assert_eq!(
            (answer.status, &answer.json()["status_code"]),
            (403, &json!(403))
        );
        assert!(
            answer.json()["message"]
                .as_str()
                .unwrap()
                .contains("administrators")
        );
    }
    assert!(upstream.seen().is_empty(), "{:?}", upstream.seen());
    // The test's upstream knows neither: that it answers shows that it was asked.
    assert_eq!(put(ADMINISTRATOR, "/api/v4/config").status, 404);
    assert_eq!(put(INSIDE, "/api/v4/users/me/patch").status, 404);
    assert_eq!(ask(&edge, &place, INSIDE, "GET", "/page", "").status, 200);
}

const ADMIN: &str = r#"{"login_id": "admin",  "password": "wrong"}"#;

#[test]
fn wrong_passwords_trip_before_mattermost_locks_the_account() {
    let upstream = Upstream::start();
    let place = place(&upstream, &format!("[access]\n{BALANCER}"));
    let edge = place.start_open();
    upstream.set(|behaviour| behaviour.login_status = 401);
    let mut refused = None;
    for attempt in 1..10 {
        let answer = log_in(&edge, &place, OUTSIDE, ADMIN);
        if answer.status == 429 {
            refused = Some((attempt, answer));
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let (attempt, answer) = refused.expect("Mattermost would have locked the account");
    // A name and an e-mail address: the account that has both stays below ten.
    assert_eq!(attempt, 5);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=600).contains(&seconds), "{seconds}");
    assert_eq!(answer.json()["status_code"], 429);
    let tried = |upstream: &Upstream| {
        let seen = upstream.seen();
        seen.iter().filter(|seen| seen.starts_with("POST")).count()
    };
    assert_eq!(tried(&upstream), 4);
    // The colleague behind the same address, and the owner at home, are not held up.
    let other = r#"{"login_id":"other","password":"wrong"}"#;
    assert_eq!(log_in(&edge, &place, OUTSIDE, other).status, 401);
    assert_eq!(log_in(&edge, &place, INSIDE, ADMIN).status, 401);
    // Nothing else of that client is.
    assert_eq!(ask(&edge, &place, OUTSIDE, "GET", "/page", "").status, 200);
    edge.wait_log(|line| line["client"] == OUTSIDE && line["level"] == "warn");
}

#[test]
fn an_address_that_tries_many_accounts_trips_too() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        &format!("[access]\n{BALANCER}\n[login]\nfailures_per_address = 6"),
    );
    let edge = place.start_open();
    upstream.set(|behaviour| behaviour.login_status = 401);
    let status = |client, account: usize| {
        let body = format!(r#"{{"login_id":"a{account}","password":"wrong"}}"#);
        log_in(&edge, &place, client, &body).status
    };
    for account in 0..6 {
        assert_eq!(status(OUTSIDE, account), 401);
    }
    assert_eq!(status(OUTSIDE, 6), 429);
    assert_eq!(status(INSIDE, 6), 401);
}

#[test]
fn a_log_in_that_says_nothing_about_the_password_is_not_counted() {
    let upstream = Upstream::start();
    let place = place(&upstream, "");
    let edge = place.start_open();
    let status = |login: u16, ping: u16| {
        upstream.set(|behaviour| (behaviour.login_status, behaviour.ping_status) = (login, ping));
        log_in(&edge, &place, "", ADMIN).status
    };
    // The database is away, the server is busy, the account is barred: more often than would trip.
    for (login, ping, told) in [(401, 500, 503), (500, 200, 500), (403, 200, 403)] {
        for _ in 0..5 {
            assert_eq!(status(login, ping), told);
        }
    }
    // A right one forgets the wrong ones before it.
    for login in [401, 401, 401, 200, 401, 401, 401, 401, 429] {
        let asked = if login == 429 { 401 } else { login };
        assert_eq!(status(asked, 200), login);
    }
}

#[test]
fn the_body_of_a_log_in_arrives_as_it_was_sent_and_is_not_read_without_end() {
    let upstream = Upstream::start();
    let place = place(&upstream, "");
    let edge = place.start_open();
    assert_eq!(log_in(&edge, &place, "", ADMIN).status, 200);
    upstream.set(|behaviour| assert_eq!(behaviour.login_body, ADMIN));
    let large = format!(
        r#"{{"login_id":"a","password":"{}"}}"#,
        "x".repeat(64 * 1024)
    );
    let answer = log_in(&edge, &place, "", &large);
    assert_eq!(
        (answer.status, &answer.json()["status_code"]),
        (413, &json!(413))
    );
    for unreadable in ["login_id=a", "{}{}", r#"{"login_id":"a","LOGIN_ID":"b"}"#] {
        assert_eq!(log_in(&edge, &place, "", unreadable).status, 400);
    }
    assert_eq!(upstream.seen(), ["POST /api/v4/users/login"]);
}

#[test]
fn one_client_cannot_take_every_place() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        &format!(
            "[access]\n{BALANCER}\nproxy_protocol = true\n[limits]\nconnections_per_client = 2"
        ),
    );
    let edge = place.start_open();
    let config = tls_config(&place.ca_pem(), rustls::DEFAULT_VERSIONS, &["http/1.1"]);
    let enter = |header: &[u8]| tls_over(begin(edge.https(), header), config.clone(), "localhost");
    // The addresses of one /64 are one client.
    let first = enter(b"PROXY TCP6 2001:db8::1 fd00::1 4711 443\r\n").unwrap();
    let second = enter(b"PROXY TCP6 2001:db8::2 fd00::1 4711 443\r\n").unwrap();
    let third = b"PROXY TCP6 2001:db8::3 fd00::1 4711 443\r\n";
    assert!(enter(third).is_err());
    edge.wait_log(|line| line["limit"] == 2 && line["client"] == "2001:db8::3");
    let mut other = enter(&version_2([198, 51, 100, 7])).unwrap();
    assert!(exchange(&mut other, GET_HEADERS).starts_with("HTTP/1.1 200 OK"));
    // The balancer's own connections are everybody's.
    let own: Vec<_> = (0..3)
        .map(|_| enter(b"PROXY UNKNOWN\r\n").unwrap())
        .collect();
    drop((first, second, own));
    while enter(third).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn a_connection_of_a_balancer_that_ends_at_once_is_no_event() {
    let upstream = Upstream::start();
    let place = place(
        &upstream,
        &format!("[access]\n{BALANCER}\nproxy_protocol = true"),
    );
    let edge = place.start_open();
    let mut checked = TcpStream::connect(edge.https()).unwrap();
    checked.shutdown(std::net::Shutdown::Write).unwrap();
    let mut nothing = Vec::new();
    checked.read_to_end(&mut nothing).unwrap();
    assert!(through(&edge, &place, VERSION_1).is_ok());
    edge.terminate();
    let (_, output) = edge.wait_exit();
    assert!(!output.contains("balancer"), "{output}");
}

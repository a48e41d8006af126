//! SIGUSR2: a successor serves before the old process ends, and nobody waits or is cut off.

use std::io::{Read, Write};
use std::net::TcpListener;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::client::{get, raw, read_to_end, send};
use crate::edge::Place;
use crate::upstream::Upstream;

/// A successor of a test's edge, ended with the test.
struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).ok();
    }
}

const REQUEST: &[u8] = b"GET /headers HTTP/1.1\r\nHost: localhost:8443\r\n\r\n";

/// One answer, the connection stays open: its head, and as much as that says.
fn read_answer(connection: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    head
}

fn place(upstream: &Upstream) -> Place {
    let mut place = Place::new(upstream.address);
    place.socket = Some(TcpListener::bind("127.0.0.1:0").unwrap());
    place
}

#[test]
fn a_successor_serves_while_the_old_run_finishes_what_it_has_begun() {
    let upstream = Upstream::start();
    let place = place(&upstream);
    let mut edge = place.start_open();
    let (address, ca) = (edge.https(), place.ca_pem());
    let waiting = ["http/1.1", "h2"].map(|protocol| {
        let ca = ca.clone();
        std::thread::spawn(move || {
            let request = match protocol {
                "h2" => Request::get("https://localhost:8443/hang"),
                _ => Request::get("/hang").header("host", "localhost:8443"),
            };
            let request = request.body(Full::<Bytes>::default()).unwrap();
            send(address, &ca, protocol, request)
        })
    });
    upstream.wait_hanging();
    upstream.wait_hanging();
    // Connected, but nothing asked yet; and one that was answered, and will ask again.
    let early = raw(address, &ca, "localhost").unwrap();
    let mut idle = raw(address, &ca, "localhost").unwrap();
    idle.write_all(REQUEST).unwrap();
    let first = read_answer(&mut idle);
    assert!(first.starts_with("HTTP/1.1 200 ") && !first.contains("connection: close"));
    edge.signal(Signal::SIGUSR2);
    let said = edge.wait_notify_with(|line| line.starts_with("MAINPID="));
    let pid = said["MAINPID=".len()..].parse().unwrap();
    let successor = Successor(Pid::from_raw(pid));
    assert_ne!(u32::try_from(pid).unwrap(), edge.pid());
    edge.wait_notify("READY=1");
    // The old one goes only when the supervisor has taken note: the descriptor of this is closed with the message.
    edge.wait_notify("BARRIER=1");
    edge.wait_log(|line| {
        line["message"]
            .as_str()
            .is_some_and(|it| it.starts_with("another process serves"))
    });
    // The one that runs on answers from what it was given, the other finishes.
    assert_eq!(get(address, &ca, "/headers").status, 200);
    for mut kept in [early, idle] {
        kept.write_all(REQUEST).unwrap();
        let answer = read_to_end(&mut kept);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"));
    }
    upstream.release.add_permits(2);
    for waiting in waiting {
        assert_eq!(waiting.join().unwrap().json(), json!({ "late": true }));
    }
    assert!(edge.wait_end().success());
    // What the old one made is still there: the authority, the reports, the socket.
    assert_eq!(get(address, &place.ca_pem(), "/headers").status, 200);
    assert_eq!(ca, place.ca_pem());
    kill(successor.0, Signal::SIGTERM).unwrap();
    let (_, output) = edge.wait_exit();
    assert!(!output.contains("cut off"), "{output}");
}

#[test]
fn a_successor_that_does_not_come_up_changes_nothing() {
    let upstream = Upstream::start();
    let mut place = place(&upstream);
    let edge = place.start_open();
    place.extra = "colour = \"blue\"".to_owned();
    place.write_settings();
    edge.signal(Signal::SIGUSR2);
    let failed = edge.wait_log(|line| {
        line["message"]
            .as_str()
            .is_some_and(|it| it.starts_with("failed to start a successor"))
    });
    assert_eq!(failed["level"], "error");
    edge.wait_notify("READY=1");
    assert_eq!(get(edge.https(), &place.ca_pem(), "/page").status, 200);
    edge.terminate();
    let (status, output) = edge.wait_exit();
    assert!(status.success(), "{output}");
}

//! SIGTERM: what is open is finished, within a limit.

use std::net::TcpStream;

use tungstenite::Message;

use crate::client::{get, raw, websocket};
use crate::edge::Place;
use crate::upstream::Upstream;

#[test]
fn an_open_request_is_answered_before_the_process_ends() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let (address, ca) = (edge.https(), place.ca_pem());
    let waiting = std::thread::spawn(move || get(address, &ca, "/hang"));
    upstream.wait_hanging();
    edge.terminate();
    edge.wait_notify("STOPPING=1");
    // The listener goes at once; until then a connection may still be taken.
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
    upstream.release.add_permits(1);
    let answer = waiting.join().unwrap();
    assert_eq!(
        (answer.status, answer.json()["late"].as_bool()),
        (200, Some(true))
    );
    let (status, output) = edge.wait_exit();
    assert!(status.success(), "{output}");
    assert!(!output.contains("cut off"), "{output}");
}

#[test]
fn websockets_are_closed_and_idle_connections_do_not_hold_the_end_up() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let idle = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    let mut socket = websocket(edge.https(), &place.ca_pem());
    socket.send(Message::text("there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("there"));
    edge.terminate();
    assert!(socket.read().is_err());
    let (status, output) = edge.wait_exit();
    assert!(status.success() && !output.contains("cut off"), "{output}");
    drop(idle);
}

#[test]
fn a_request_that_never_ends_is_cut_off_at_the_limit() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[limits]\ndrain_seconds = 1".to_owned();
    let edge = place.start_open();
    let mut stream = raw(edge.https(), &place.ca_pem(), "localhost").unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /hang HTTP/1.1\r\nHost: localhost:8443\r\n\r\n",
    )
    .unwrap();
    upstream.wait_hanging();
    edge.terminate();
    let (status, output) = edge.wait_exit();
    assert!(status.success() && output.contains("cut off"), "{output}");
}

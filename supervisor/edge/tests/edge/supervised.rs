//! What a supervisor gives and gets: listening sockets that outlive a run, and signs of life.

use std::net::TcpListener;

use crate::client::get;
use crate::edge::Place;
use crate::upstream::Upstream;

#[test]
fn a_connection_made_between_two_runs_is_answered_by_the_second() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    place.socket = Some(socket);
    let first = place.start_open();
    assert_eq!(first.https(), address);
    let ca = place.ca_pem();
    assert_eq!(get(address, &ca, "/headers").status, 200);
    first.terminate();
    let (status, output) = first.wait_exit();
    assert!(status.success(), "{output}");
    // Nobody accepts now, and nobody is refused.
    let early = std::net::TcpStream::connect(address).unwrap();
    let waiting = std::thread::spawn(move || get(address, &ca, "/headers"));
    let _second = place.start_open();
    assert_eq!(waiting.join().unwrap().status, 200);
    drop(early);
}

#[test]
fn a_supervisor_that_asks_for_it_gets_signs_of_life() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.watchdog_us = Some(100_000);
    let edge = place.start();
    for _ in 0..3 {
        edge.wait_notify("WATCHDOG=1");
    }
}

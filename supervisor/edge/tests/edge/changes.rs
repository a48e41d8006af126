//! Settings that change while the edge runs: valid ones hold for what comes, invalid ones change nothing.

use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::client::{get, raw, read_to_end};
use crate::edge::{Edge, Place};
use crate::upstream::Upstream;

const OPEN: &str = "[access]\nmetrics = [\"127.0.0.0/8\"]";

fn figures(edge: &Edge, place: &Place) -> u16 {
    get(edge.https(), &place.ca_pem(), "/_atalaya/metrics").status
}

fn told(place: &Place) -> Value {
    serde_json::from_slice(&std::fs::read(place.path("public/settings.json")).unwrap()).unwrap()
}

#[test]
fn a_change_holds_for_the_next_request_and_disturbs_none_under_way() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let edge = place.start_open();
    let (address, ca) = (edge.https(), place.ca_pem());
    assert_eq!(figures(&edge, &place), 403);
    let waiting = {
        let ca = ca.clone();
        std::thread::spawn(move || get(address, &ca, "/hang"))
    };
    upstream.wait_hanging();
    // On a connection that was there before.
    let mut kept = raw(address, &ca, "localhost").unwrap();
    place.extra = OPEN.to_owned();
    place.write_settings();
    edge.wait_log(|line| line["message"] == "new settings hold");
    kept.write_all(
        b"GET /_atalaya/metrics HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let answer = read_to_end(&mut kept);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    upstream.release.add_permits(1);
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(told(&place)["error"], Value::Null);
}

#[test]
fn settings_that_are_not_valid_change_nothing_and_are_told() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = OPEN.to_owned();
    let edge = place.start_open();
    assert_eq!(figures(&edge, &place), 200);
    place.extra = "[access]\nmetrics = []\ncolour = \"blue\"".to_owned();
    place.write_settings();
    let refused = |line: &Value| {
        line["message"]
            .as_str()
            .is_some_and(|it| it.contains("refused"))
    };
    let line = edge.wait_log(refused);
    assert!(line["error"].as_str().unwrap().contains("colour"), "{line}");
    assert_eq!(figures(&edge, &place), 200);
    place.wait_public("settings.json", |told| told["error"].is_string());
    // Right again, and other than before.
    place.extra = "[access]\nmetrics = []".to_owned();
    place.write_settings();
    place.wait_public("settings.json", |told| told["error"].is_null());
    assert_eq!(figures(&edge, &place), 403);
}

#[test]
fn a_certificate_is_changed_with_its_key_or_not_at_all_and_old_connections_go_on() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let edge = place.start_open();
    let (address, ca) = (edge.https(), place.ca_pem());
    let mut kept = raw(address, &ca, "localhost").unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem();
    // Its key is not there: nothing of this holds.
    place.extra = format!("[tls]\nmode = \"static\"\ncertificate = '''\n{pem}'''\n{OPEN}");
    place.write_settings();
    let told = place.wait_public("settings.json", |told| told["error"].is_string());
    assert!(
        told["error"].as_str().unwrap().contains("tls.static.key"),
        "{told}"
    );
    assert_eq!(figures(&edge, &place), 403);
    // The key comes, in a file of its own.
    let key = made.signing_key.serialize_pem();
    place.secrets = Some(format!("static_key = '''\n{key}'''\n"));
    place.write_settings();
    place.wait_public("certificate.json", |report| report["serving"] == "static");
    place.wait_public("settings.json", |told| told["error"].is_null());
    assert_eq!(get(address, &pem, "/_atalaya/metrics").status, 200);
    kept.write_all(b"GET /page HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert!(read_to_end(&mut kept).starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_supervisor_is_told_when_a_reload_is_done() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let edge = place.start_open();
    edge.signal(Signal::SIGHUP);
    edge.wait_notify("RELOADING=1");
    edge.wait_notify("READY=1");
    place.extra = "colour = \"blue\"".to_owned();
    place.write_settings();
    edge.signal(Signal::SIGHUP);
    edge.wait_notify("RELOADING=1");
    let status = edge.wait_notify_with(|line| line.starts_with("STATUS="));
    assert!(status.contains("colour"), "{status}");
    assert_eq!(get(edge.https(), &place.ca_pem(), "/page").status, 200);
}

#[test]
fn what_is_bound_at_start_waits_for_a_restart() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    let edge = place.start_open();
    place.upstream = "127.0.0.1:1".parse().unwrap();
    place.extra = OPEN.to_owned();
    place.write_settings();
    edge.wait_log(|line| line["message"] == "new settings hold");
    place.wait_public("settings.json", |told| {
        told["restart_for"] == json!(["upstream"])
    });
    // The rest holds already.
    assert_eq!(figures(&edge, &place), 200);
    assert_eq!(get(edge.https(), &place.ca_pem(), "/page").status, 200);
}

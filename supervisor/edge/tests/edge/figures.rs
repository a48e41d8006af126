//! What monitoring and the log are told.

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tungstenite::Message;

use crate::client::{get, send, websocket};
use crate::edge::Place;
use crate::upstream::Upstream;

#[test]
fn the_figures_are_for_those_named_and_count_what_went_through() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "[access]\nmetrics = [\"127.0.0.0/8\"]".to_owned();
    let edge = place.start_open();
    let (address, ca) = (edge.https(), place.ca_pem());
    assert_eq!(get(address, &ca, "/page").status, 200);
    assert_eq!(get(address, &ca, "/api/v4/nothing").status, 404);
    let mut socket = websocket(address, &ca);
    socket.send(Message::text("there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("there"));
    let answer = get(address, &ca, "/_atalaya/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let figures = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "atalaya_edge_requests_total{class=\"page\",status=\"2xx\"} 1",
        "atalaya_edge_requests_total{class=\"api\",status=\"4xx\"} 1",
        "atalaya_edge_requests_total{class=\"websocket\",status=\"1xx\"} 1",
        "atalaya_edge_request_duration_seconds_count{class=\"page\"} 1",
        "atalaya_edge_tls_handshakes_total{version=\"TLSv1.3\",result=\"ok\"} 4",
        "atalaya_edge_open_websockets 1",
        "atalaya_edge_admitting 1",
        "atalaya_edge_crashes_total 0",
    ] {
        assert!(figures.lines().any(|it| it == line), "{line}\n{figures}");
    }
    let expires = figures
        .lines()
        .find_map(|line| line.strip_prefix("atalaya_edge_certificate_not_after_timestamp_seconds "))
        .unwrap();
    assert_eq!(
        expires.parse::<i64>().unwrap(),
        place.certificate()["not_after"].as_i64().unwrap()
    );
    // Neither is Mattermost's business.
    assert_eq!(get(address, &ca, "/_atalaya/other").status, 404);
    assert!(!upstream.seen().iter().any(|it| it.contains("_atalaya")));
}

#[test]
fn nobody_reads_the_figures_unless_told_so() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let answer = get(edge.https(), &place.ca_pem(), "/_atalaya/metrics");
    assert_eq!(answer.status, 403);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(text.contains("edge.allow.metrics"), "{text}");
}

#[test]
fn a_line_has_both_ids_and_no_secret() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let request = Request::get("/page?access_token=s3cret")
        .header("host", "localhost:8443")
        .header("authorization", "Bearer s3cret")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = send(edge.https(), &place.ca_pem(), "http/1.1", request);
    assert_eq!(answer.status, 200);
    get(edge.https(), &place.ca_pem(), "/hooks/s3cret");
    let line = edge.wait_log(|line| line["path"] == "/page");
    assert_eq!(line["upstream_id"], answer.header("x-request-id"));
    assert_ne!(line["upstream_id"], line["id"]);
    assert_eq!(
        (line["class"].as_str(), line["tls"].as_str()),
        (Some("page"), Some("TLSv1.3"))
    );
    assert!(line["answered_ms"].is_u64() && line["ms"].is_u64());
    edge.wait_log(|line| line["path"] == "/hooks/***");
    edge.terminate();
    let (_, output) = edge.wait_exit();
    assert!(!output.contains("s3cret"), "{output}");
}

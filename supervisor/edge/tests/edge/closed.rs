//! Nobody is admitted: the page, the JSON shape, and the switch by upstream.json.

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::json;

use tungstenite::Message;

use crate::client::{get, post, send, websocket};
use crate::edge::{Place, open_since};
use crate::upstream::Upstream;

#[test]
fn without_a_report_the_page_is_shown_and_mattermost_not_asked() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start();
    let page = get(edge.https(), &place.ca_pem(), "/team/channels/town-square");
    assert_eq!(page.status, 503);
    assert_eq!(page.header("retry-after"), "5");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none'")
    );
    assert_eq!(page.header("cache-control"), "no-store");
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(
        text.contains("http-equiv=\"refresh\"")
            && text.contains("Waiting for")
            && !text.contains("<script"),
        "{text}"
    );
    let api = post(edge.https(), &place.ca_pem(), "/api/v4/users/login", "{}");
    assert_eq!(
        (api.status, api.header("content-type")),
        (503, "application/json")
    );
    assert_eq!(api.header("retry-after"), "5");
    assert_eq!(api.json()["status_code"], 503);
    for key in ["id", "message", "detailed_error", "request_id"] {
        assert!(api.json()[key].is_string(), "{key}");
    }
    assert!(upstream.seen().is_empty());
}

#[test]
fn the_report_opens_and_closes_the_edge_and_names_the_wait() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start();
    let ca = place.ca_pem();
    place.report(&json!({ "admit": false, "postgres_ready": false, "waiting_for": "PostgreSQL: <recovering>" }));
    edge.wait_log(|line| line["waiting_for"] == "PostgreSQL: <recovering>");
    let page = get(edge.https(), &ca, "/");
    assert!(String::from_utf8_lossy(&page.body).contains("PostgreSQL: &lt;recovering&gt;"));
    place.report_open();
    edge.wait_log(|line| line["message"] == "users are admitted");
    assert_eq!(get(edge.https(), &ca, "/page").status, 200);
    // Admitted, but the database is not there.
    place.report(&json!({ "admit": true, "postgres_ready": false, "waiting_for": "PostgreSQL: starting again" }));
    edge.wait_log(|line| line["waiting_for"] == "PostgreSQL: starting again");
    assert_eq!(get(edge.https(), &ca, "/page").status, 503);
    std::fs::remove_file(place.path("supervisor/upstream.json")).unwrap();
    edge.wait_log(|line| line["waiting_for"] == "the supervisor");
    assert_eq!(get(edge.https(), &ca, "/page").status, 503);
}

#[test]
fn maintenance_has_its_own_words_and_ends_what_users_have_open() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let (address, ca) = (edge.https(), place.ca_pem());
    let mut socket = websocket(address, &ca);
    socket.send(Message::text("there")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("there"));
    let mut closed = open_since(1);
    closed["maintenance"] = json!({ "message": "Back at <6>.", "since": "2026-11-22T22:00:00Z" });
    place.report(&closed);
    assert!(socket.read().is_err());
    let page = get(address, &ca, "/");
    assert_eq!((page.status, page.header("retry-after")), (503, "30"));
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(
        text.contains("closed for maintenance") && text.contains("Back at &lt;6&gt;."),
        "{text}"
    );
    let api = get(address, &ca, "/api/v4/users/me");
    assert_eq!((api.status, api.header("retry-after")), (503, "30"));
    assert_eq!(api.json()["id"], "atalaya.edge.maintenance.app_error");
    // The database alone being away ends no socket.
    place.report_open();
    edge.wait_log(|line| line["waiting_for"] == "the end of the maintenance");
    let mut socket = loop {
        if get(address, &ca, "/page").status == 200 {
            break websocket(address, &ca);
        }
    };
    place.report(&json!({ "admit": true, "postgres_ready": false, "waiting_for": "PostgreSQL" }));
    edge.wait_log(|line| line["waiting_for"] == "PostgreSQL");
    socket.send(Message::text("still")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still"));
}

#[test]
fn a_report_directory_that_comes_later_is_found() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    std::fs::remove_dir(place.path("supervisor")).unwrap();
    let edge = place.start();
    assert_eq!(get(edge.https(), &place.ca_pem(), "/").status, 503);
    std::fs::create_dir(place.path("supervisor")).unwrap();
    place.report(&open_since(1));
    edge.wait_log(|line| line["message"] == "users are admitted");
    assert_eq!(get(edge.https(), &place.ca_pem(), "/page").status, 200);
}

#[test]
fn a_standin_says_so_on_the_page() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    place.extra = "standin = true".to_owned();
    let edge = place.start();
    let request = Request::get("/")
        .header("host", "localhost:8443")
        .header("accept-language", "es-ES,es;q=0.9");
    let page = send(
        edge.https(),
        &place.ca_pem(),
        "http/1.1",
        request.body(Full::<Bytes>::default()).unwrap(),
    );
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(
        text.contains("lang=\"es\"") && text.contains("sustituto"),
        "{text}"
    );
}

#[test]
fn a_server_that_is_gone_is_answered_for_with_503() {
    let upstream = Upstream::start();
    let mut place = Place::new(upstream.address);
    // A port of this test alone that nobody listens on.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    place.upstream = unused.local_addr().unwrap();
    drop(unused);
    let edge = place.start_open();
    let page = get(edge.https(), &place.ca_pem(), "/");
    assert_eq!((page.status, page.header("retry-after")), (503, "5"));
    assert_eq!(
        get(edge.https(), &place.ca_pem(), "/api/v4/users/me").json()["status_code"],
        503
    );
}

#[test]
fn port_80_leads_to_the_site_and_gives_the_authority() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    let ask = |request: &str| {
        let mut stream = std::net::TcpStream::connect(edge.http()).unwrap();
        crate::client::exchange(&mut stream, request)
    };
    let answer =
        ask("POST /a/b?c=d HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 3\r\n\r\nabc");
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(
        answer.contains("location: https://localhost:8443/a/b?c=d\r\n"),
        "{answer}"
    );
    let answer = ask("GET /ca.crt HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&place.ca_pem()),
        "{answer}"
    );
    assert!(upstream.seen().is_empty());
}

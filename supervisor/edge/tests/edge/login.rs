//! A refused log-in is believed only if the database was there all the time.

use std::sync::Arc;

use serde_json::json;

use crate::client::{Answer, post};
use crate::edge::{Place, open_since};
use crate::upstream::Upstream;

const PING: &str = "GET /api/v4/system/ping?get_server_status=true";

fn log_in(place: &Place, upstream: &Upstream, prepare: impl FnOnce(&Upstream)) -> Answer {
    let edge = place.start_open();
    prepare(upstream);
    post(edge.https(), &place.ca_pem(), "/api/v4/users/login", "{}")
}

/// Runs when the log-in has arrived at Mattermost.
fn while_it_runs(upstream: &Upstream, act: impl Fn() + Send + 'static) {
    upstream.set(|behaviour| behaviour.on_login = Some(Box::new(act)));
}

#[test]
fn a_wrong_password_stays_a_401() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let answer = log_in(&place, &upstream, |upstream| {
        upstream.set(|behaviour| behaviour.login_status = 401)
    });
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["id"], "from.mattermost");
    assert_eq!(upstream.seen(), ["POST /api/v4/users/login", PING]);
}

#[test]
fn a_good_log_in_and_other_refusals_are_not_looked_at_twice() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    assert_eq!(log_in(&place, &upstream, |_| ()).status, 200);
    let answer = log_in(&place, &upstream, |upstream| {
        upstream.set(|behaviour| behaviour.login_status = 403)
    });
    assert_eq!(answer.status, 403);
    assert_eq!(upstream.seen(), ["POST /api/v4/users/login"; 2]);
}

#[test]
fn a_server_that_is_not_well_turns_the_401_into_503() {
    for status in [500, 503, 404] {
        let upstream = Upstream::start();
        let place = Place::new(upstream.address);
        let answer = log_in(&place, &upstream, |upstream| {
            upstream.set(|behaviour| {
                behaviour.login_status = 401;
                behaviour.ping_status = status;
            });
        });
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"));
        assert_eq!(answer.json()["status_code"], 503);
    }
}

#[test]
fn a_database_that_came_back_meanwhile_turns_the_401_into_503() {
    let upstream = Upstream::start();
    let place = Arc::new(Place::new(upstream.address));
    let shared = Arc::clone(&place);
    let answer = log_in(&place, &upstream, |upstream| {
        upstream.set(|behaviour| behaviour.login_status = 401);
        // Far in the future of the request's arrival, so that the test does not hang on milliseconds.
        while_it_runs(upstream, move || shared.report(&open_since(u64::MAX / 2)));
    });
    assert_eq!(answer.status, 503);
    assert_eq!(upstream.seen(), ["POST /api/v4/users/login", PING]);
}

#[test]
fn a_database_that_went_away_meanwhile_turns_the_401_into_503() {
    let upstream = Upstream::start();
    let place = Arc::new(Place::new(upstream.address));
    let shared = Arc::clone(&place);
    let answer = log_in(&place, &upstream, |upstream| {
        upstream.set(|behaviour| behaviour.login_status = 401);
        while_it_runs(upstream, move || {
            shared.report(
                &json!({ "admit": true, "postgres_ready": false, "postgres_ready_since_ms": 1 }),
            )
        });
    });
    assert_eq!(answer.status, 503);
}

#[test]
fn a_report_that_vanished_meanwhile_turns_the_401_into_503() {
    let upstream = Upstream::start();
    let place = Arc::new(Place::new(upstream.address));
    let shared = Arc::clone(&place);
    let answer = log_in(&place, &upstream, |upstream| {
        upstream.set(|behaviour| behaviour.login_status = 401);
        while_it_runs(upstream, move || {
            std::fs::remove_file(shared.path("supervisor/upstream.json")).unwrap()
        });
    });
    assert_eq!(answer.status, 503);
}

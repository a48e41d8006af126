//! Orders that succeed: with either library, several names, External Account Binding, profiles, the authority's window.

use serde_json::json;
use std::os::unix::fs::PermissionsExt;

use atalaya_edge::tls::acme::Step;

use crate::front::json_answer;
use crate::machine::{Setup, read_json};
use crate::place::{DAY, NAME, Place, at};

#[tokio::test]
async fn an_order_brings_a_certificate_that_the_next_start_finds() {
    let mut place = Place::new(Setup::default()).await;
    place.wanted.names.push("files.example.test".to_owned());
    let mut acme = place.open();
    assert!(acme.certificate().is_none());
    assert_eq!(acme.step(at(0)).await, Step::Issued);
    let life = acme.life().unwrap();
    assert!((life.not_after - life.not_before - 90 * DAY).abs() <= 1);
    let renewal = acme.renewal(at(0));
    let due = renewal.next_at.unwrap() - life.not_before;
    assert!((58 * DAY..=60 * DAY).contains(&due), "{due}");
    assert_eq!((renewal.error, renewal.failures), (None, 0));
    let order = place.front.take_seen();
    let order = order
        .iter()
        .find(|seen| seen.payload["identifiers"].is_array());
    assert_eq!(
        order.unwrap().payload["identifiers"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    for name in ["account.json", "certificate.json", "attempts.json"] {
        let mode = std::fs::metadata(place.file(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let again = place.open();
    let (kept, found) = (acme.certificate().unwrap(), again.certificate().unwrap());
    assert_eq!(kept.cert, found.cert);
    assert!(place.front.take_seen().is_empty());
}

#[tokio::test]
async fn nothing_is_ordered_before_the_clock_is_trusted() {
    let place = Place::new(Setup::default()).await;
    let mut acme = place.open();
    let mut moment = at(0);
    moment.trusted = false;
    assert_eq!(acme.step(moment).await, Step::Waited);
    assert!(place.front.take_seen().is_empty());
    assert!(acme.renewal(moment).error.unwrap().contains("clock"));
    moment.trusted = true;
    assert_eq!(acme.step(moment).await, Step::Issued);
}

#[tokio::test]
async fn a_six_day_certificate_is_renewed_after_four_days_and_stays_until_then() {
    let place = Place::new(Setup {
        life: 6 * 86_400,
        ..Setup::default()
    })
    .await;
    // Without the authority's own idea of when.
    place.front.set_rule(|seen| {
        seen.path
            .contains("renewalInfo")
            .then(|| crate::front::problem(404, "malformed", "no window", None))
            .flatten()
    });
    let mut acme = place.open();
    assert_eq!(acme.step(at(0)).await, Step::Issued);
    let first = acme.certificate().unwrap();
    assert_eq!(acme.step(at(3 * DAY + DAY / 2)).await, Step::Waited);
    assert_eq!(first.cert, acme.certificate().unwrap().cert);
    assert_eq!(acme.step(at(4 * DAY + 60)).await, Step::Issued);
    assert_ne!(first.cert, acme.certificate().unwrap().cert);
}

#[tokio::test]
async fn a_window_in_the_past_renews_at_once_and_says_what_is_replaced() {
    let place = Place::new(Setup::default()).await;
    let mut acme = place.open();
    assert_eq!(acme.step(at(0)).await, Step::Issued);
    let first = acme.certificate().unwrap();
    // The authority's own window is in the future.
    assert_eq!(acme.step(at(0)).await, Step::Waited);
    place.front.set_rule(|seen| {
        let window = json!({ "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z" });
        let body = json!({ "suggestedWindow": window });
        (seen.path.contains("renewalInfo"))
            .then(|| json_answer(&body, "21600"))
            .flatten()
    });
    place.front.take_seen();
    assert_eq!(acme.step(at(DAY + 60)).await, Step::Issued);
    assert_ne!(first.cert, acme.certificate().unwrap().cert);
    let seen = place.front.take_seen();
    assert!(
        seen.iter().any(|seen| seen.payload["replaces"].is_string()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn an_external_account_and_a_profile_are_asked_for() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let mut place = Place::new(Setup {
        external: Some(("kid-1", KEY)),
        ..Setup::default()
    })
    .await;
    place.wanted.acme.profile = Some("shortlived".to_owned());
    // Without the binding the authority refuses, and the reason is told.
    let refused = crate::place::reason(place.open().step(at(0)).await);
    assert!(refused.contains("externalAccountRequired"), "{refused}");
    place.wanted.acme.external_account = Some("kid-1".to_owned());
    place.wanted.secrets.external_account_hmac = Some(KEY.replace('z', "y"));
    let refused = crate::place::reason(place.open().step(at(0)).await);
    assert!(refused.contains("refuses the account"), "{refused}");
    assert!(!refused.contains(&KEY[1..]), "{refused}");
    // Other settings begin anew: nobody waits after a correction.
    place.wanted.secrets.external_account_hmac = Some(KEY.to_owned());
    place.front.take_seen();
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
    let seen = place.front.take_seen();
    assert!(
        seen.iter()
            .any(|seen| seen.payload["profile"] == "shortlived")
    );
    let account = read_json(&place.file("account.json"));
    assert_eq!(account["external_account"], "kid-1");
}

#[tokio::test]
async fn other_names_are_ordered_at_once_and_the_old_certificate_serves_the_site_meanwhile() {
    let mut place = Place::new(Setup::default()).await;
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
    place.wanted.names = vec![NAME.to_owned(), "new.example.test".to_owned()];
    let mut acme = place.open();
    assert!(acme.certificate().is_some());
    assert_eq!(acme.step(at(60)).await, Step::Issued);
    // Another site has nothing of it.
    place.wanted.names = vec!["other.example.test".to_owned()];
    assert!(place.open().certificate().is_none());
}

//! What authorities and networks do wrong.

use atalaya_edge::settings::Challenge;
use atalaya_edge::tls::acme::Step;

use crate::front::problem;
use crate::machine::{Setup, every_name, own_address};
use crate::place::{DAY, HOUR, NAME, Place, at, reason};

#[tokio::test]
async fn rejected_nonces_are_asked_for_again() {
    let often = || Setup {
        environment: vec![("PEBBLE_WFE_NONCEREJECT", "40")],
        ..Setup::default()
    };
    let place = Place::new(often()).await;
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
    // The other library.
    let mut place = Place::new(Setup {
        environment: vec![("PEBBLE_WFE_NONCEREJECT", "15")],
        ..often()
    })
    .await;
    place.wanted.acme.profile = Some("any".to_owned());
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
}

#[tokio::test]
async fn a_failing_validation_is_told_and_tried_again_later_not_sooner() {
    let dir = tempfile::tempdir().unwrap();
    let (_names, dns) = every_name(own_address(), dir.path());
    let mut place = Place::new(Setup {
        dns: Some(dns),
        ..Setup::default()
    })
    .await;
    place.wanted.acme.challenges = vec![Challenge::TlsAlpn, Challenge::Http];
    let mut acme = place.open();
    let told = reason(acme.step(at(0)).await);
    // Nothing answers at either port, and the first attempt tries both.
    assert!(told.contains("http-01") && told.contains(NAME), "{told}");
    let orders = |place: &Place| {
        let seen = place.front.take_seen();
        seen.iter()
            .filter(|seen| seen.payload["identifiers"].is_array())
            .count()
    };
    assert_eq!(orders(&place), 2);
    let renewal = acme.renewal(at(0));
    assert_eq!((renewal.failures, renewal.error), (1, Some(told)));
    assert!(renewal.next_at.unwrap() >= at(0).now + 500);
    assert!(place.challenges.token("x").is_none());
    // Neither a minute nor a restart makes it come sooner.
    assert_eq!(acme.step(at(60)).await, Step::Waited);
    assert_eq!(place.open().step(at(60)).await, Step::Waited);
    assert_eq!(orders(&place), 0);
    // The next one tries one of them, and so the authority's limit on failed validations is not used up.
    let told = reason(place.open().step(at(HOUR)).await);
    assert!(told.contains("tls-alpn-01"), "{told}");
    assert_eq!(orders(&place), 1);
}

#[tokio::test]
async fn an_authority_that_is_down_for_days_is_not_stormed_and_the_certificate_stays() {
    let mut place = Place::new(Setup::default()).await;
    let mut acme = place.open();
    assert_eq!(acme.step(at(0)).await, Step::Issued);
    let first = acme.certificate().unwrap();
    place.take_down();
    place.front.take_seen();
    let mut failures = 0;
    // From two thirds of its life on, for eight days, a pass every ten minutes.
    for minutes in (0..8 * 24 * 60).step_by(10) {
        match acme.step(at(60 * DAY + minutes * 60)).await {
            Step::Failed(told) => {
                assert!(
                    told.contains("cannot be reached") || told.contains("refuses"),
                    "{told}"
                );
                failures += 1;
            }
            Step::Waited => {}
            other => panic!("the door in front of it is there: {other:?}"),
        }
        assert_eq!(first.cert, acme.certificate().unwrap().cert);
    }
    assert!((8..=18).contains(&failures), "{failures}");
    let asked = place.front.take_seen().len();
    assert!(asked < 150, "{asked} requests");
    let renewal = acme.renewal(at(68 * DAY));
    assert_eq!(renewal.failures, failures);
    // It comes back with no memory of the account.
    place.bring_back();
    assert_eq!(acme.step(at(70 * DAY)).await, Step::Issued);
    assert_ne!(first.cert, acme.certificate().unwrap().cert);
}

#[tokio::test]
async fn rate_limits_are_honoured() {
    let place = Place::new(Setup::default()).await;
    let limited = |retry_after: &'static str| {
        move |seen: &crate::front::Seen| {
            seen.payload["identifiers"]
                .is_array()
                .then(|| {
                    problem(
                        429,
                        "rateLimited",
                        "too many certificates",
                        Some(retry_after),
                    )
                })
                .flatten()
        }
    };
    place.front.set_rule(limited("10800"));
    let mut acme = place.open();
    let told = reason(acme.step(at(0)).await);
    assert!(
        told.contains("rateLimited") && told.contains("too many certificates"),
        "{told}"
    );
    // rustls-acme does not tell the Retry-After: an hour at least.
    assert!(acme.renewal(at(0)).next_at.unwrap() >= at(0).now + HOUR - 1);
    assert_eq!(acme.step(at(HOUR - 60)).await, Step::Waited);
    // Then the library that reads it.
    let told = reason(acme.step(at(HOUR + 120)).await);
    assert!(told.contains("rateLimited"), "{told}");
    let next = acme.renewal(at(HOUR + 120)).next_at.unwrap();
    assert!(next >= at(4 * HOUR + 110).now, "{next}");
    place.front.set_rule(|_| None);
    assert_eq!(acme.step(at(4 * HOUR)).await, Step::Waited);
    assert_eq!(acme.step(at(4 * HOUR + 600)).await, Step::Issued);
    assert_eq!(acme.renewal(at(DAY)).error, None);
}

#[tokio::test]
async fn a_stranger_in_the_authoritys_place_is_not_trusted() {
    let mut place = Place::new(Setup::default()).await;
    place.wanted.acme.authority = Some(crate::machine::TestAuthority::new().pem());
    let told = reason(place.open().step(at(0)).await);
    assert!(
        told.contains("cannot be reached") && told.contains("InvalidCertificate"),
        "{told}"
    );
    assert!(place.front.take_seen().is_empty());
}

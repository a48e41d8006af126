//! Accounts that are no more.

use atalaya_edge::tls::acme::Step;
use atalaya_edge::tls::acme::transport::{Transport, trust};
use base64::Engine;
use instant_acme::Account;
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::machine::{Setup, read_json};
use crate::place::{DAY, Place, at};

/// As its owner, or the authority's staff, may do.
async fn deactivate(place: &Place) {
    let account = read_json(&place.file("account.json"));
    let key = base64::engine::general_purpose::STANDARD
        .decode(account["key"].as_str().unwrap())
        .unwrap();
    let trusted = trust(place.wanted.acme.authority.as_deref()).unwrap();
    Account::builder_with_http(Box::new(Transport::new(trusted)))
        .from_parts(
            account["id"].as_str().unwrap().to_owned(),
            PrivatePkcs8KeyDer::from(key),
            place.wanted.acme.directory.clone(),
        )
        .await
        .unwrap()
        .deactivate()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deactivated_account_is_replaced_by_a_new_one() {
    // By the library that knows the account by its key, and by the one that knows its address.
    for profile in [None, Some("any".to_owned())] {
        let mut place = Place::new(Setup::default()).await;
        place.wanted.acme.profile = profile;
        assert_eq!(place.open().step(at(0)).await, Step::Issued);
        let before = read_json(&place.file("account.json"));
        deactivate(&place).await;
        place.wanted.names.push("more.example.test".to_owned());
        assert_eq!(place.open().step(at(DAY)).await, Step::Issued);
        let after = read_json(&place.file("account.json"));
        assert_ne!(before["id"], after["id"]);
        assert_ne!(before["key"], after["key"]);
    }
}

#[tokio::test]
async fn an_authority_that_forgot_the_account_gets_a_new_one() {
    let mut place = Place::new(Setup::default()).await;
    // The library that knows the account by its address, not by its key.
    place.wanted.acme.profile = Some("any".to_owned());
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
    let before = read_json(&place.file("account.json"));
    place.take_down();
    place.bring_back();
    place.wanted.names.push("more.example.test".to_owned());
    assert_eq!(place.open().step(at(DAY)).await, Step::Issued);
    assert_ne!(before["key"], read_json(&place.file("account.json"))["key"]);
}

#[tokio::test]
async fn an_account_belongs_to_its_directory() {
    let mut place = Place::new(Setup::default()).await;
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
    let before = read_json(&place.file("account.json"));
    let directory = place.pebble.as_ref().unwrap().directory();
    place.wanted.acme.directory = directory.clone();
    assert_eq!(place.open().step(at(60)).await, Step::Issued);
    let after = read_json(&place.file("account.json"));
    assert_eq!(after["directory"], directory.as_str());
    assert_ne!(before["key"], after["key"]);
}

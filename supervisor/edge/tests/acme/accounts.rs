//! Accounts that are no more.

use atalaya_edge::tls::acme::Step;
use hyper::Method;

use crate::front::problem;
use crate::machine::{Setup, read_json};
use crate::place::{DAY, Place, at};

/// The authority has deactivated the account: it refuses each order of it, and to find it by its key.
fn refuse_account(place: &Place, id: &str) {
    let (id, refused_key) = (id.to_owned(), std::sync::Mutex::new(true));
    place.front.set_rule(move |seen| {
        let for_account = seen.payload["termsOfServiceAgreed"] == true;
        let mut first = refused_key.lock().unwrap();
        // The first key is the old account's; the next comes with a new one.
        if seen.method == Method::POST && (for_account && std::mem::take(&mut *first)) {
            return problem(
                401,
                "unauthorized",
                &format!("account {id} is deactivated"),
                None,
            );
        }
        None
    });
}

#[tokio::test]
async fn a_deactivated_account_is_replaced_by_a_new_one() {
    let mut place = Place::new(Setup::default()).await;
    let mut acme = place.open();
    assert_eq!(acme.step(at(0)).await, Step::Issued);
    let before = read_json(&place.file("account.json"));
    refuse_account(&place, before["id"].as_str().unwrap());
    place.wanted.names.push("more.example.test".to_owned());
    assert_eq!(place.open().step(at(DAY)).await, Step::Issued);
    let after = read_json(&place.file("account.json"));
    assert_ne!(before["id"], after["id"]);
    assert_ne!(before["key"], after["key"]);
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

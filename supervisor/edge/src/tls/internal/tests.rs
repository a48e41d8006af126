//! What a stored certificate is worth after time, damage and changed names.

use super::*;

fn at(days: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(20_000 * DAY + days * DAY))
}

fn subject(names: &[&str], addresses: &[&str]) -> Subject {
    Subject {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
    }
}

/// An authority for what `wanted` names.
fn authority(wanted: &Subject, now: UnixTime) -> Authority {
    let constraints = Constraints::of(&wanted.names, None);
    make_authority(&make_key().unwrap(), &constraints, now).unwrap()
}

#[test]
fn a_leaf_is_kept_until_two_thirds_of_its_life() {
    let wanted = subject(&["localhost", "atalaya"], &["10.0.2.15", "fd00::1"]);
    let authority = authority(&wanted, at(0));
    let leaf = make_leaf(&authority, &wanted, at(0)).unwrap();
    // 397 days, begun a day before day 0: two thirds are reached on day 263.67.
    for day in [0, 1, 263] {
        assert!(
            assess_leaf(Some(&leaf), &authority.der, &wanted, at(day)).is_ok(),
            "day {day}"
        );
    }
    for day in [264, 395] {
        assert_eq!(
            assess_leaf(Some(&leaf), &authority.der, &wanted, at(day)).unwrap_err(),
            Remake::Due
        );
    }
    let late = assess_leaf(Some(&leaf), &authority.der, &wanted, at(397)).unwrap_err();
    assert!(matches!(late, Remake::Invalid(_)), "{late}");
}

#[test]
fn a_clock_that_went_back_asks_for_a_new_leaf() {
    let wanted = subject(&["localhost"], &[]);
    let authority = authority(&wanted, at(1000));
    let leaf = make_leaf(&authority, &wanted, at(1000)).unwrap();
    assert!(matches!(
        assess_leaf(Some(&leaf), &authority.der, &wanted, at(0)),
        Err(Remake::Invalid(_))
    ));
    let again = make_leaf(&authority, &wanted, at(0)).unwrap();
    assert!(assess_leaf(Some(&again), &authority.der, &wanted, at(0)).is_ok());
}

#[test]
fn other_names_or_addresses_ask_for_a_new_leaf() {
    let wanted = subject(&["localhost"], &["10.0.0.1"]);
    let authority = authority(&wanted, at(0));
    let leaf = make_leaf(&authority, &wanted, at(0)).unwrap();
    for other in [
        subject(&["localhost"], &["10.0.0.2"]),
        subject(&["localhost", "atalaya"], &["10.0.0.1"]),
        subject(&[], &["10.0.0.1"]),
    ] {
        assert_eq!(
            assess_leaf(Some(&leaf), &authority.der, &other, at(1)).unwrap_err(),
            Remake::NamesChanged
        );
    }
}

#[test]
fn damage_of_any_kind_asks_for_a_new_leaf_and_never_panics() {
    let wanted = subject(&["localhost"], &[]);
    let authority = authority(&wanted, at(0));
    let leaf = make_leaf(&authority, &wanted, at(0)).unwrap();
    let other = make_leaf(&authority, &wanted, at(0)).unwrap();
    assert_eq!(
        assess_leaf(None, &authority.der, &wanted, at(0)).unwrap_err(),
        Remake::Missing
    );
    let key = |leaf: &Leaf| leaf.pem[leaf.pem.find("-----BEGIN PRIVATE").unwrap()..].to_owned();
    let mixed = Leaf {
        pem: leaf.pem.replace(&key(&leaf), &key(&other)),
    };
    assert!(matches!(
        assess_leaf(Some(&mixed), &authority.der, &wanted, at(0)),
        Err(Remake::Unreadable(_))
    ));
    for cut in (0..leaf.pem.len() - 30).step_by(37) {
        let torn = Leaf {
            pem: leaf.pem[..cut].to_owned(),
        };
        assert!(
            assess_leaf(Some(&torn), &authority.der, &wanted, at(0)).is_err(),
            "cut at {cut}"
        );
    }
    let stranger = super::tests::authority(&wanted, at(0));
    assert!(matches!(
        assess_leaf(Some(&leaf), &stranger.der, &wanted, at(0)),
        Err(Remake::Invalid(_))
    ));
}

#[test]
fn a_leaf_still_verifies_under_an_authority_made_again_from_the_same_key() {
    let key = make_key().unwrap();
    let wanted = subject(&["localhost"], &[]);
    let constraints = Constraints::of(&wanted.names, None);
    let first = make_authority(&key, &constraints, at(0)).unwrap();
    let leaf = make_leaf(&first, &wanted, at(0)).unwrap();
    let second = make_authority(&key, &constraints, at(30)).unwrap();
    assert!(first.pem != second.pem);
    assert!(assess_leaf(Some(&leaf), &second.der, &wanted, at(30)).is_ok());
}

#[test]
fn an_authority_and_a_strange_key_are_refused() {
    let authority = authority(&subject(&["localhost"], &[]), at(0));
    let error = read_authority(&authority.pem, &make_key().unwrap())
        .err()
        .unwrap();
    assert!(matches!(error, CertificateError::Mismatch));
    assert!(matches!(
        read_authority(&authority.pem, "nonsense"),
        Err(CertificateError::Key)
    ));
}

/// A stolen key of the authority is worth nothing for other sites.
#[test]
fn clients_refuse_what_the_authority_may_not_sign_for() {
    let authority = authority(&subject(&["chat.example.org"], &[]), at(0));
    for (names, addresses, good) in [
        (
            &["chat.example.org"][..],
            &["10.0.0.1", "fd00::1"][..],
            true,
        ),
        (&["files.chat.example.org"], &["192.168.1.1"], true),
        (&["example.org"], &[], false),
        (&["chat.example.org", "bank.example"], &[], false),
        (&["chat.example.org"], &["203.0.113.9"], false),
        (&["chat.example.org"], &["2001:db8::1"], false),
    ] {
        let wanted = subject(names, addresses);
        let leaf = make_leaf(&authority, &wanted, at(0)).unwrap();
        let assessed = assess_leaf(Some(&leaf), &authority.der, &wanted, at(0));
        assert_eq!(assessed.is_ok(), good, "{names:?} {addresses:?}");
    }
}

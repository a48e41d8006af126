//! What damage, time and other names do to the files.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
}

fn subject(names: &[&str]) -> Subject {
    Subject {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: ["127.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into(),
    }
}

fn open(dir: &Path, names: &[&str]) -> Result<(Store, Opened), StoreError> {
    Store::open(dir, &subject(names).names, None, now())
}

fn put(path: &Path, bytes: &[u8]) {
    durable::write(path, bytes, 0o600, None).unwrap();
}

#[test]
fn first_start_makes_both_files_and_the_next_start_none() {
    let dir = tempfile::tempdir().unwrap();
    let (store, opened) = open(dir.path(), &["localhost"]).unwrap();
    assert_eq!(opened, Opened::Made);
    let first = store.leaf(&subject(&["localhost"]), now()).unwrap();
    assert_eq!(first.why, Some(Remake::Missing));
    assert!(first.unsaved.is_none());
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600
            );
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["ca.pem", "server.pem"]);
    let (again, opened) = open(dir.path(), &["localhost"]).unwrap();
    assert_eq!(opened, Opened::Found);
    let second = again.leaf(&subject(&["localhost"]), now()).unwrap();
    assert_eq!(second.why, None);
    assert_eq!(first.certified.cert, second.certified.cert);
    assert_eq!(store.authority().pem, again.authority().pem);
    again.publish(dir.path()).unwrap();
    let published = fs::read_to_string(dir.path().join("ca.crt")).unwrap();
    assert!(published.contains("CERTIFICATE") && !published.contains("KEY"));
}

#[test]
fn a_public_address_that_is_not_the_sites_is_left_out_of_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let wanted = subject(&["localhost"]);
    let (store, _) = open(dir.path(), &["localhost"]).unwrap();
    let made = store.leaf(&wanted, now()).unwrap();
    // Were it in it, no client would take the certificate for any of its names.
    let text = format!("{:?}", store.authority().constraints.narrow(&wanted));
    assert!(
        text.contains("127.0.0.1") && !text.contains("2001:db8"),
        "{text}"
    );
    assert_eq!(made.why, Some(Remake::Missing));
}

#[test]
fn a_name_outside_gets_a_new_authority_and_the_old_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path(), &["localhost"]).unwrap();
    let old = fs::read(dir.path().join("ca.pem")).unwrap();
    assert!(first.replaces().is_none());
    let (second, opened) = open(dir.path(), &["localhost", "chat.example.org"]).unwrap();
    let outside = vec!["chat.example.org".to_owned()];
    assert_eq!(opened, Opened::Replaced { outside });
    assert_ne!(first.authority().pem, second.authority().pem);
    assert_eq!(fs::read(dir.path().join("ca-old-1.pem")).unwrap(), old);
    assert_eq!(
        second.replaces(),
        Some(fingerprint(&first.authority().der).as_str())
    );
    // Names below it, and fewer names, are within.
    let (third, opened) = open(dir.path(), &["files.chat.example.org"]).unwrap();
    assert_eq!(opened, Opened::Found);
    assert_eq!(third.replaces(), second.replaces());
    let (_, opened) = open(dir.path(), &["other.example"]).unwrap();
    assert!(matches!(opened, Opened::Replaced { .. }));
    assert!(dir.path().join("ca-old-2.pem").exists());
}

#[test]
fn a_power_cut_while_the_authority_is_replaced_keeps_the_old_one_once() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &["localhost"]).unwrap();
    let old = fs::read(dir.path().join("ca.pem")).unwrap();
    put(&dir.path().join("ca-old-1.pem"), &old);
    let (_, opened) = open(dir.path(), &["chat.example.org"]).unwrap();
    assert!(matches!(opened, Opened::Replaced { .. }));
    assert!(!dir.path().join("ca-old-2.pem").exists());
}

#[test]
fn a_damaged_authority_is_refused_and_left_as_it_is() {
    let stranger = internal::make_key().unwrap();
    for damage in [
        &b""[..],
        b"-----BEGIN PRIVATE KEY-----\nAAAA",
        b"\xff\xfe\x00",
        // A certificate with the key of another.
        stranger.as_bytes(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), &["localhost"]).unwrap();
        let mut bytes = damage.to_vec();
        if damage == stranger.as_bytes() {
            bytes = (store.authority().pem.clone() + &stranger).into_bytes();
        }
        let path = dir.path().join("ca.pem");
        put(&path, &bytes);
        let error = open(dir.path(), &["localhost"]).err().unwrap();
        assert!(matches!(error, StoreError::Authority { .. }), "{error}");
        let text = error.to_string();
        for part in [
            "ca.pem",
            "messages and files are not touched",
            "every device must trust it again",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn an_authority_that_may_sign_for_everything_is_not_used() {
    let key = internal::make_key().unwrap();
    let none = Constraints::default();
    let error = internal::make_authority(&key, &none, now()).err().unwrap();
    assert!(matches!(error, CertificateError::Unconstrained));
}

#[test]
fn a_lost_certificate_of_the_authority_is_made_again_from_its_key_and_the_servers_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &["localhost"]).unwrap();
    let leaf = store.leaf(&subject(&["localhost"]), now()).unwrap();
    let path = dir.path().join("ca.pem");
    let text = fs::read_to_string(&path).unwrap();
    put(&path, &text.as_bytes()[100..]);
    let (again, opened) = open(dir.path(), &["localhost"]).unwrap();
    assert_eq!(opened, Opened::MadeAgain);
    let kept = again.leaf(&subject(&["localhost"]), now()).unwrap();
    assert_eq!(kept.why, None);
    assert_eq!(leaf.certified.cert, kept.certified.cert);
    assert_eq!(open(dir.path(), &["localhost"]).unwrap().1, Opened::Found);
}

#[test]
fn a_torn_server_certificate_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &["localhost"]).unwrap();
    let wanted = subject(&["localhost"]);
    let leaf = store.leaf(&wanted, now()).unwrap();
    let path = dir.path().join("server.pem");
    let whole = fs::read(&path).unwrap();
    for length in [0, 10, whole.len() / 2, whole.len() - 40] {
        put(&path, &whole[..length]);
        let made = store.leaf(&wanted, now()).unwrap();
        assert!(
            matches!(made.why, Some(Remake::Unreadable(_))),
            "{:?}",
            made.why
        );
        assert_ne!(leaf.certified.cert, made.certified.cert);
        assert_eq!(store.leaf(&wanted, now()).unwrap().why, None);
    }
}

#[test]
fn a_server_certificate_that_cannot_be_kept_serves_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), &["localhost"]).unwrap();
    // A directory in the file's place: not even root can rename a file over it.
    fs::create_dir(dir.path().join("server.pem")).unwrap();
    let made = store.leaf(&subject(&["localhost"]), now()).unwrap();
    assert!(matches!(made.unsaved, Some(StoreError::Write { .. })));
    assert_eq!(made.why, Some(Remake::Missing));
}

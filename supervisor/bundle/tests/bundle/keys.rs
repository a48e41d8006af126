use atalaya_bundle::keys::{KeyError, KeySet, KeySets, Purpose, SigningKey, TrustFile};
use atalaya_bundle::sample::{Ceremony, signing_key};
use atalaya_bundle::{Stream, Trust, reader};

use crate::workshop::Workpiece;

/// Frozen: machines that were built years ago compute the same bytes.
#[test]
fn what_is_signed_of_a_set_is_text() {
    let keys = [signing_key("b"), signing_key("a")].map(|key| key.public());
    let set = KeySet::new(7, 2, keys.to_vec()).unwrap();
    let text = String::from_utf8(set.message()).unwrap();
    let [first, second] = [&set.keys[0], &set.keys[1]].map(ToString::to_string);
    assert!(first < second);
    assert_eq!(
        text,
        format!("atalaya key set\nversion 7\nthreshold 2\nkey {first}\nkey {second}\n")
    );
    let signed = signing_key("a").sign_set(&set);
    assert!(signed.key.verify(text.as_bytes(), &signed.signature));
    let manifest = signing_key("a").sign_manifest(b"{}");
    assert!(
        manifest
            .key
            .verify(b"atalaya update manifest\n{}", &manifest.signature)
    );
}

/// RFC 8032, 7.1, test 1: the key of any other program is the same.
#[test]
fn keys_are_ed25519() {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let key = SigningKey::from_file(&format!("atalaya-signing-key {seed}\n")).unwrap();
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(key.public().to_string(), public);
    assert_eq!(key.to_file(), format!("atalaya-signing-key {seed}\n"));
    for wrong in [
        "",
        seed,
        &format!("atalaya-signing-key {seed}0"),
        &format!("atalaya-signing-key {seed}\n\n"),
    ] {
        assert!(SigningKey::from_file(wrong).is_none());
    }
    assert!(!format!("{key:?}").contains(seed));
}

#[test]
fn a_machine_five_sets_behind_verifies_and_goes_on_from_there() {
    let ours = Ceremony::new(6);
    let bundle = Workpiece::good()
        .key_sets(&ours.sets)
        .manifest(|manifest| manifest["key_set"] = 6.into())
        .sign(&ours, 2)
        .bytes();
    for known in 1..=6 {
        let head = reader::verify(Stream(&bundle[..]), &ours.trust(known)).unwrap();
        let kept = serde_json::from_slice(&head.key_sets.to_json().unwrap()).unwrap();
        let trust = Trust::new(ours.trust_file(known), Some(&kept)).unwrap();
        assert_eq!(
            (trust.newest().version, trust.purpose()),
            (6, Purpose::Development)
        );
    }
}

#[test]
fn sets_are_trusted_only_where_they_lead_on_from_the_images_own() {
    let [ours, theirs] = [Ceremony::new(3), Ceremony::of("theirs", 5)];
    let trust = ours.trust(2);
    assert_eq!(trust.follow(&ours.sets).unwrap().version, 3);
    assert_eq!(
        trust.follow(&theirs.sets),
        Err(KeyError::Other { version: 2 })
    );
    let tail = |from: usize, sets: &KeySets| KeySets {
        sets: sets.sets[from..].to_vec(),
    };
    // A set that was signed by a former one is no first one.
    assert!(matches!(
        trust.follow(&tail(2, &ours.sets)),
        Err(KeyError::Stranger { .. })
    ));
    let old = KeySets {
        sets: ours.sets.sets[..1].to_vec(),
    };
    assert_eq!(
        trust.follow(&old),
        Err(KeyError::Old {
            newest: 1,
            trusted: 2
        })
    );

    // What lies on /data is believed only if it leads on from the image.
    for accepted in [
        &theirs.sets,
        &old,
        &tail(2, &ours.sets),
        &KeySets { sets: Vec::new() },
    ] {
        let trust = Trust::new(ours.trust_file(2), Some(accepted)).unwrap();
        assert_eq!(trust.newest(), &ours.sets.sets[1].set);
    }
    let no_chain = TrustFile {
        purpose: Purpose::Release,
        sets: tail(1, &ours.sets).sets,
    };
    assert!(Trust::new(no_chain, None).is_err());
}

/// Keys were lost: a new ceremony begins with the number after the last one's, and an image that knows it is installed on the old data.
#[test]
fn after_lost_keys_a_new_first_set_follows_by_number() {
    let lost = Ceremony::new(3);
    let keys: Vec<_> = ["x", "y", "z"].map(signing_key).into();
    let set = KeySet::new(4, 2, keys.iter().map(SigningKey::public).collect()).unwrap();
    let mut signatures: Vec<_> = keys[..2].iter().map(|key| key.sign_set(&set)).collect();
    signatures.sort_unstable_by_key(|signed| signed.key);
    let sets = KeySets {
        sets: vec![atalaya_bundle::keys::SignedKeySet { set, signatures }],
    };
    let image = TrustFile {
        purpose: Purpose::Release,
        sets: sets.sets.clone(),
    };
    let trust = Trust::new(image, Some(&lost.sets)).unwrap();
    assert_eq!(trust.newest().version, 4);
    assert_eq!(trust.follow(&sets).unwrap().version, 4);
    // The old image does not take it: there is no way but to install.
    assert_eq!(
        lost.trust(3).follow(&sets),
        Err(KeyError::Unconnected {
            first: 4,
            trusted: 3
        })
    );
}

//! Bundles that are whole and in order, signed by whom this machine does not trust, or does not trust any more.

use atalaya_bundle::keys::{KeyError, KeySet, PublicKey, Signed, SignedKeySet};
use atalaya_bundle::sample::{Ceremony, signing_key};
use atalaya_bundle::{Refusal, limits};

use crate::bad::untouched;
use crate::workshop::{Workpiece, install, rules, trust};

#[test]
fn signed_by_too_few_or_by_others() {
    let ours = Ceremony::new(2);
    let good = Workpiece::good;
    let manifest = good().entry("manifest.json").clone();
    let by = |keys: &[&atalaya_bundle::keys::SigningKey]| {
        let mut signatures: Vec<Signed> = keys
            .iter()
            .map(|key| key.sign_manifest(&manifest))
            .collect();
        signatures.sort_unstable_by_key(|signed| signed.key);
        good()
            .signatures(&atalaya_bundle::keys::Signatures { signatures })
            .bytes()
    };
    let newest = &ours.keys[1];
    for count in [0, 1] {
        let refusal = untouched("too few", &good().sign(&ours, count).bytes(), "signatures");
        assert!(
            matches!(refusal, Refusal::Keys(KeyError::TooFew { .. })),
            "{refusal}"
        );
    }
    let refusal = untouched("one twice", &by(&[&newest[0], &newest[0]]), "signatures");
    assert!(
        matches!(refusal, Refusal::Keys(KeyError::Order { .. })),
        "{refusal}"
    );
    for (name, bytes) in [
        ("with old keys", by(&[&ours.keys[0][0], &ours.keys[0][1]])),
        (
            "with one old key",
            by(&[&newest[0], &newest[1], &ours.keys[0][0]]),
        ),
        (
            "by a stranger too",
            by(&[&newest[0], &newest[1], &signing_key("stranger")]),
        ),
        (
            "by strangers",
            by(&[&signing_key("one"), &signing_key("two")]),
        ),
    ] {
        let refusal = untouched(name, &bytes, "signatures");
        assert!(
            matches!(refusal, Refusal::Keys(KeyError::Stranger { .. })),
            "{name}: {refusal}"
        );
    }

    // Another manifest's signatures, one over a key set, a changed manifest, a changed signature.
    let mut changed = good();
    changed.entry("manifest.json").push(b' ');
    let other = ours.sign(b"{}", 2);
    let mut of_a_set = ours.sign(&manifest, 2);
    of_a_set.signatures[0] = *ours.sets.sets[1]
        .signatures
        .iter()
        .find(|signed| signed.key == of_a_set.signatures[0].key)
        .unwrap();
    let mut flipped = good();
    let text = flipped.entry("signatures.json");
    let digit = text.iter().rposition(u8::is_ascii_digit).unwrap();
    text[digit] ^= 1;
    for (name, bytes) in [
        ("changed", changed.bytes()),
        ("another's signatures", good().signatures(&other).bytes()),
        (
            "a key set's signature",
            good().signatures(&of_a_set).bytes(),
        ),
        ("a changed signature", flipped.bytes()),
    ] {
        let refusal = untouched(name, &bytes, "signatures");
        assert!(
            matches!(refusal, Refusal::Keys(KeyError::False { .. })),
            "{name}: {refusal}"
        );
    }
}

#[test]
fn key_sets_that_are_no_chain() {
    let ours = Ceremony::new(3);
    let sign = |set: KeySet, by: &[&atalaya_bundle::keys::SigningKey]| {
        let mut signatures: Vec<Signed> = by.iter().map(|key| key.sign_set(&set)).collect();
        signatures.sort_unstable_by_key(|signed| signed.key);
        SignedKeySet { set, signatures }
    };
    let [former, own] = [&ours.keys[0], &ours.keys[1]];
    let second = &ours.sets.sets[1].set;
    let all = [&former[0], &former[1], &own[0], &own[1]];
    let with = |change: &dyn Fn(&mut KeySet)| {
        let mut set = second.clone();
        change(&mut set);
        sign(set, &all)
    };
    let low_order = PublicKey::from_bytes([0; 32]);
    for (name, second) in [
        ("own keys only", sign(second.clone(), &[&own[0], &own[1]])),
        (
            "the former's keys only",
            sign(second.clone(), &[&former[0], &former[1]]),
        ),
        (
            "one of the former's",
            sign(second.clone(), &[&former[0], &own[0], &own[1]]),
        ),
        (
            "one of its own",
            sign(second.clone(), &[&former[0], &former[1], &own[0]]),
        ),
        (
            "a stranger too",
            sign(
                second.clone(),
                &[&former[0], &former[1], &own[0], &own[1], &signing_key("x")],
            ),
        ),
        ("no signature", sign(second.clone(), &[])),
        ("a threshold of none", with(&|set| set.threshold = 0)),
        (
            "a threshold that cannot be met",
            with(&|set| set.threshold = 4),
        ),
        ("no keys", with(&|set| set.keys.clear())),
        (
            "too many keys",
            with(&|set| {
                set.keys
                    .extend((0..limits::KEYS).map(|key| signing_key(&key.to_string()).public()));
                set.keys.sort_unstable();
            }),
        ),
        ("a key twice", with(&|set| set.keys[1] = set.keys[0])),
        ("keys in disorder", with(&|set| set.keys.reverse())),
        (
            "a key of low order",
            with(&|set| set.keys.insert(0, low_order)),
        ),
        ("a gap", with(&|set| set.version = 3)),
        ("the same number", with(&|set| set.version = 1)),
        ("the number 0", with(&|set| set.version = 0)),
    ] {
        let mut sets = Ceremony::new(2).sets;
        sets.sets[1] = second;
        untouched(
            name,
            &Workpiece::good().key_sets(&sets).bytes(),
            "signatures",
        );
    }
    let none = Workpiece::good().key_sets(&atalaya_bundle::KeySets { sets: Vec::new() });
    untouched("no sets", &none.bytes(), "signatures");
    let mut disorder = Ceremony::new(2).sets;
    disorder.sets.reverse();
    untouched(
        "sets in disorder",
        &Workpiece::good().key_sets(&disorder).bytes(),
        "signatures",
    );
    // A threshold that was lowered afterwards: the set's signatures are over it.
    let mut lowered = Ceremony::new(2).sets;
    lowered.sets[1].set.threshold = 1;
    untouched(
        "a lowered threshold",
        &Workpiece::good().key_sets(&lowered).bytes(),
        "signatures",
    );
    // Signed by the newest, but the manifest knows an older one: sets were added to a bundle that was signed before.
    let older = Workpiece::good().manifest(|manifest| manifest["key_set"] = 1.into());
    untouched("another number", &older.bytes(), "signatures");
}

#[test]
fn replayed() {
    // A bundle from before the keys were replaced, on a machine that knows the new ones.
    let old = Ceremony::new(1);
    let bundle = Workpiece::good()
        .key_sets(&old.sets)
        .manifest(|manifest| manifest["key_set"] = 1.into())
        .sign(&old, 2)
        .bytes();
    let knowing = Ceremony::new(2).trust(2);
    let (installed, outcome) = install(&bundle, &knowing, &rules());
    assert!(installed.nothing());
    assert!(outcome.unwrap_err().to_string().contains("key set 1"));
    // A machine that forgot them, but whose record did not.
    let mut rules = rules();
    rules.key_set = 2;
    let (installed, outcome) = install(&bundle, &trust(), &rules);
    assert!(installed.nothing());
    assert!(outcome.unwrap_err().to_string().contains("key set 1"));
}

//! A bundle that this machine does not take changes nothing on it: not the other slot, not /data.

use atalaya_bundle::sample::{self, Ceremony};
use atalaya_core::update::task::Rules;

use atalaya_update::install::{Meter, source};
use atalaya_update::look::look;

use crate::ground::{Ground, NEW, file, refused, rules};

fn with(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = rules();
    change(&mut rules);
    rules
}

#[test]
fn who_is_refused_leaves_everything_as_it_was() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let root = sample::root(100, "new");
    let good = ground.bundle(&root);
    let foreign = {
        let folder = tempfile::tempdir().unwrap();
        sample::bundle(folder.path(), &Ceremony::of("theirs", 2), NEW, &root)
    };
    let mut changed = good.clone();
    changed[600] ^= 1;
    let large = ground.bundle(&sample::root(300, "new"));
    let before = (ground.read("root-b"), ground.read("verity-b"));
    for (bundle, rules, code) in [
        (
            &good,
            with(|rules| rules.product = "other".to_owned()),
            "product",
        ),
        (
            &good,
            with(|rules| rules.kind = "official".to_owned()),
            "kind",
        ),
        (
            &good,
            with(|rules| rules.architecture = "aarch64".to_owned()),
            "architecture",
        ),
        (&good, with(|rules| rules.epoch_floor = 2), "epoch"),
        (&good, with(|rules| rules.key_set = 3), "old_keys"),
        (
            &good,
            with(|rules| rules.running.version = "0.3.0".to_owned()),
            "downgrade",
        ),
        (&foreign, rules(), "untrusted"),
        (&changed, rules(), "signatures"),
        (&large, rules(), "size"),
        (&b"\x7fELF no bundle".repeat(100), rules(), "malformed"),
        (&good[..1000].to_vec(), rules(), "truncated"),
    ] {
        let path = ground.lay("new.atalaya", bundle);
        let refusal = refused(ground.install_from(file(&path), rules));
        assert_eq!(refusal.code, code, "{refusal:?}");
        assert!(refusal.data.contains("not touched"), "{refusal:?}");
        assert!(
            before == (ground.read("root-b"), ground.read("verity-b")),
            "{code}"
        );
        assert!(!ground.path("update/keysets.json").exists(), "{code}");
    }
}

/// The kernel image comes first: one that is not what was signed is not kept, and the slot stays as it was.
#[test]
fn a_changed_kernel_image_is_not_kept() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let mut bundle = ground.bundle(&sample::root(100, "new"));
    let image = bundle.windows(2).position(|two| two == b"MZ").unwrap();
    bundle[image + 3000] ^= 1;
    let before = ground.read("verity-b");
    assert_eq!(refused(ground.install(&bundle)).code, "digest");
    assert_eq!(ground.read("verity-b"), before);
    assert_eq!(
        std::fs::read_dir(ground.path("update/uki"))
            .unwrap()
            .count(),
        0
    );
}

/// Verified as it streams: the slot is invalid, and what was verified before is all that it holds of the new system.
#[test]
fn a_changed_block_ends_it_with_the_slot_invalid() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let root = sample::root(160, "new");
    let mut bundle = ground.bundle(&root);
    let at = bundle.len() - 3000;
    bundle[at] ^= 1;
    let refusal = refused(ground.install(&bundle));
    assert_eq!(refusal.code, "digest");
    assert!(refusal.data.contains("marked as holding nothing"));
    assert_eq!(ground.valid(), None);
    assert!(!ground.path("update/keysets.json").exists());
}

/// The slot is valid by its last write, and that comes behind everything that could still be refused.
#[test]
fn what_follows_the_end_ends_it_with_the_slot_invalid() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let good = ground.bundle(&sample::root(100, "new"));
    let longer = [&good[..], b"more"].concat();
    let shorter = good[..good.len() - 512].to_vec();
    let mut changed = good;
    *changed.last_mut().unwrap() = 1;
    for bundle in [longer, shorter, changed] {
        let refusal = refused(ground.install(&bundle));
        assert!(
            ["malformed", "truncated"].contains(&refusal.code.as_str()),
            "{refusal:?}"
        );
        assert_eq!(ground.valid(), None);
        assert!(!ground.path("update/keysets.json").exists());
    }
}

#[test]
fn a_slot_whose_hash_partition_is_too_small_is_left_alone() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let bundle = ground.bundle(&sample::root(200, "new"));
    let tree = sample::tree(&sample::root(200, "new"), NEW);
    let small = vec![0xee; tree.area().len() - 1];
    ground.lay("verity-b", &small);
    assert_eq!(refused(ground.install(&bundle)).code, "size");
    assert_eq!(ground.read("verity-b"), small);
    assert_eq!(
        ground.read("root-b"),
        vec![0xee; crate::ground::ROOM * 4096]
    );
}

#[test]
fn an_image_without_keys_takes_nothing() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let bundle = ground.bundle(&sample::root(100, "new"));
    ground.lay("trust.json", b"{}");
    assert_eq!(refused(ground.install(&bundle)).code, "trust");
}

/// On a machine that has accepted newer keys, older ones sign nothing any more, though its image knows them only.
#[test]
fn keys_that_were_accepted_count_beside_the_image_s() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    std::fs::create_dir(ground.path("update")).unwrap();
    let newer = Ceremony::new(3);
    ground.lay("update/keysets.json", &newer.sets.to_json().unwrap());
    let bundle = ground.bundle(&sample::root(100, "new"));
    assert_eq!(refused(ground.install(&bundle)).code, "old_keys");
}

/// What the console offers is judged as an installation would judge it.
#[test]
fn a_look_at_a_stick_says_what_an_installation_would_say() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let good = ground.bundle(&sample::root(100, "new"));
    let kept = ground.machine().kept;
    let look_at = |bundle: &[u8], rules: &Rules| {
        let path = ground.lay("stick.bundle", bundle);
        let source = source::open(&file(&path), &ground.path("medium"), &Meter::default());
        look(source.unwrap(), rules, &kept, &ground.path("trust.json"))
    };
    let looked = look_at(&good, &rules()).unwrap();
    assert_eq!(looked.version, NEW);
    let mut changed = good.clone();
    changed[600] ^= 1;
    let newer = with(|rules| rules.running.version = "0.3.0".to_owned());
    for (bundle, rules, code) in [
        (&changed, rules(), "signatures"),
        (&good, newer, "downgrade"),
        (&good[..1000].to_vec(), rules(), "truncated"),
    ] {
        let refusal = look_at(bundle, &rules).unwrap_err().told(false);
        assert_eq!(refusal.code, code, "{refusal:?}");
    }
}

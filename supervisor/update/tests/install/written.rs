//! What stands in the slot and on /data when an installation is done, and what had to be fetched for it.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;

use atalaya_bundle::sample;
use atalaya_core::update::task::{Source, Step};

use crate::ground::{Ground, NEW, done, file, refused, rules};

const BLOCK: usize = 4096;

#[test]
fn the_slot_holds_the_new_system_and_data_keeps_what_belongs_to_it() {
    let ground = Ground::new(&[1; 64 * BLOCK], "salt");
    let root = sample::root(100, "new");
    let tree = sample::tree(&root, NEW);
    let staged = done(ground.install(&ground.bundle(&root)));

    assert_eq!(ground.read("root-b")[..root.len()], root);
    assert_eq!(ground.read("verity-b")[..tree.area().len()], *tree.area());
    assert_eq!(ground.valid(), Some(*tree.root_hash()));
    // Behind it nothing was touched, nor in the running slot.
    assert!(
        ground.read("root-b")[root.len()..]
            .iter()
            .all(|byte| *byte == 0xee)
    );

    assert_eq!(staged.image.version, NEW);
    assert_eq!(staged.key_set, 2);
    let kept =
        |directory: &str, digest: &str| ground.read(&format!("update/{directory}/{digest}.efi"));
    assert!(kept("uki", &staged.image.uki).starts_with(b"MZ"));
    assert_eq!(kept("loader", &staged.loader), b"MZ a boot loader");
    for directory in ["update/uki", "update/loader"] {
        assert_eq!(fs::read_dir(ground.path(directory)).unwrap().count(), 1);
    }
    let accepted: serde_json::Value =
        serde_json::from_slice(&ground.read("update/keysets.json")).unwrap();
    assert_eq!(accepted["sets"].as_array().unwrap().len(), 2);

    let progress = ground.progress();
    assert_eq!(progress.step, Step::Compare);
    assert_eq!(staged.progress.done, staged.progress.total);
    assert_eq!(staged.progress.total, root.len() as u64);
    assert_eq!(
        staged.progress.fetched,
        ground.read("new.atalaya").len() as u64
    );
}

/// What lies on /data under a digest counts only if it has it: from there the boot partition is written.
#[test]
fn a_kept_file_that_is_not_what_its_name_says_is_replaced() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let bundle = ground.bundle(&sample::root(100, "new"));
    let staged = done(ground.install(&bundle));
    for path in [
        format!("update/uki/{}.efi", staged.image.uki),
        format!("update/loader/{}.efi", staged.loader),
    ] {
        let good = ground.read(&path);
        let mut damaged = good.clone();
        damaged[1] ^= 1;
        for bad in [&damaged[..], &good[..good.len() - 1], b""] {
            ground.lay(&path, bad);
            done(ground.install(&bundle));
            assert!(ground.read(&path) == good, "{path}");
        }
    }
}

/// The new system has one part of the running one at its place and one elsewhere.
fn partly_running(running: &[u8]) -> Vec<u8> {
    let fresh = sample::root(32, "new");
    [
        &running[..32 * BLOCK],
        &fresh,
        &running[5 * BLOCK..37 * BLOCK],
    ]
    .concat()
}

#[test]
fn blocks_of_the_running_slot_are_not_fetched_wherever_they_lie() {
    // With the salt of the running slot's tree its leaves say where blocks lie, with another the blocks themselves.
    for salt in [NEW, "another"] {
        let running = sample::root(64, "running");
        let ground = Ground::new(&running, salt);
        let root = partly_running(&running);
        let bundle = ground.bundle(&root);
        let staged = done(ground.install(&bundle));
        assert_eq!(ground.read("root-b")[..root.len()], root);
        // Every fourth block of a sample is the same in all of them.
        assert_eq!(staged.progress.reused, (64 + 8) * BLOCK as u64, "{salt}");
        assert!(staged.progress.fetched < bundle.len() as u64, "{salt}");
    }
}

#[test]
fn a_running_slot_that_lies_about_its_blocks_is_not_believed() {
    let running = sample::root(64, "running");
    let ground = Ground::new(&running, NEW);
    // The tree says that they are there.
    ground.lay("root-a", &vec![0x55; running.len()]);
    let root = partly_running(&running);
    let staged = done(ground.install(&ground.bundle(&root)));
    assert_eq!(ground.read("root-b")[..root.len()], root);
    assert_eq!(staged.progress.reused, 0);
}

#[test]
fn an_interrupted_attempt_leaves_the_slot_invalid_and_the_next_goes_on() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let root = sample::root(160, "new");
    let bundle = ground.bundle(&root);
    assert!(ground.valid().is_some());
    let cut = bundle.len() - 3000;
    let refusal = refused(ground.install(&bundle[..cut]));
    assert_eq!(refusal.code, "truncated");
    assert!(
        refusal.data.contains("marked as holding nothing"),
        "{}",
        refusal.data
    );
    assert_eq!(ground.valid(), None);

    let staged = done(ground.install(&bundle));
    assert_eq!(ground.valid(), Some(*sample::tree(&root, NEW).root_hash()));
    assert!(staged.progress.reused > 0);
    assert_eq!(ground.read("root-b")[..root.len()], root);

    // Once more, with all of it in place: no block is fetched, and the slot is compared all the same.
    let again = done(ground.install(&bundle));
    assert_eq!(again.progress.reused, root.len() as u64);
    assert!(again.progress.fetched < staged.progress.fetched);
}

#[test]
fn what_comes_by_a_socket_is_installed_as_it_comes() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let root = sample::root(100, "new");
    let bundle = ground.bundle(&root);
    let path = ground.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let sender =
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(&bundle).unwrap());
    done(ground.install_from(file(&path), rules()));
    sender.join().unwrap();
    assert_eq!(ground.read("root-b")[..root.len()], root);
}

#[test]
fn a_source_that_is_not_there_is_told() {
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let before = ground.read("verity-b");
    for source in [
        file(&ground.path("absent")),
        Source::Http("ftp://example.com/".to_owned()),
    ] {
        let refusal = refused(ground.install_from(source, rules()));
        assert_eq!(refusal.code, "source");
        assert!(refusal.data.contains("were not touched"));
    }
    assert_eq!(ground.read("verity-b"), before);
}

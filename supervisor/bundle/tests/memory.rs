//! How much a reader holds of the largest bundle there can be. Alone in its program, because it looks at the whole program's memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::fs::File;
use std::io::{Read, Seek, Write};

use atalaya_bundle::keys::Signatures;
use atalaya_bundle::sample::{self, Ceremony};
use atalaya_bundle::verity::{BLOCK, Tree};
use atalaya_bundle::writer::Prepared;
use atalaya_bundle::{Seekable, limits, reader};

/// A slot of 2 GiB, of zeros: what is held does not depend on what the blocks say.
#[test]
fn a_whole_slot_is_read_in_less_than_64_mib() {
    let folder = tempfile::tempdir().unwrap();
    let ceremony = Ceremony::new(1);
    let zero = Tree::build(&[0; BLOCK], b"salt", [0; 16]).unwrap();
    let leaves = vec![*zero.leaf(0).unwrap(); limits::ROOT_BLOCKS as usize];
    let tree = Tree::from_leaves(&leaves, b"salt", [0; 16]).unwrap();
    let parts = sample::parts(folder.path(), &[], &tree);
    let root = File::options().write(true).open(&parts.root).unwrap();
    root.set_len(limits::ROOT_BLOCKS * BLOCK as u64).unwrap();
    let scratch = tempfile::tempfile_in(folder.path()).unwrap();
    let mut prepared =
        Prepared::new(parts, sample::description("1.0.0", 1), scratch, |_| {}).unwrap();
    let signatures: Signatures = ceremony.sign(prepared.manifest_bytes(), 2);
    let mut bundle = tempfile::tempfile_in(folder.path()).unwrap();
    prepared
        .write(&ceremony.sets, &signatures, &mut bundle)
        .unwrap();
    drop((prepared, tree, leaves));
    bundle.rewind().unwrap();

    // 5: the peak counts from here.
    File::options()
        .write(true)
        .open("/proc/self/clear_refs")
        .and_then(|mut file| file.write_all(b"5"))
        .unwrap();
    let before = kib("VmRSS");
    let head = reader::verify(Seekable(bundle), &ceremony.trust(1)).unwrap();
    assert_eq!(head.manifest.root.blocks, limits::ROOT_BLOCKS);
    let (peak, more) = (kib("VmHWM"), kib("VmHWM").saturating_sub(before));
    println!("peak {peak} KiB, {more} KiB more than before");
    assert!(peak < 64 << 10, "{peak} KiB");
    assert!(more < limits::MEMORY >> 10, "{more} KiB more than before");
}

fn kib(field: &str) -> u64 {
    let mut status = String::new();
    File::open("/proc/self/status")
        .and_then(|mut file| file.read_to_string(&mut status))
        .unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

use std::fs::File;
use std::io::{Cursor, Write};
use std::process::Command;

use atalaya_bundle::inspect::inspect;
use atalaya_bundle::keys::Signatures;
use atalaya_bundle::sample::{self, Ceremony};
use atalaya_bundle::verity::{BLOCK, Tree};
use atalaya_bundle::{Chunk, Error, Reader, Refusal, Seekable, Stream, reader, writer};

use crate::workshop::{BLOCKS, Workpiece, install, rules, sha256, trust};

#[test]
fn what_was_written_is_read() {
    let (installed, outcome) = install(&Workpiece::good().bytes(), &trust(), &rules());
    outcome.unwrap();
    let root = sample::root(BLOCKS, "0.2.0");
    assert!(installed.root == root);
    assert_eq!(
        installed.verity,
        sample::tree(&root, "0.2.0-standin").area()
    );
    assert_eq!(installed.loader, b"MZ a boot loader");
    assert_eq!(sha256(&installed.uki).len(), 64);
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    let first = Workpiece::make().bytes();
    assert!(first == Workpiece::make().bytes());
    let mut list = Command::new("tar");
    list.args(["--list", "--verbose", "--numeric-owner", "--utc"]);
    let mut list = list
        .args(["--file", "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    list.stdin.take().unwrap().write_all(&first).unwrap();
    let list = list.wait_with_output().unwrap();
    assert!(list.status.success(), "GNU tar reads it");
    let list = String::from_utf8(list.stdout).unwrap();
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(
        names.join(" "),
        "manifest.json keysets.json signatures.json uki.efi loader.efi verity chunks root"
    );
    for line in list.lines() {
        assert!(
            line.starts_with("-rw-r--r-- 0/0 ") && line.contains(" 1970-01-01 00:00 "),
            "{line}"
        );
    }
}

#[test]
fn what_is_there_already_is_skipped_in_a_file_and_in_a_stream() {
    let bundle = Workpiece::good().bytes();
    let root = sample::root(BLOCKS, "0.2.0");
    let wanted = |chunk: &Chunk| chunk.first_block.is_multiple_of(3);
    let read = |mut reader: atalaya_bundle::Root<Box<dyn atalaya_bundle::Source>>| {
        let mut seen = 0;
        while let Some(chunk) = reader.upcoming() {
            let at = chunk.first_block as usize * BLOCK;
            seen += chunk.blocks;
            if wanted(&chunk) {
                let blocks = reader.read().unwrap();
                assert!(blocks == &root[at..at + chunk.blocks as usize * BLOCK]);
            } else {
                reader.skip().unwrap();
            }
        }
        assert_eq!(seen, BLOCKS as u64);
        assert_eq!(
            reader.read().unwrap(),
            b"",
            "behind the last chunk there is nothing"
        );
        reader.skip().unwrap();
        reader.finish().map(drop)
    };
    let sources = |bundle: &'static [u8]| -> [Box<dyn atalaya_bundle::Source>; 2] {
        [
            Box::new(Stream(bundle)),
            Box::new(Seekable(Cursor::new(bundle))),
        ]
    };
    let bundle: &'static [u8] = bundle.leak();
    for source in sources(bundle) {
        read(
            Reader::open(source, &trust())
                .unwrap()
                .files(None, None)
                .unwrap(),
        )
        .unwrap();
    }
    for source in sources(&bundle[..bundle.len() - 1]) {
        let end = read(
            Reader::open(source, &trust())
                .unwrap()
                .files(None, None)
                .unwrap(),
        );
        assert!(matches!(
            end,
            Err(Error::Refused(Refusal::Truncated { .. }))
        ));
    }
}

#[test]
fn a_bundle_is_signed_after_it_was_written() {
    let good = Workpiece::good();
    let unsigned = good.clone().signatures(&Signatures::default()).bytes();
    assert!(reader::verify(Stream(&unsigned[..]), &trust()).is_err());
    let ceremony = Ceremony::new(2);
    let mut manifest = good.clone();
    let signatures = ceremony.sign(manifest.entry("manifest.json"), 2);
    let mut signed = Vec::new();
    writer::put_signatures(&unsigned[..], &ceremony.sets, &signatures, &mut signed).unwrap();
    assert!(signed == good.bytes());
    let head = reader::verify(Stream(&signed[..]), &trust()).unwrap();
    assert_eq!((head.signed_by.len(), head.key_sets), (2, ceremony.sets));
}

#[test]
fn inspect_says_what_it_is_and_why_it_would_not_be_taken() {
    let good = Workpiece::good().bytes();
    let summary = inspect(Stream(&good[..]), Some(&trust()), Some(&rules())).unwrap();
    assert_eq!(
        (summary.manifest.version.as_str(), summary.refused),
        ("0.2.0-standin", None)
    );
    assert_eq!((summary.key_sets.len(), summary.signed_by.len()), (2, 2));

    let summary = inspect(Stream(&good[..]), None, None).unwrap();
    assert_eq!((summary.trust_asked, summary.refused), (false, None));

    let theirs = Ceremony::of("theirs", 2).trust(1);
    let summary = inspect(Stream(&good[..]), Some(&theirs), None).unwrap();
    assert_eq!(summary.refused.unwrap().code, "untrusted");
    let changed = Workpiece::good().manifest(|manifest| manifest["version"] = "0.3.0".into());
    let changed = changed.sign(&Ceremony::new(2), 1).bytes();
    let summary = inspect(Stream(&changed[..]), None, None).unwrap();
    assert_eq!(summary.refused.unwrap().code, "signatures");
}

#[test]
fn chunks_may_be_of_many_blocks() {
    let root = sample::root(BLOCKS, "0.2.0");
    for blocks in [3, 16, 300, 1000] {
        let mut bundle = Workpiece::good();
        let chunks = root.chunks(blocks * BLOCK);
        let frames: Vec<_> = chunks
            .map(|chunk| zstd::bulk::compress(chunk, 3).unwrap())
            .collect();
        *bundle.entry("root") = frames.concat();
        let lengths = frames
            .iter()
            .map(|frame| (frame.len() as u32).to_le_bytes());
        let table: Vec<u8> = lengths.flatten().collect();
        let bundle = bundle
            .manifest(|manifest| manifest["root"]["chunk_blocks"] = blocks.into())
            .part("chunks", table);
        let (installed, outcome) = install(&bundle.bytes(), &trust(), &rules());
        outcome.unwrap();
        assert!(installed.root == root);
    }
}

/// By `veritysetup format` (cryptsetup 2.7.5) of 300 blocks, each filled with the low byte of its number.
#[test]
fn a_tree_is_the_one_that_veritysetup_makes() {
    let area = include_bytes!("veritysetup-300-blocks");
    let data: Vec<u8> = (0..300_usize)
        .flat_map(|block| [block as u8; BLOCK])
        .collect();
    let uuid = *area[16..].first_chunk().unwrap();
    let tree = Tree::build(&data, &area[88..120], uuid).unwrap();
    assert!(tree.area() == area);
    assert_eq!(sha256(tree.area()), sha256(area));
    let hash = "d22988a3a2bc1cf3892b89472c482a08f0c82e03bdab999ba5b8f7441d2e5ba8";
    assert_eq!(
        tree.root_hash()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
        hash
    );
}

#[test]
fn parts_that_do_not_belong_together_make_no_bundle() {
    let root = sample::root(40, "a");
    let other = sample::root(40, "b");
    let make = |written: &[u8], tree: &Tree| {
        let folder = tempfile::tempdir().unwrap();
        let parts = sample::parts(folder.path(), written, tree);
        let scratch = tempfile::tempfile().unwrap();
        writer::Prepared::new(parts, sample::description("1.0.0", 1), scratch, |_| {}).map(drop)
    };
    let tree = sample::tree(&root, "salt");
    make(&root, &tree).unwrap();
    // A partition's file goes on behind the file system.
    make(&[&root[..], &[0; 3 * BLOCK]].concat(), &tree).unwrap();
    for wrong in [&other[..], &root[..39 * BLOCK], &[]] {
        assert!(make(wrong, &tree).is_err());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut parts = sample::parts(folder.path(), &root, &tree);
    parts.uki = folder.path().join("other");
    let uki = sample::kernel_image(&format!("roothash={}", "0".repeat(64)), 0);
    File::create(&parts.uki).unwrap().write_all(&uki).unwrap();
    let scratch = tempfile::tempfile().unwrap();
    let refused = writer::Prepared::new(parts, sample::description("1.0.0", 1), scratch, |_| {});
    assert!(format!("{:?}", refused.unwrap_err()).contains("Kernel"));
}

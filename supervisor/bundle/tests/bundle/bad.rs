//! Every way in which a bundle can be bad, by name, and what is said of it; who may sign is in `signatures`. Nothing may have been taken from it that is not what was signed, and
//! nothing at all before its head was verified.

use atalaya_bundle::sample::{self, Ceremony};
use atalaya_bundle::verity::BLOCK;
use atalaya_bundle::{Refusal, limits};
use proptest::prelude::*;
use serde_json::Value;

use crate::workshop::{BLOCKS, Workpiece, header, install, refusal, rules, trust};

/// Refused with that code before anything was taken from it.
pub fn untouched(name: &str, bundle: &[u8], code: &str) -> Refusal {
    let (installed, refusal) = refusal(bundle);
    assert_eq!(refusal.code(), code, "{name}: {refusal}");
    assert!(installed.nothing(), "{name}: something was written");
    told(name, &refusal);
    refusal
}

/// Refused with that code, and the blocks given out until then are the root's.
fn part_way(name: &str, bundle: &[u8], code: &str) -> Refusal {
    let (installed, refusal) = refusal(bundle);
    assert_eq!(refusal.code(), code, "{name}: {refusal}");
    let root = sample::root(BLOCKS, "0.2.0");
    assert!(
        root.starts_with(&installed.root),
        "{name}: a wrong block was given out"
    );
    told(name, &refusal);
    refusal
}

fn told(name: &str, refusal: &Refusal) {
    let told = refusal.told();
    for sentence in [&told.what, &told.data, &told.next] {
        let ends = sentence.ends_with(['.', ')']);
        assert!(
            ends && !sentence.contains(char::is_control),
            "{name}: {sentence}"
        );
    }
}

#[test]
fn cut_short() {
    let good = Workpiece::good();
    let bytes = good.bytes();
    let borders = good.entries.iter().map(|(name, _)| good.header_at(name));
    let cuts = borders.flat_map(|at| [at, at + 1, at + 511, at + 512]);
    for cut in cuts
        .chain((0..bytes.len()).step_by(4999))
        .chain([bytes.len() - 1, bytes.len() - 512])
    {
        part_way(&format!("cut at {cut}"), &bytes[..cut], "truncated");
    }
}

#[test]
fn more_behind_the_end() {
    for more in [1, 512, 10_240] {
        let mut bytes = Workpiece::good().bytes();
        bytes.resize(bytes.len() + more, 0);
        assert_eq!(part_way("padded", &bytes, "malformed"), Refusal::Trailing);
    }
    let twice = Workpiece::good().bytes().repeat(2);
    assert_eq!(part_way("twice", &twice, "malformed"), Refusal::Trailing);
    let mut bytes = Workpiece::good().bytes();
    let last = bytes.len() - 1;
    bytes[last] = 1;
    assert_eq!(
        part_way("in the last block", &bytes, "malformed"),
        Refusal::Trailing
    );
}

#[test]
fn something_in_the_padding() {
    let good = Workpiece::good();
    for (index, (name, content)) in good.entries.iter().enumerate() {
        if content.len() % 512 != 0 {
            let mut bytes = good.bytes();
            bytes[good.header_at(name) + 512 + content.len()] = 1;
            let refusal = if index < 3 {
                untouched(name, &bytes, "malformed")
            } else {
                part_way(name, &bytes, "malformed")
            };
            assert!(matches!(refusal, Refusal::Padding { .. }), "{refusal}");
        }
    }
}

#[test]
fn reordered_duplicated_missing_or_added() {
    let good = Workpiece::good();
    let count = good.entries.len();
    for index in 0..count {
        let name = &good.entries[index].0;
        let mut missing = good.clone();
        missing.entries.remove(index);
        part_way(&format!("{name} missing"), &missing.bytes(), "malformed");
        let mut twice = good.clone();
        twice.entries.insert(index, good.entries[index].clone());
        part_way(&format!("{name} twice"), &twice.bytes(), "malformed");
        let mut swapped = good.clone();
        swapped.entries.swap(index, (index + 1) % count);
        part_way(&format!("{name} moved"), &swapped.bytes(), "malformed");
        let mut added = good.clone();
        added
            .entries
            .insert(index + 1, ("etc/passwd".to_owned(), b"root::0:0".to_vec()));
        part_way(&format!("more behind {name}"), &added.bytes(), "malformed");
    }
    untouched("a disk image", &[0; 4096], "malformed");
    untouched("nothing", b"", "truncated");
}

#[test]
fn tricks_with_paths_and_headers() {
    let good = Workpiece::good();
    for (name, size) in good
        .entries
        .iter()
        .map(|(name, content)| (name.clone(), content.len() as u64))
    {
        let at = good.header_at(&name);
        let with = |header: tar::Header| {
            let mut bytes = good.bytes();
            bytes[at..at + 512].copy_from_slice(header.as_bytes());
            bytes
        };
        for path in [
            format!("/{name}"),
            format!("../{name}"),
            format!("./{name}"),
            format!("{name}/"),
            name.to_uppercase(),
        ] {
            part_way(&path, &with(header(&path, size)), "malformed");
        }
        let change = |change: &dyn Fn(&mut tar::Header)| {
            let mut header = header(&name, size);
            change(&mut header);
            header.set_cksum();
            with(header)
        };
        for (trick, bytes) in [
            (
                "a symbolic link",
                change(&|header| {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
                }),
            ),
            (
                "a device",
                change(&|header| header.set_entry_type(tar::EntryType::Block)),
            ),
            (
                "a long name's",
                change(&|header| header.set_entry_type(tar::EntryType::GNULongName)),
            ),
            (
                "an extension's",
                change(&|header| header.set_entry_type(tar::EntryType::XHeader)),
            ),
            (
                "of the oldest kind",
                change(&|header| header.as_old_mut().linkflag = [0]),
            ),
            ("set-uid", change(&|header| header.set_mode(0o4755))),
            ("somebody's", change(&|header| header.set_uid(1000))),
            ("dated", change(&|header| header.set_mtime(1))),
            (
                "with a prefix",
                change(&|header| header.as_ustar_mut().unwrap().prefix[0] = b'x'),
            ),
            (
                "with a name behind the name",
                change(&|header| header.as_old_mut().name[99] = b'x'),
            ),
            (
                "GNU's",
                change(&|header| header.as_ustar_mut().unwrap().magic = *b"ustar "),
            ),
            (
                "with a size in base 256",
                change(&|header| {
                    header.as_old_mut().size = [0; 12];
                    header.as_old_mut().size[0] = 0x80;
                    header.as_old_mut().size[11] = size as u8;
                }),
            ),
            (
                "with a size of blanks",
                change(&|header| {
                    let digits = format!("{size:>11o}\0");
                    header.as_old_mut().size.copy_from_slice(digits.as_bytes());
                }),
            ),
            ("with a wrong sum", {
                let mut bytes = good.bytes();
                bytes[at + 148] ^= 1;
                bytes
            }),
        ] {
            let refusal = part_way(&format!("{name} {trick}"), &bytes, "malformed");
            assert!(matches!(refusal, Refusal::Header { .. }), "{refusal}");
        }
    }
}

#[test]
fn absurd_sizes_in_headers() {
    let good = Workpiece::good();
    for (name, content) in &good.entries {
        for size in [
            content.len() as u64 + 1,
            content.len() as u64 - 1,
            0,
            0o777_7777_7777,
        ] {
            let mut bytes = good.bytes();
            let at = good.header_at(name);
            bytes[at..at + 512].copy_from_slice(header(name, size).as_bytes());
            let (_, refusal) = refusal(&bytes);
            assert!(
                matches!(refusal.code(), "malformed" | "digest" | "signatures"),
                "{name} {size}: {refusal}"
            );
        }
    }
    for (name, limit) in [
        ("manifest.json", limits::MANIFEST),
        ("keysets.json", limits::KEY_SETS),
        ("signatures.json", limits::SIGNATURES),
    ] {
        let mut large = good.clone();
        large.entry(name).resize(limit as usize + 1, b' ');
        let refusal = untouched(name, &large.bytes(), "malformed");
        assert!(matches!(refusal, Refusal::TooLarge { .. }), "{refusal}");
    }
}

/// Even signed: a builder's mistake must not become a machine's.
#[test]
fn absurd_manifests() {
    let long = "1".repeat(200);
    let many = vec!["1.0.0"; limits::FORBIDDEN + 1];
    for (path, value) in [
        ("/root/blocks", Value::from(0)),
        ("/root/blocks", 1.into()),
        ("/root/blocks", (limits::ROOT_BLOCKS + 1).into()),
        ("/root/blocks", u64::MAX.into()),
        ("/root/chunk_blocks", 0.into()),
        ("/root/chunk_blocks", (limits::CHUNK_BLOCKS + 1).into()),
        ("/root/chunk_blocks", u32::MAX.into()),
        ("/root/chunks/bytes", u64::MAX.into()),
        ("/verity/bytes", u64::MAX.into()),
        ("/verity/bytes", 4096.into()),
        ("/uki/bytes", 0.into()),
        ("/uki/bytes", (1_u64 << 40).into()),
        ("/loader/bytes", u64::MAX.into()),
        ("/loader/sha256", "00".into()),
        ("/uki/sha256", "AA".repeat(32).into()),
        ("/root_hash", "".into()),
        ("/version", "".into()),
        ("/version", "2".into()),
        ("/version", "1.0.0+build".into()),
        ("/version", "1.0.0\u{1b}[2J".into()),
        ("/minimum_from", "newest".into()),
        ("/built", long.into()),
        ("/build", "\u{202e}".into()),
        ("/postgresql", "".into()),
        ("/forbidden_from", many.into()),
        ("/forbidden_from", vec!["x"].into()),
    ] {
        let name = format!("{path} {value}");
        let bad =
            Workpiece::good().manifest(|manifest| *manifest.pointer_mut(path).unwrap() = value);
        let refusal = untouched(&name, &bad.bytes(), "malformed");
        assert!(
            matches!(refusal, Refusal::Field { .. }),
            "{name}: {refusal}"
        );
    }
}

#[test]
fn manifests_that_are_none() {
    let text = |text: &[u8]| {
        let mut bad = Workpiece::good();
        *bad.entry("manifest.json") = text.to_vec();
        bad.sign(&Ceremony::new(2), 2).bytes()
    };
    let mut good = Workpiece::good();
    let good = String::from_utf8(good.entry("manifest.json").clone()).unwrap();
    for (name, bytes) in [
        ("not JSON", text(b"version: 1")),
        ("not UTF-8", text(b"{\"product\":\"\xff\"}")),
        ("deep", text("[".repeat(10_000).as_bytes())),
        ("two", text(good.repeat(2).as_bytes())),
        (
            "a key twice",
            text(good.replacen('{', "{\"epoch\":7,", 1).as_bytes()),
        ),
        (
            "an unknown key",
            text(good.replacen('{', "{\"path\":\"/etc\",", 1).as_bytes()),
        ),
        (
            "a number for a text",
            text(good.replace("\"atalaya\"", "7").as_bytes()),
        ),
        (
            "a negative epoch",
            text(good.replace("\"epoch\": 1", "\"epoch\": -1").as_bytes()),
        ),
    ] {
        let refusal = untouched(name, &bytes, "malformed");
        assert!(
            matches!(refusal, Refusal::Syntax { .. }),
            "{name}: {refusal}"
        );
    }
    let other = text(b"{\"format\": 2, \"whatever\": []}");
    assert_eq!(
        untouched("of another format", &other, "format"),
        Refusal::Format { found: 2 }
    );
    for entry in ["keysets.json", "signatures.json"] {
        for text in [
            &b""[..],
            b"[]",
            b"{}",
            b"{\"sets\":[],\"more\":1}",
            b"\xff",
            &b"[".repeat(9000),
        ] {
            let mut bad = Workpiece::good();
            *bad.entry(entry) = text.to_vec();
            untouched(entry, &bad.bytes(), "malformed");
        }
    }
}

#[test]
fn what_is_not_what_was_signed() {
    for (entry, at) in [
        ("uki.efi", 300),
        ("loader.efi", 3),
        ("verity", 5000),
        ("verity", 200),
        ("chunks", 0),
    ] {
        let mut bad = Workpiece::good();
        bad.entry(entry)[at] ^= 1;
        let refusal = part_way(entry, &bad.bytes(), "digest");
        assert!(
            matches!(refusal, Refusal::Digest { .. }),
            "{entry}: {refusal}"
        );
    }
    let good = Workpiece::good().entry("root").len();
    for at in (0..good).step_by(good / 60) {
        let mut bad = Workpiece::good();
        bad.entry("root")[at] ^= 0x10;
        let (installed, outcome) = install(&bad.bytes(), &trust(), &rules());
        let root = sample::root(BLOCKS, "0.2.0");
        assert!(root.starts_with(&installed.root), "byte {at}");
        // zstd has more than one way to say the same; what is said is signed.
        assert!(outcome.is_err() || installed.root == root, "byte {at}");
    }
}

/// Signed, and still refused: what is in the slot would not be what starts.
#[test]
fn parts_that_do_not_belong_together() {
    let wrong_hash =
        Workpiece::good().manifest(|manifest| manifest["root_hash"] = "0".repeat(64).into());
    part_way("a wrong root hash", &wrong_hash.bytes(), "kernel");
    let line = format!("roothash={}", "0".repeat(64));
    let wrong_hash = wrong_hash.part("uki.efi", sample::kernel_image(&line, 100));
    assert_eq!(
        part_way("another root hash", &wrong_hash.bytes(), "digest"),
        Refusal::RootHash
    );
    for (name, uki) in [
        ("other", &sample::kernel_image(&line, 100)[..]),
        ("no kernel", b"MZ"),
        ("no line", &sample::kernel_image("", 0)),
    ] {
        part_way(
            name,
            &Workpiece::good().part("uki.efi", uki.to_vec()).bytes(),
            "kernel",
        );
    }
    // A tree whose leaves are not this root's.
    let other = sample::tree(&sample::root(BLOCKS, "other"), "0.2.0-standin");
    let hash: String = other
        .root_hash()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let wrong_leaves = Workpiece::good()
        .manifest(|manifest| manifest["root_hash"] = hash.as_str().into())
        .part(
            "uki.efi",
            sample::kernel_image(&format!("roothash={hash}"), 0),
        )
        .part("verity", other.area().to_vec());
    let refusal = part_way("wrong leaves", &wrong_leaves.bytes(), "digest");
    assert_eq!(refusal, Refusal::Block { block: 1 });
    // A tree that does not fit together, and one of another size.
    for (name, at) in [
        ("top", BLOCK),
        ("leaf", 2 * BLOCK),
        ("salt", 88),
        ("blocks", 72),
        ("hidden", 2000),
    ] {
        let mut area = Workpiece::good().entry("verity").clone();
        area[at] ^= 1;
        part_way(
            name,
            &Workpiece::good().part("verity", area).bytes(),
            "digest",
        );
    }
}

/// What becomes of a chunk.
type Change<'c> = &'c dyn Fn(&[u8]) -> Vec<u8>;

#[test]
fn chunks_that_unpack_to_something_else() {
    let zeros = |bytes: usize| zstd::bulk::compress(&vec![0; bytes], 19).unwrap();
    let bomb = zeros(64 << 20);
    assert!(bomb.len() < BLOCK, "a bomb of {} bytes", bomb.len());
    // It says 4096 bytes, and then comes one block of them after the other.
    let mut liar = vec![0x28, 0xb5, 0x2f, 0xfd, 0x60, 0x00, 0x0f];
    for block in 0..1000_u32 {
        let run = u32::from(block == 999) | 1 << 1 | 4096 << 3;
        liar.extend(&run.to_le_bytes()[..3]);
        liar.push(0);
    }
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let cases: [(&str, Change); 11] = [
        ("a bomb", &|_| bomb.clone()),
        ("a bomb that says it is small", &|_| liar.clone()),
        ("a bomb of unsaid size", &|_| {
            zstd::stream::encode_all(&vec![0_u8; 1 << 24][..], 19).unwrap()
        }),
        ("one block too many", &|_| zeros(2 * BLOCK)),
        ("one byte too few", &|_| zeros(BLOCK - 1)),
        ("nothing in it", &|_| zeros(0)),
        ("two frames", &|good| [good, &zeros(0)].concat()),
        ("a frame to skip behind it", &|good| {
            [good, &skippable].concat()
        }),
        ("a frame to skip", &|_| skippable.to_vec()),
        ("cut short", &|good| good[..good.len() - 1].to_vec()),
        ("of an old format", &|_| {
            [&0xfd2f_b527_u32.to_le_bytes()[..], &[0; 60]].concat()
        }),
    ];
    for (name, change) in cases {
        let bad = Workpiece::good().chunk(1, change).bytes();
        let refusal = part_way(name, &bad, "digest");
        assert_eq!(refusal, Refusal::Chunk { index: 1 }, "{name}");
    }
    for (name, chunk) in [("compressed", zeros(BLOCK)), ("as it is", vec![0; BLOCK])] {
        let bad = Workpiece::good().chunk(1, |_| chunk).bytes();
        let refusal = part_way(&format!("another block, {name}"), &bad, "digest");
        assert_eq!(refusal, Refusal::Block { block: 1 });
    }
    for length in [0, u32::MAX, BLOCK as u32 + 1] {
        let mut table = Workpiece::good().entry("chunks").clone();
        table[..4].copy_from_slice(&length.to_le_bytes());
        let bad = Workpiece::good().part("chunks", table).bytes();
        let refusal = part_way("a length", &bad, "malformed");
        assert_eq!(refusal, Refusal::ChunkLength { index: 0 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is changed: it is refused, or it makes no difference.
    #[test]
    fn any_change_is_refused(at in 0.0..1.0_f64, value: u8, length in 1..40_usize) {
        let good = Workpiece::good().bytes();
        let mut bytes = good.clone();
        let at = (at * good.len() as f64) as usize;
        let end = (at + length).min(good.len());
        bytes[at..end].fill(value);
        let (installed, outcome) = install(&bytes, &trust(), &rules());
        let root = sample::root(BLOCKS, "0.2.0");
        prop_assert!(root.starts_with(&installed.root));
        // zstd has more than one way to say the same; what is said is signed.
        prop_assert!(outcome.is_err() || installed.root == root);
    }
}

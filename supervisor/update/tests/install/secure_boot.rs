//! With Secure Boot on, what firmware would not start is refused before the other slot is touched. Keys, images and signatures are those of
//! Debian's tools: openssl, ukify, systemd-boot, sbsign, pesign; the lists are laid byte by byte.

use std::fs;
use std::path::PathBuf;

use atalaya_bundle::sample;
use atalaya_update::install::secure_boot::SecureBoot;
use sha2::{Digest, Sha256};

use crate::firmware::{CA, Firmware, SHA1, SHA256, Workshop, X509, X509_SHA256, list};
use crate::ground::{Ground, NEW, done, refused};

/// A workshop with a loader `boot`, keys `ours` and `theirs`, each its own authority.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.take_loader("boot");
    for name in ["ours", "theirs"] {
        workshop.make_key(name, None, &[]);
    }
    workshop
}

impl Workshop {
    fn firmware(&self, db: &[u8], dbx: &[u8]) -> Firmware {
        Firmware::new(&self.path("efivars"), db, dbx)
    }

    /// A list of their certificates.
    fn certificates(&self, names: &[&str]) -> Vec<u8> {
        let lists = names
            .iter()
            .map(|name| list(X509, &[self.certificate(name)]));
        lists.collect::<Vec<_>>().concat()
    }

    /// `image` with some bytes changed.
    fn changed(&self, image: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let mut bytes = fs::read(self.path(image)).unwrap();
        change(&mut bytes);
        self.lay(&format!("{image}-changed"), &bytes)
    }
}

/// `what` is in the reason.
fn assert_refused(verdict: Result<(), String>, what: &str) {
    let reason = verdict.expect_err(what);
    assert!(reason.contains(what), "{reason}");
}

const UNSIGNED: &str = "it is not signed";
const STRANGER: &str = "which no certificate in the firmware's db vouches for";
const ALTERED: &str = "it was changed after it was signed";
const REVOKED: &str = "is in the firmware's dbx";

#[test]
fn signed_by_a_key_in_db() {
    let workshop = workshop();
    let signed = workshop.sign("boot", "ours", None);
    let firmware = workshop.firmware(&workshop.certificates(&["theirs", "ours"]), &[]);
    assert_eq!(firmware.verdict(&workshop.path(&signed)), Ok(()));
    // As efitools writes the list.
    let words = [
        "-g",
        "11111111-2222-3333-4444-123456789abc",
        "ours.crt",
        "esl",
    ];
    workshop.run("cert-to-efi-sig-list", &words);
    firmware.set_lists("db", &fs::read(workshop.path("esl")).unwrap());
    assert_eq!(firmware.verdict(&workshop.path(&signed)), Ok(()));
}

#[test]
fn unsigned() {
    let workshop = workshop();
    let firmware = workshop.firmware(&workshop.certificates(&["ours"]), &[]);
    assert_refused(firmware.verdict(&workshop.path("boot")), UNSIGNED);
}

#[test]
fn signed_by_another() {
    let workshop = workshop();
    let signed = workshop.sign("boot", "theirs", None);
    let firmware = workshop.firmware(&workshop.certificates(&["ours"]), &[]);
    let verdict = firmware.verdict(&workshop.path(&signed));
    assert_refused(verdict.clone(), STRANGER);
    assert_refused(verdict, "CN=theirs");
    // A certificate of the same name is another one.
    workshop.make_key("again", None, &["-subj", "/CN=theirs"]);
    let firmware = workshop.firmware(&workshop.certificates(&["again"]), &[]);
    assert_refused(firmware.verdict(&workshop.path(&signed)), STRANGER);
}

#[test]
fn signed_and_altered() {
    let workshop = workshop();
    let firmware = workshop.firmware(&workshop.certificates(&["ours"]), &[]);
    let signed = workshop.sign("boot", "ours", None);
    let middle = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    };
    assert_refused(
        firmware.verdict(&workshop.changed(&signed, middle)),
        ALTERED,
    );
    // In the headers: the time of the build.
    let header = |bytes: &mut Vec<u8>| {
        let pe = usize::from(bytes[0x3c]) | usize::from(bytes[0x3d]) << 8;
        bytes[pe + 8] ^= 1;
    };
    assert_refused(
        firmware.verdict(&workshop.changed(&signed, header)),
        ALTERED,
    );
    // The checksum is no part of what is signed.
    let checksum = |bytes: &mut Vec<u8>| {
        let pe = usize::from(bytes[0x3c]) | usize::from(bytes[0x3d]) << 8;
        bytes[pe + 24 + 64] ^= 1;
    };
    let changed = workshop.changed(&signed, checksum);
    assert_eq!(firmware.verdict(&changed), Ok(()));
}

/// Of the signature everything counts that says something.
#[test]
fn a_signature_that_was_tampered_with() {
    let workshop = workshop();
    let firmware = workshop.firmware(&workshop.certificates(&["ours"]), &[]);
    let signed = workshop.sign("boot", "ours", None);
    let whole = fs::read(workshop.path(&signed)).unwrap();
    let table = whole.len() - fs::read(workshop.path("boot")).unwrap().len();
    let first = whole.len() - table;
    let mut accepted = 0;
    for at in first..whole.len() {
        let changed = workshop.changed(&signed, |bytes| bytes[at] ^= 0x01);
        accepted += usize::from(firmware.verdict(&changed).is_ok());
    }
    // Zeros behind the signature, the table's revision and NULLs, which nobody reads.
    assert!(accepted < 40, "{accepted} of {table}");
    // What counts is among the others.
    let value = whole.len() - 40;
    let changed = workshop.changed(&signed, |bytes| bytes[value] ^= 1);
    assert_refused(firmware.verdict(&changed), "its signature is false");
}

/// The signature of one image behind another one.
#[test]
fn a_signature_of_something_else() {
    let workshop = workshop();
    workshop.make_kernel_image("uki", "roothash=1");
    workshop.make_kernel_image("other", "roothash=2");
    let firmware = workshop.firmware(&workshop.certificates(&["ours"]), &[]);
    let signed = workshop.sign("uki", "ours", None);
    let other = workshop.sign("other", "ours", None);
    for name in [&signed, &other] {
        assert_eq!(firmware.verdict(&workshop.path(name)), Ok(()));
    }
    let stolen = fs::read(workshop.path(&signed)).unwrap();
    let from = fs::metadata(workshop.path("uki")).unwrap().len() as usize;
    let changed = workshop.changed(&other, |bytes| {
        assert_eq!(bytes.len(), stolen.len());
        bytes[from..].copy_from_slice(&stolen[from..]);
    });
    assert_refused(firmware.verdict(&changed), ALTERED);
}

#[test]
fn certificate_in_dbx() {
    let workshop = workshop();
    workshop.make_authority("root", None);
    workshop.make_key("leaf", Some("root"), &[]);
    let signed = workshop.path(&workshop.sign("boot", "leaf", Some("root")));
    let both = workshop.certificates(&["root", "leaf"]);
    assert_eq!(workshop.firmware(&both, &[]).verdict(&signed), Ok(()));
    let body = |name: &str| {
        let der = workshop.certificate(name);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let body: &[u8] = certificate.tbs_certificate.as_ref();
        [&Sha256::digest(body)[..], &[0; 16]].concat()
    };
    for revoked in ["leaf", "root"] {
        let firmware = workshop.firmware(&both, &workshop.certificates(&["theirs", revoked]));
        assert_refused(firmware.verdict(&signed), REVOKED);
        // By the digest of what is signed in it.
        let firmware = workshop.firmware(&both, &list(X509_SHA256, &[body(revoked)]));
        assert_refused(firmware.verdict(&signed), REVOKED);
    }
    // The authority in db, of which only the digest is in dbx, and which did not come along.
    let alone = workshop.path(&workshop.sign("boot", "leaf", None));
    let root = workshop.certificates(&["root"]);
    assert_eq!(workshop.firmware(&root, &[]).verdict(&alone), Ok(()));
    let firmware = workshop.firmware(&root, &list(X509_SHA256, &[body("root")]));
    assert_refused(firmware.verdict(&alone), STRANGER);
}

#[test]
fn hash_in_dbx() {
    let workshop = workshop();
    let signed = workshop.sign("boot", "ours", None);
    let db = workshop.certificates(&["ours"]);
    for (kind, name) in [(SHA256, "sha256"), (SHA1, "sha1")] {
        let dbx = list(kind, &[workshop.digest("boot", name)]);
        let firmware = workshop.firmware(&db, &dbx);
        assert_refused(firmware.verdict(&workshop.path(&signed)), REVOKED);
    }
}

#[test]
fn hash_in_db() {
    let workshop = workshop();
    workshop.make_kernel_image("uki", "roothash=1");
    for image in ["boot", "uki"] {
        let digest = workshop.digest(image, "sha256");
        let firmware = workshop.firmware(&list(SHA256, &[vec![7; 32], digest.clone()]), &[]);
        assert_eq!(firmware.verdict(&workshop.path(image)), Ok(()));
        // It is of the image without its signatures.
        let signed = workshop.sign(image, "theirs", None);
        assert_eq!(firmware.verdict(&workshop.path(&signed)), Ok(()));
        let firmware = workshop.firmware(
            &list(SHA256, std::slice::from_ref(&digest)),
            &list(SHA256, &[digest]),
        );
        assert_refused(firmware.verdict(&workshop.path(image)), REVOKED);
    }
}

#[test]
fn intermediate_authority_in_db() {
    let workshop = workshop();
    workshop.make_authority("root", None);
    workshop.make_authority("middle", Some("root"));
    workshop.make_key("leaf", Some("middle"), &[]);
    let alone = workshop.path(&workshop.sign("boot", "leaf", None));
    let verdict = |db: &str, image| {
        let firmware = workshop.firmware(&workshop.certificates(&[db]), &[]);
        firmware.verdict(image)
    };
    assert_eq!(verdict("middle", &alone), Ok(()));
    assert_eq!(verdict("leaf", &alone), Ok(()));
    // Nobody knows what is between.
    assert_refused(verdict("root", &alone), STRANGER);
    let chain = workshop.path(&workshop.sign("boot", "leaf", Some("middle")));
    for db in ["root", "middle", "leaf"] {
        assert_eq!(verdict(db, &chain), Ok(()), "{db}");
    }
}

#[test]
fn who_is_no_authority_vouches_for_nobody() {
    let workshop = workshop();
    let short = "basicConstraints=critical,CA:TRUE,pathlen:0";
    for (name, more) in [
        ("plain", &["-addext", "basicConstraints=CA:FALSE"][..]),
        ("silent", &[]),
        (
            "other",
            &["-addext", CA, "-addext", "keyUsage=digitalSignature"],
        ),
    ] {
        workshop.make_key(name, None, more);
        let leaf = format!("{name}-leaf");
        workshop.make_key(&leaf, Some(name), &[]);
        let signed = workshop.sign("boot", &leaf, None);
        let firmware = workshop.firmware(&workshop.certificates(&[name]), &[]);
        assert_refused(firmware.verdict(&workshop.path(&signed)), STRANGER);
    }
    workshop.make_key("short", None, &["-addext", short]);
    workshop.make_key("direct", Some("short"), &[]);
    workshop.make_authority("between", Some("short"));
    workshop.make_key("far", Some("between"), &[]);
    let firmware = workshop.firmware(&workshop.certificates(&["short"]), &[]);
    let direct = workshop.sign("boot", "direct", None);
    assert_eq!(firmware.verdict(&workshop.path(&direct)), Ok(()));
    let far = workshop.sign("boot", "far", Some("between"));
    assert_refused(firmware.verdict(&workshop.path(&far)), STRANGER);
}

#[test]
fn signed_twice() {
    let workshop = workshop();
    let once = workshop.sign("boot", "theirs", None);
    let twice = workshop.path(&workshop.sign(&once, "ours", None));
    for db in ["ours", "theirs"] {
        let firmware = workshop.firmware(&workshop.certificates(&[db]), &[]);
        assert_eq!(firmware.verdict(&twice), Ok(()), "{db}");
    }
    for dbx in ["ours", "theirs"] {
        let both = workshop.certificates(&["ours", "theirs"]);
        let firmware = workshop.firmware(&both, &workshop.certificates(&[dbx]));
        assert_refused(firmware.verdict(&twice), REVOKED);
    }
}

#[test]
fn other_keys() {
    let workshop = workshop();
    for (name, kind) in [
        ("large", &["-newkey", "rsa:4096"][..]),
        (
            "curve",
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        ),
    ] {
        workshop.make_key(name, None, kind);
        let signed = workshop.sign("boot", name, None);
        let firmware = workshop.firmware(&workshop.certificates(&[name]), &[]);
        assert_eq!(firmware.verdict(&workshop.path(&signed)), Ok(()), "{name}");
    }
    // Too short to be counted on.
    workshop.make_key("small", None, &["-newkey", "rsa:1024"]);
    let signed = workshop.sign("boot", "small", None);
    let firmware = workshop.firmware(&workshop.certificates(&["small"]), &[]);
    assert!(firmware.verdict(&workshop.path(&signed)).is_err());
}

#[test]
fn secure_boot_off() {
    let workshop = Workshop::new();
    let firmware = workshop.firmware(b"absurd", b"absurd");
    assert!(SecureBoot::read(&firmware.0).is_err());
    firmware.set_global("SetupMode", &[1]);
    assert!(SecureBoot::read(&firmware.0).unwrap().is_none());
    firmware.set_global("SetupMode", &[0]);
    firmware.set_global("SecureBoot", &[0]);
    assert!(SecureBoot::read(&firmware.0).unwrap().is_none());
    firmware.remove("SecureBoot");
    assert!(SecureBoot::read(&firmware.0).unwrap().is_none());
    assert!(
        SecureBoot::read(&workshop.path("absent"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn variables_that_make_no_sense() {
    let workshop = workshop();
    let good = workshop.certificates(&["ours"]);
    let told = |firmware: &Firmware| {
        let failure = SecureBoot::read(&firmware.0).expect_err("an absurd variable");
        let told = failure.told(false);
        assert_eq!(told.code, "firmware");
        assert!(told.next.contains("turn Secure Boot off"), "{}", told.next);
        told.what
    };
    let firmware = workshop.firmware(&good, &[]);
    firmware.remove("db");
    assert!(told(&firmware).contains("db cannot be understood: it is not there"));
    for name in ["db", "dbx"] {
        let firmware = workshop.firmware(&good, &[]);
        for absurd in [
            &good[..good.len() - 1],
            &[0xff; 100],
            &[0; 28],
            &vec![0; (1 << 20) + 1],
        ] {
            firmware.set_lists(name, absurd);
            assert!(told(&firmware).contains(&format!("firmware's {name} ")));
        }
    }
    for name in ["SecureBoot", "SetupMode"] {
        for absurd in [&[][..], &[2], &[1, 1]] {
            let firmware = workshop.firmware(&good, &[]);
            firmware.set_global(name, absurd);
            assert!(told(&firmware).contains(&format!("firmware's {name} ")));
        }
    }
    // Too short for its attributes; and one that is no file.
    let firmware = workshop.firmware(&good, &[]);
    let path = firmware
        .0
        .join("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
    fs::File::create(&path).unwrap();
    assert!(told(&firmware).contains("too short"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    told(&firmware);
    fs::remove_dir(&path).unwrap();
    // Lists with nothing in them are lists; no dbx is one too.
    let signed = workshop.path(&workshop.sign("boot", "ours", None));
    let firmware = workshop.firmware(&[], &[]);
    assert_refused(firmware.verdict(&signed), STRANGER);
    firmware.set_lists("db", &good);
    firmware.remove("dbx");
    assert_eq!(firmware.verdict(&signed), Ok(()));
    // A certificate that is none vouches for nothing, and stands in nobody's way.
    let garbage = [list(X509, &[vec![0x30; 40]]), good].concat();
    assert_eq!(workshop.firmware(&garbage, &[]).verdict(&signed), Ok(()));
}

#[test]
fn what_is_no_image() {
    let workshop = workshop();
    let firmware = workshop.firmware(&workshop.certificates(&["ours"]), &[]);
    let signed = workshop.sign("boot", "ours", None);
    for content in [&b""[..], b"MZ", b"MZ a boot loader", &[0xff; 9000]] {
        let verdict = firmware.verdict(&workshop.lay("none", content));
        assert_refused(verdict, "it is not an EFI program");
    }
    // Cut off, and with something behind the signatures.
    let cut = workshop.changed(&signed, |bytes| bytes.truncate(bytes.len() - 8));
    assert_refused(firmware.verdict(&cut), "do not stand at its end");
    let longer = workshop.changed(&signed, |bytes| bytes.extend([0; 8]));
    assert_refused(firmware.verdict(&longer), "do not stand at its end");
}

/// A bundle of a real kernel image and loader, signed by these (or not).
fn bundle(workshop: &Workshop, ground: &Ground, root: &[u8], keys: [Option<&str>; 2]) -> Vec<u8> {
    let tree = sample::tree(root, NEW);
    let hash: String = tree
        .root_hash()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    workshop.make_kernel_image("uki", &format!("quiet roothash={hash}"));
    let sign = |image: &str, key: Option<&str>| {
        workshop.path(&key.map_or(image.to_owned(), |key| workshop.sign(image, key, None)))
    };
    let folder = workshop.path("parts");
    fs::create_dir_all(&folder).unwrap();
    let mut parts = sample::parts(&folder, root, &tree);
    parts.uki = sign("uki", keys[0]);
    parts.loader = sign("boot", keys[1]);
    let prepared = sample::prepared_of(&folder, parts, sample::description(NEW, 2));
    sample::signed(&ground.ceremony, prepared)
}

#[test]
fn an_update_that_firmware_would_not_start_changes_nothing() {
    let workshop = workshop();
    let ground = Ground::new(&sample::root(64, "running"), "salt");
    let root = sample::root(100, "new");
    let before = (ground.read("root-b"), ground.read("verity-b"));
    let db = workshop.certificates(&["ours"]);
    let firmware = Firmware::new(&ground.path("efivars"), &db, &[]);
    let ours = Some("ours");
    for (keys, what) in [
        ([None, ours], "kernel image"),
        ([ours, None], "loader"),
        ([Some("theirs"), ours], "kernel image"),
        ([ours, Some("theirs")], "loader"),
    ] {
        let bundle = bundle(&workshop, &ground, &root, keys);
        let refusal = refused(ground.install(&bundle));
        assert_eq!(refusal.code, "secure_boot", "{refusal:?}");
        assert!(refusal.what.contains(what), "{refusal:?}");
        assert!(refusal.data.contains("the other slot were not touched"));
        assert!(
            before == (ground.read("root-b"), ground.read("verity-b")),
            "{keys:?}"
        );
        for directory in ["update/uki", "update/loader"] {
            let kept = fs::read_dir(ground.path(directory)).unwrap().count();
            assert_eq!(kept, 0, "{directory} {keys:?}");
        }
        assert!(!ground.path("update/keysets.json").exists());
    }
    let good = bundle(&workshop, &ground, &root, [ours, ours]);
    // Lists that cannot be understood: nothing of the bundle's files is read.
    firmware.set_lists("dbx", b"absurd");
    assert_eq!(refused(ground.install(&good)).code, "firmware");
    firmware.set_lists("dbx", &[]);
    done(ground.install(&good));
    assert_eq!(ground.valid(), Some(*sample::tree(&root, NEW).root_hash()));

    // Revoked since: what is kept already is looked at again.
    firmware.set_lists("dbx", &workshop.certificates(&["ours"]));
    let valid = ground.read("verity-b");
    let refusal = refused(ground.install(&good));
    assert_eq!(refusal.code, "secure_boot");
    assert!(refusal.what.contains(REVOKED), "{refusal:?}");
    assert_eq!(ground.read("verity-b"), valid);
}

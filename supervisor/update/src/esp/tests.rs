use std::fs::{self, File};
use std::path::Path;

use atalaya_core::update::task::Entry;
use atalaya_sys::durable;
use tempfile::TempDir;

use super::*;

/// A directory that stands for the partition, and one for /data.
struct Ground {
    folder: TempDir,
    store: Store,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store {
            images: folder.path().join("uki"),
            loaders: folder.path().join("loader"),
        };
        for path in [
            &store.images,
            &store.loaders,
            &folder.path().join("esp/EFI/Linux"),
            &folder.path().join("esp/EFI/BOOT"),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        let ground = Self { folder, store };
        ground.put("EFI/BOOT/BOOTX64.EFI", b"loader 1");
        ground.put("EFI/Linux/atalaya_000001.efi", b"kernel 1");
        ground
    }

    fn top(&self) -> std::path::PathBuf {
        self.folder.path().join("esp")
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        durable::write(&self.top().join(path), bytes, 0o600, None).unwrap();
    }

    /// As `install` leaves it; its SHA-256.
    fn stage(&self, bytes: &[u8]) -> String {
        let path = self.folder.path().join("staged");
        durable::write(&path, bytes, 0o600, None).unwrap();
        let sha256 = listing::digest(&File::open(&path).unwrap()).unwrap();
        fs::rename(path, self.store.images.join(format!("{sha256}.efi"))).unwrap();
        sha256
    }

    fn run(&self, wanted: &Esp) -> Result<EspReport, Failure> {
        run(&Volume::Directory(self.top()), &self.store, wanted, &|_| ())
    }

    fn look(&self) -> EspReport {
        self.run(&esp(&[])).unwrap()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        names(&self.top().join(directory))
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn esp(entries: &[(u32, &str, Option<u32>)]) -> Esp {
    let entries = entries.iter().map(|(number, uki, tries)| Entry {
        number: *number,
        uki: (*uki).to_owned(),
        tries: *tries,
    });
    Esp {
        entries: entries.collect(),
        loader: None,
        needed: None,
    }
}

#[test]
fn the_first_look_keeps_what_runs_and_changes_nothing() {
    let ground = Ground::new();
    let report = ground.look();
    assert_eq!(report.steps, Vec::<String>::new());
    assert_eq!(report.entries.len(), 1);
    let entry = &report.entries[0];
    assert_eq!((entry.number, entry.left), (1, None));
    assert_eq!(names(&ground.store.images), [format!("{}.efi", entry.uki)]);
    let loader = report.loader.unwrap();
    assert_eq!(names(&ground.store.loaders), [format!("{loader}.efi")]);
}

#[test]
fn an_update_from_arming_to_the_new_loader() {
    let ground = Ground::new();
    let old = ground.look().entries[0].uki.clone();
    let new = ground.stage(b"kernel 2");
    let armed = ground
        .run(&esp(&[(1, &old, None), (2, &new, Some(3))]))
        .unwrap();
    assert_eq!(armed.steps.len(), 2, "{:?}", armed.steps);
    assert_eq!(armed.entries[1].left, Some(3));
    let linux = || ground.names("EFI/Linux");
    assert_eq!(linux(), ["atalaya_000001.efi", "atalaya_000002+3.efi"]);

    // The loader counts.
    let path = |name: &str| ground.top().join("EFI/Linux").join(name);
    fs::rename(path("atalaya_000002+3.efi"), path("atalaya_000002+2-1.efi")).unwrap();
    let blessed = ground
        .run(&esp(&[(1, &old, None), (2, &new, None)]))
        .unwrap();
    assert_eq!(blessed.steps.len(), 1, "{:?}", blessed.steps);
    assert_eq!(linux(), ["atalaya_000001.efi", "atalaya_000002.efi"]);

    let loader = listing::hex(&<sha2::Sha256 as sha2::Digest>::digest(b"loader 2"));
    let kept = ground.store.loaders.join(format!("{loader}.efi"));
    durable::write(&kept, b"loader 2", 0o600, None).unwrap();
    let opened = Esp {
        loader: Some(loader.clone()),
        needed: Some(Vec::new()),
        ..esp(&[(2, &new, None)])
    };
    assert_eq!(ground.run(&opened).unwrap().loader, Some(loader));
    assert_eq!(linux(), ["atalaya_000002.efi"]);
    assert_eq!(ground.names("EFI/BOOT"), ["BOOTX64.EFI"]);
    assert_eq!(names(&ground.store.images), [format!("{new}.efi")]);
    assert_eq!(ground.run(&opened).unwrap().steps, Vec::<String>::new());
}

#[test]
fn what_was_damaged_or_lost_is_made_anew_from_data() {
    let ground = Ground::new();
    let old = ground.look().entries[0].uki.clone();
    let wanted = esp(&[(1, &old, None)]);
    let path = ground.top().join("EFI/Linux/atalaya_000001.efi");
    for damage in [b"kernel X".as_slice(), b""] {
        durable::write(&path, damage, 0o600, None).unwrap();
        assert_eq!(ground.run(&wanted).unwrap().entries[0].uki, old);
    }
    fs::remove_dir_all(ground.top().join("EFI/Linux")).unwrap();
    ground.run(&wanted).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"kernel 1");
}

#[test]
fn a_loader_that_is_lost_keeps_no_entry_from_being_put_right() {
    let ground = Ground::new();
    let old = ground.look();
    let loader = old.loader.unwrap();
    let wanted = Esp {
        loader: Some(loader.clone()),
        ..esp(&[(1, &old.entries[0].uki, None)])
    };
    let kept = ground.store.loaders.join(format!("{loader}.efi"));
    let entry = || ground.names("EFI/Linux");
    let damage = || ground.put("EFI/Linux/atalaya_000001.efi", b"junk");

    // On the partition it is still: from there it comes back to /data, and to where it was missing.
    fs::remove_file(&kept).unwrap();
    fs::create_dir(ground.top().join("EFI/systemd")).unwrap();
    ground.run(&wanted).unwrap();
    assert!(kept.exists());
    fs::remove_file(&kept).unwrap();
    ground.put("EFI/BOOT/BOOTX64.EFI", b"damaged");
    damage();
    let report = ground.run(&wanted).unwrap();
    assert_eq!(
        (report.loader, report.lost_loader),
        (Some(loader.clone()), false)
    );

    // Nowhere: what is there stays.
    fs::remove_file(&kept).unwrap();
    for path in ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"] {
        ground.put(path, b"another loader");
    }
    damage();
    let report = ground.run(&wanted).unwrap();
    assert!(report.lost_loader);
    assert_eq!(report.entries[0].uki, old.entries[0].uki);
    assert_eq!(entry(), ["atalaya_000001.efi"]);
    let there = fs::read(ground.top().join("EFI/BOOT/BOOTX64.EFI")).unwrap();
    assert_eq!(there, b"another loader");
}

/// Hard links stand for what FAT has after half a rename: one content under two names.
#[test]
fn two_names_of_one_content_end_as_one() {
    let ground = Ground::new();
    let old = ground.look().entries[0].uki.clone();
    let new = ground.stage(b"kernel 2");
    ground.put("EFI/Linux/atalaya_000002+2-1.efi", b"kernel 2");
    let path = |name: &str| ground.top().join("EFI/Linux").join(name);
    fs::hard_link(path("atalaya_000002+2-1.efi"), path("atalaya_000002.efi")).unwrap();
    let report = ground
        .run(&esp(&[(1, &old, None), (2, &new, None)]))
        .unwrap();
    assert_eq!(report.steps.len(), 2, "{:?}", report.steps);
    assert_eq!(
        ground.names("EFI/Linux"),
        ["atalaya_000001.efi", "atalaya_000002.efi"]
    );
}

#[test]
fn a_damaged_copy_on_data_is_never_written() {
    let ground = Ground::new();
    let old = ground.look().entries[0].uki.clone();
    let new = ground.stage(b"kernel 2");
    let copy = ground.store.images.join(format!("{new}.efi"));
    durable::write(&copy, b"kernel X", 0o600, None).unwrap();
    let wanted = esp(&[(1, &old, None), (2, &new, Some(3))]);
    let failure = ground.run(&wanted).unwrap_err();
    assert_eq!(failure.refusal().code, "kernel-image");
    assert_eq!(ground.names("EFI/Linux"), ["atalaya_000001.efi"]);
    fs::remove_file(copy).unwrap();
    let failure = ground.run(&wanted).unwrap_err();
    assert!(matches!(failure, Failure::Plan(Problem::Missing(sha256)) if sha256 == new));
}

#[test]
fn a_copy_that_cannot_be_made_stands_in_nobodys_way() {
    let ground = Ground::new();
    ground.put("EFI/Linux/atalaya_000009+3.efi", b"x");
    let old = listing::hex(&<sha2::Sha256 as sha2::Digest>::digest(b"kernel 1"));
    fs::create_dir(ground.store.images.join(format!("{old}.efi"))).unwrap();
    ground.run(&esp(&[(1, &old, None)])).unwrap();
    assert_eq!(ground.names("EFI/Linux"), ["atalaya_000001.efi"]);
}

/// The copy of a good one is made anew from the boot partition.
#[test]
fn the_copy_and_the_partition_mend_each_other() {
    let ground = Ground::new();
    let old = ground.look().entries[0].uki.clone();
    let copy = ground.store.images.join(format!("{old}.efi"));
    durable::write(&copy, b"kernel X", 0o600, None).unwrap();
    ground.look();
    assert_eq!(fs::read(copy).unwrap(), b"kernel 1");
}

#[test]
fn leftovers_go_and_others_files_stay() {
    let ground = Ground::new();
    let old = ground.look().entries[0].uki.clone();
    for name in [
        "atalaya_new0.tmp",
        "atalaya_000009+3.efi",
        "debian.efi",
        "FSCK0000.REC",
    ] {
        ground.put(&format!("EFI/Linux/{name}"), b"x");
    }
    let report = ground.run(&esp(&[(1, &old, None)])).unwrap();
    assert_eq!(report.foreign, ["FSCK0000.REC", "debian.efi"]);
    assert_eq!(
        ground.names("EFI/Linux"),
        ["FSCK0000.REC", "atalaya_000001.efi", "debian.efi"]
    );
}

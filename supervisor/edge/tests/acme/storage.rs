//! What disks do wrong.

use std::path::{Path, PathBuf};

use atalaya_edge::tls::acme::Step;
use nix::mount::{MsFlags, mount, umount};

use crate::machine::{Setup, read_json};
use crate::place::{Place, at, reason};

#[tokio::test]
async fn a_torn_certificate_is_ordered_again_with_the_same_account() {
    let place = Place::new(Setup::default()).await;
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
    let account = read_json(&place.file("account.json"));
    let path = place.file("certificate.json");
    let text = std::fs::read(&path).unwrap();
    atalaya_sys::durable::write(&path, &text[..text.len() / 2], 0o600, None).unwrap();
    let mut acme = place.open();
    assert!(acme.certificate().is_none());
    assert_eq!(acme.step(at(60)).await, Step::Issued);
    assert_eq!(read_json(&place.file("account.json")), account);
    assert!(place.open().certificate().is_some());
}

/// A disk that is full when a test says so; unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path) -> Self {
        std::fs::create_dir(place).unwrap();
        mount(
            Some("none"),
            place,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=256k"),
        )
        .unwrap();
        Self(place.to_owned())
    }

    /// Leaves room for `pages` of 4 KiB.
    fn fill(&self, pages: usize) {
        let free = nix::sys::statvfs::statvfs(&self.0).unwrap();
        let free = usize::try_from(free.blocks_available() * free.fragment_size()).unwrap();
        let bytes = vec![0; free.saturating_sub(pages * 4096)];
        atalaya_sys::durable::write(&self.0.join("filler"), &bytes, 0o600, None).unwrap();
    }

    fn free(&self) {
        atalaya_sys::durable::remove(&self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount(&self.0).ok();
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_ordered_that_could_not_be_kept() {
    let mut place = Place::new(Setup::default()).await;
    let disk = SmallDisk::mount(&place.dir.path().join("small"));
    place.wanted.state_dir = disk.0.clone();
    let mut acme = place.open();
    disk.fill(0);
    for minute in 0..5 {
        let told = reason(acme.step(at(minute * 60)).await);
        assert!(told.contains("No space left"), "{told}");
    }
    assert!(place.front.take_seen().is_empty());
    disk.free();
    assert_eq!(acme.step(at(360)).await, Step::Issued);
    drop(acme);
    drop(disk);
}

#[tokio::test]
async fn a_disk_that_fills_up_during_the_order_loses_no_certificate() {
    let mut place = Place::new(Setup::default()).await;
    let disk = SmallDisk::mount(&place.dir.path().join("small"));
    place.wanted.state_dir = disk.0.clone();
    assert_eq!(place.open().step(at(0)).await, Step::Issued);
    // So many that the certificate takes more than a page.
    let more = (0..80).map(|number| format!("host-{number}.example.test"));
    place.wanted.names.extend(more);
    let mut acme = place.open();
    // Room for the note that it was tried, none for what it brings.
    disk.fill(1);
    assert_eq!(acme.step(at(60)).await, Step::Issued);
    let kept = acme.certificate().unwrap();
    assert_ne!(place.open().certificate().unwrap().cert, kept.cert);
    let told = acme.renewal(at(60)).error.unwrap();
    assert!(told.contains("No space left"), "{told}");
    place.front.take_seen();
    disk.free();
    assert_eq!(acme.step(at(120)).await, Step::Waited);
    assert_eq!(acme.renewal(at(120)).error, None);
    assert_eq!(place.open().certificate().unwrap().cert, kept.cert);
    let asked = place.front.take_seen();
    assert!(
        asked
            .iter()
            .all(|seen| !seen.payload["identifiers"].is_array())
    );
    drop(acme);
    drop(disk);
}

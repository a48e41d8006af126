//! Finds a disk labelled `ATALAYA-SEED` and reads `appliance.toml` from it.
//!
//! It is mounted in this unit's own mount namespace.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atalaya_sys::medium::{self, FileSystem, Label};
use atalaya_sys::mounts;
use nix::fcntl::OFlag;

use super::{Found, Source, Unusable, make_directory, read_limited};
use crate::places::Places;

const LABEL: Label = Label {
    whole: "ATALAYA-SEED",
    on_fat: ["ATALAYA-SEE", "ATALAYASEED"],
};
const FILE: &str = "appliance.toml";

pub(super) fn find(places: &Places, say: &dyn Fn(&str)) -> Option<Found> {
    let (device, kind) = wait_for_device(places, say)?;
    let read = if places.is_real() {
        read_mounted(places, &device, kind)
    } else {
        Err(not_mounted())
    };
    Some((Source::Disk(device), read))
}

fn not_mounted() -> Unusable {
    Unusable::Unreadable("disks are only mounted on a real machine".to_owned())
}

/// A USB stick is announced a second or more after the controller: it is waited for, but only where there is one.
fn wait_for_device(places: &Places, say: &dyn Fn(&str)) -> Option<(PathBuf, FileSystem)> {
    const LIMIT: Duration = Duration::from_secs(10);
    const LOOK: Duration = Duration::from_millis(250);
    let start = Instant::now();
    let mut told = false;
    loop {
        if let Some(found) = medium::find(&places.block_devices(), &places.dev(), &LABEL) {
            return Some(found);
        }
        if !places.is_real() || !usb_storage_without_a_disk() || start.elapsed() >= LIMIT {
            return None;
        }
        if !told {
            told = true;
            say("waiting for a USB disk");
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether a USB mass-storage interface (class 08) is there that has no block device below it yet.
fn usb_storage_without_a_disk() -> bool {
    let Ok(entries) = std::fs::read_dir("/sys/bus/usb/devices") else {
        return false;
    };
    entries.flatten().any(|entry| {
        let interface = entry.path();
        let class = std::fs::read_to_string(interface.join("bInterfaceClass")).unwrap_or_default();
        class.trim() == "08" && !has_block_device(&interface, 6)
    })
}

/// Looks for a directory `block` below a device: hostN/targetN/N:N:N:N/block.
fn has_block_device(directory: &Path, depth: u32) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let is_directory = entry.file_type().is_ok_and(|t| t.is_dir());
        is_directory
            && (entry.file_name() == "block"
                || depth > 0 && has_block_device(&entry.path(), depth - 1))
    })
}

fn read_mounted(places: &Places, device: &Path, kind: FileSystem) -> Result<Vec<u8>, Unusable> {
    let unreadable = |error: &dyn std::error::Error| Unusable::Unreadable(chain(error));
    let target = places.medium();
    make_directory(&target, 0o700).map_err(|error| unreadable(&error))?;
    medium::mount_read_only(device, kind, &target).map_err(|error| unreadable(&error))?;
    let read = read_file(&target);
    if let Err(error) = mounts::unmount(&target) {
        drop(mounts::detach(&target));
        return read.and(Err(unreadable(&error)));
    }
    read
}

fn read_file(directory: &Path) -> Result<Vec<u8>, Unusable> {
    let missing = || Unusable::Unreadable(format!("there is no file {FILE} in its top directory"));
    let entries =
        std::fs::read_dir(directory).map_err(|error| Unusable::Unreadable(error.to_string()))?;
    // Some programs that write such media change the case.
    let name = entries
        .flatten()
        .map(|e| e.file_name())
        .find(|n| n.eq_ignore_ascii_case(FILE))
        .ok_or_else(missing)?;
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(directory.join(name));
    let file = file.map_err(|error| Unusable::Unreadable(error.to_string()))?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err(missing());
    }
    read_limited(file)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn kind_of_bytes(bytes: &[u8]) -> Option<FileSystem> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        medium::file_system(&file, &LABEL)
    }

    fn image(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 40 * 1024];
        for (offset, part) in parts {
            bytes[*offset..*offset + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn the_three_kinds_are_known_by_their_superblocks() {
        let iso = image(&[
            (32769, b"CD001"),
            (32808, b"ATALAYA-SEED                    "),
        ]);
        assert_eq!(kind_of_bytes(&iso), Some(FileSystem::Iso9660));
        let ext4 = image(&[(1080, &[0x53, 0xef]), (1144, b"ATALAYA-SEED\0\0\0\0")]);
        assert_eq!(kind_of_bytes(&ext4), Some(FileSystem::Ext4));
        let fat32 = image(&[
            (71, b"ATALAYA-SEE"),
            (82, b"FAT32   "),
            (510, &[0x55, 0xaa]),
        ]);
        assert_eq!(kind_of_bytes(&fat32), Some(FileSystem::Vfat));
        let fat16 = image(&[
            (43, b"ATALAYASEED"),
            (54, b"FAT16   "),
            (510, &[0x55, 0xaa]),
        ]);
        assert_eq!(kind_of_bytes(&fat16), Some(FileSystem::Vfat));
    }

    #[test]
    fn other_labels_and_other_file_systems_are_left_alone() {
        assert_eq!(kind_of_bytes(&image(&[])), None);
        assert_eq!(kind_of_bytes(b"short"), None);
        assert_eq!(
            kind_of_bytes(&image(&[
                (1080, &[0x53, 0xef]),
                (1144, b"ATALAYA-SEEDS\0\0\0")
            ])),
            None
        );
        assert_eq!(
            kind_of_bytes(&image(&[
                (32769, b"CD001"),
                (32808, b"ATALAYA                         ")
            ])),
            None
        );
        // XFS with the label in its own place.
        assert_eq!(
            kind_of_bytes(&image(&[(0, b"XFSB"), (108, b"ATALAYA-SEED")])),
            None
        );
    }

    proptest! {
        #[test]
        fn no_device_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            kind_of_bytes(&bytes);
        }
    }
}

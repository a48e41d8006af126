//! Finds a disk labelled `ATALAYA-SEED` and reads `appliance.toml` from it.
//!
//! Decides which block device that is, by reading superblocks itself: only vfat, iso9660 and ext4 are ever given to the
//! kernel to mount, read-only, without programs or devices, in this unit's own mount namespace.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atalaya_sys::mounts::{self, Flags};
use nix::fcntl::OFlag;

use super::{Found, Source, Unusable, make_directory, read_limited};
use crate::places::Places;

const LABEL: &[u8] = b"ATALAYA-SEED";
/// FAT has room for 11 characters; our label has 12. Cut short, or written without the hyphen.
const FAT_LABELS: [&[u8]; 2] = [b"ATALAYA-SEE", b"ATALAYASEED"];
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
fn wait_for_device(places: &Places, say: &dyn Fn(&str)) -> Option<(PathBuf, Kind)> {
    const LIMIT: Duration = Duration::from_secs(10);
    const LOOK: Duration = Duration::from_millis(250);
    let start = Instant::now();
    let mut told = false;
    loop {
        if let Some(found) = labelled_device(places) {
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

fn labelled_device(places: &Places) -> Option<(PathBuf, Kind)> {
    let mut names: Vec<_> = std::fs::read_dir(places.block_devices())
        .ok()?
        .flatten()
        .map(|e| e.file_name())
        .collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let text = name.to_str()?;
        // Floppy drives without a disk take seconds to say so; the others are made by software.
        if ["fd", "loop", "ram", "zram", "dm-", "md"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
        {
            return None;
        }
        let device = places.dev().join(text);
        // An optical drive may be empty: then opening fails, and without O_NONBLOCK it would close its tray.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&device)
            .ok()?;
        Some((device, kind_of(&file)?))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Vfat,
    Iso9660,
    Ext4,
}

/// The file system's kind if its label is ours.
fn kind_of(device: &File) -> Option<Kind> {
    let at = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        device
            .read_exact_at(&mut bytes, offset)
            .ok()
            .map(|()| bytes)
    };
    let ours = |label: &[u8]| {
        label
            .trim_ascii_end()
            .split(|b| *b == 0)
            .next()
            .is_some_and(|l| l.trim_ascii_end() == LABEL)
    };

    // ECMA-119 8.4: the primary volume descriptor is sector 16; its identifier has 32 bytes, filled up with spaces.
    if let Some(descriptor) = at(32768, 72)
        && descriptor[1..6] == *b"CD001"
        && ours(&descriptor[40..72])
    {
        return Some(Kind::Iso9660);
    }
    // ext4's superblock is at 1024; its magic at 56, its name (16 bytes, filled up with NULs) at 120.
    if let Some(superblock) = at(1024, 136)
        && superblock[56..58] == [0x53, 0xef]
        && ours(&superblock[120..136])
    {
        return Some(Kind::Ext4);
    }
    // FAT: 11 bytes at 71 for FAT32, at 43 before.
    if let Some(boot) = at(0, 512)
        && boot[510..512] == [0x55, 0xaa]
    {
        let fits =
            |label: &[u8], name: &[u8]| name.starts_with(b"FAT") && FAT_LABELS.contains(&label);
        if fits(&boot[71..82], &boot[82..90]) || fits(&boot[43..54], &boot[54..62]) {
            return Some(Kind::Vfat);
        }
    }
    None
}

fn read_mounted(places: &Places, device: &Path, kind: Kind) -> Result<Vec<u8>, Unusable> {
    let unreadable = |error: &dyn std::error::Error| Unusable::Unreadable(chain(error));
    let target = places.medium();
    make_directory(&target, 0o700).map_err(|error| unreadable(&error))?;
    let flags = Flags::MS_RDONLY | Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    let (name, options) = match kind {
        Kind::Vfat => ("vfat", ""),
        Kind::Iso9660 => ("iso9660", ""),
        // Without it a journal would be replayed, which writes to the medium.
        Kind::Ext4 => ("ext4", "noload"),
    };
    mounts::mount(&device.to_string_lossy(), &target, name, flags, options)
        .map_err(|error| unreadable(&error))?;
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

    fn kind_of_bytes(bytes: &[u8]) -> Option<Kind> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        kind_of(&file)
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
        assert_eq!(kind_of_bytes(&iso), Some(Kind::Iso9660));
        let ext4 = image(&[(1080, &[0x53, 0xef]), (1144, b"ATALAYA-SEED\0\0\0\0")]);
        assert_eq!(kind_of_bytes(&ext4), Some(Kind::Ext4));
        let fat32 = image(&[
            (71, b"ATALAYA-SEE"),
            (82, b"FAT32   "),
            (510, &[0x55, 0xaa]),
        ]);
        assert_eq!(kind_of_bytes(&fat32), Some(Kind::Vfat));
        let fat16 = image(&[
            (43, b"ATALAYASEED"),
            (54, b"FAT16   "),
            (510, &[0x55, 0xaa]),
        ]);
        assert_eq!(kind_of_bytes(&fat16), Some(Kind::Vfat));
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

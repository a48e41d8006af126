//! Media that somebody has plugged in, known by the label of their file system. Superblocks are read here: only what carries the label, and is
//! vfat, iso9660 or ext4, is ever given to the kernel to mount, read-only, without programs or devices.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::Result;
use crate::mounts::{self, Flags};

/// How a medium is called.
#[derive(Debug, Clone, Copy)]
pub struct Label {
    pub whole: &'static str,
    /// FAT has room for 11 characters: cut short, or written without the hyphen.
    pub on_fat: [&'static str; 2],
}

/// A medium with an update on it.
pub const UPDATE: Label = Label {
    whole: "ATALAYA-UPDATE",
    on_fat: ["ATALAYA-UPD", "ATALAYAUPDA"],
};

impl Label {
    /// Everything that it may be called.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.whole).chain(self.on_fat)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Vfat,
    Iso9660,
    Ext4,
}

/// The first block device with that label. `classes` is /sys/class/block, `devices` is /dev.
pub fn find(classes: &Path, devices: &Path, label: &Label) -> Option<(PathBuf, FileSystem)> {
    let names = std::fs::read_dir(classes).ok()?.flatten();
    let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
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
        let device = devices.join(text);
        // An optical drive may be empty: then opening fails, and without O_NONBLOCK it would close its tray.
        let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&device)
            .ok()?;
        Some((device, file_system(&file, label)?))
    })
}

/// The file system's kind if it carries the label.
pub fn file_system(device: &File, label: &Label) -> Option<FileSystem> {
    let at = |offset: u64, length: usize| {
        let mut bytes = vec![0; length];
        device
            .read_exact_at(&mut bytes, offset)
            .ok()
            .map(|()| bytes)
    };
    let ours = |found: &[u8]| {
        let text = found.split(|byte| *byte == 0).next().unwrap_or_default();
        text.trim_ascii_end() == label.whole.as_bytes()
    };

    // ECMA-119 8.4: the primary volume descriptor is sector 16; its identifier has 32 bytes, filled up with spaces.
    if let Some(descriptor) = at(32768, 72)
        && descriptor[1..6] == *b"CD001"
        && ours(&descriptor[40..72])
    {
        return Some(FileSystem::Iso9660);
    }
    // ext4's superblock is at 1024; its magic at 56, its name (16 bytes, filled up with NULs) at 120.
    if let Some(superblock) = at(1024, 136)
        && superblock[56..58] == [0x53, 0xef]
        && ours(&superblock[120..136])
    {
        return Some(FileSystem::Ext4);
    }
    // FAT: 11 bytes at 71 for FAT32, at 43 before.
    if let Some(boot) = at(0, 512)
        && boot[510..512] == [0x55, 0xaa]
    {
        let fits = |found: &[u8], name: &[u8]| {
            let ours = label.on_fat.iter().any(|label| label.as_bytes() == found);
            name.starts_with(b"FAT") && ours
        };
        if fits(&boot[71..82], &boot[82..90]) || fits(&boot[43..54], &boot[54..62]) {
            return Some(FileSystem::Vfat);
        }
    }
    None
}

/// Mounts it on `target`, which must be there.
///
/// # Errors
/// The kernel refuses it.
pub fn mount_read_only(device: &Path, kind: FileSystem, target: &Path) -> Result<()> {
    let flags = Flags::MS_RDONLY | Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    let (name, options) = match kind {
        FileSystem::Vfat => ("vfat", ""),
        FileSystem::Iso9660 => ("iso9660", ""),
        // Without it a journal would be replayed, which writes to the medium.
        FileSystem::Ext4 => ("ext4", "noload"),
    };
    mounts::mount(&device.to_string_lossy(), target, name, flags, options)
}

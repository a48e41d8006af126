//! Which disks and partitions the kernel shows, by /sys/class/block: without udev there is nothing else.

use crate::disk::gpt::{self, Partition};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A whole disk with its partition table.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The kernel's name, such as `vda`.
    pub name: String,
    pub partitions: Vec<Partition>,
}

impl Disk {
    pub fn device(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// All disks with a readable partition table, in the order of their names.
///
/// A disk that cannot be read or has none is left out: it may be a blank one, or a card reader without a card.
pub fn disks() -> Vec<Disk> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/block")
        .map(|entries| {
            entries
                .flatten()
                .filter(|entry| is_disk(&entry.path()))
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names.into_iter().filter_map(|name| disk(&name)).collect()
}

/// One disk by its kernel name, if it has a readable partition table.
pub fn disk(name: &str) -> Option<Disk> {
    let sector = number(
        &Path::new("/sys/class/block")
            .join(name)
            .join("queue/logical_block_size"),
    )?;
    let size = number(&Path::new("/sys/class/block").join(name).join("size"))?.checked_mul(512)?;
    let mut device = File::open(Path::new("/dev").join(name)).ok()?;
    let partitions = gpt::parse(&mut device, size, sector).ok()?;
    Some(Disk {
        name: name.to_owned(),
        partitions,
    })
}

/// The kernel's name of partition `number` of `disk` (`vda3`, `nvme0n1p3`), once it has one.
pub fn partition_name(disk: &str, wanted: u32) -> Option<String> {
    let folder = Path::new("/sys/class/block").join(disk);
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let found = number(&entry.path().join("partition"))?;
        (found == u64::from(wanted)).then(|| entry.file_name().into_string().ok())?
    })
}

/// The device node of a partition, once the kernel has made it.
pub fn partition_device(disk: &str, wanted: u32) -> Option<PathBuf> {
    let path = Path::new("/dev").join(partition_name(disk, wanted)?);
    path.exists().then_some(path)
}

/// Its size in bytes.
pub fn size_of(name: &str) -> Option<u64> {
    number(&Path::new("/sys/class/block").join(name).join("size"))?.checked_mul(512)
}

fn is_disk(folder: &Path) -> bool {
    // Only real devices have one; loop, ram, zram and dm devices do not hold the system.
    folder.join("device").exists()
        && !folder.join("partition").exists()
        && number(&folder.join("size")).is_some_and(|sectors| sectors > 0)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

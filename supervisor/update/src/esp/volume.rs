//! The boot partition: which it is, and mounted only while it is looked at or written. Nobody else sees the mount, and it ends with the unit.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atalaya_init::boot_record::BootRecord;
use atalaya_init::disk::scan;
use atalaya_sys::mounts::{self, Flags};

use super::failure::Failure;

/// UEFI 2.10, table 5.7.
const TYPE_ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// The unit's own /tmp.
const PLACE: &str = "/tmp/esp";
/// An error that a power cut has left in the table (a content that is freed twice) must not end the repair of it: the default is to become
/// read-only. Names are ours alone, so no other user may read them.
const OPTIONS: &str = "errors=continue,umask=0077";
const NODE_LIMIT: Duration = Duration::from_secs(15);

/// A partition, or for tests a directory that stands for one.
#[derive(Debug, Clone)]
pub enum Volume {
    Partition(PathBuf),
    Directory(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Mounted until it is dropped.
#[derive(Debug)]
pub struct Mounted {
    top: PathBuf,
    is_mount: bool,
}

impl Volume {
    /// That of the disk from which the machine was started.
    ///
    /// # Errors
    /// It was started from something else, or that disk has none.
    pub fn find() -> Result<Self, Failure> {
        let boot = BootRecord::read().ok_or(Failure::NoDisk)?;
        let disk = scan::disk(&boot.disk).ok_or(Failure::NoDisk)?;
        let mut partitions = disk.partitions.iter();
        let partition = partitions
            .find(|partition| partition.kind == TYPE_ESP)
            .ok_or(Failure::NoPartition(boot.disk))?;
        let start = Instant::now();
        loop {
            if let Some(device) = scan::partition_device(&disk.name, partition.number) {
                return Ok(Self::Partition(device));
            }
            if start.elapsed() > NODE_LIMIT {
                return Err(Failure::NoPartition(disk.name));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// # Errors
    /// It cannot be mounted.
    pub fn open(&self, access: Access) -> Result<Mounted, Failure> {
        let device = match self {
            Self::Directory(top) => {
                return Ok(Mounted {
                    top: top.clone(),
                    is_mount: false,
                });
            }
            Self::Partition(device) => device,
        };
        let top = Path::new(PLACE);
        std::fs::create_dir_all(top).map_err(|error| {
            Failure::System(atalaya_sys::Error::new("make", top.display(), error))
        })?;
        let mut flags = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC | Flags::MS_NOATIME;
        if access == Access::Read {
            flags |= Flags::MS_RDONLY;
        }
        mounts::mount(&device.to_string_lossy(), top, "vfat", flags, OPTIONS)?;
        Ok(Mounted {
            top: top.to_owned(),
            is_mount: true,
        })
    }
}

impl Mounted {
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// # Errors
    /// Something of it is still open.
    pub fn close(mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_mount) {
            mounts::unmount(&self.top)?;
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mount
            && let Err(error) = mounts::unmount(&self.top)
        {
            eprintln!("{}", error.chain());
        }
    }
}

//! The two partitions of a slot, and which they are on this machine.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use atalaya_bundle::Tree;
use atalaya_bundle::verity::BLOCK;
use atalaya_core::update::record::Slot;
use atalaya_init::boot_record::BootRecord;
use atalaya_init::disk::scan;
use atalaya_init::stage1::slots::plan_pairs;
use atalaya_sys::pages;

use super::failure::Failure;

/// A partition, or a file that stands for one.
#[derive(Debug)]
pub struct Device {
    pub file: File,
    pub path: PathBuf,
    pub bytes: u64,
}

impl Device {
    fn open(path: &Path, write: bool) -> Result<Self, Failure> {
        let open = || -> io::Result<Self> {
            let mut file = File::options().read(true).write(write).open(path)?;
            let bytes = file.seek(SeekFrom::End(0))?;
            Ok(Self {
                file,
                path: path.to_owned(),
                bytes,
            })
        };
        open().map_err(|error| Failure::slot("open", path, error))
    }

    /// Durable when it returns.
    pub fn sync(&self) -> Result<(), Failure> {
        self.file
            .sync_data()
            .map_err(|error| Failure::slot("sync", &self.path, error))
    }

    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Failure> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|error| Failure::slot("write to", &self.path, error))
    }

    pub fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Failure> {
        self.file
            .read_exact_at(bytes, offset)
            .map_err(|error| Failure::slot("read back", &self.path, error))
    }

    /// The next read asks the device. What cannot be forgotten is read from memory then, which is worth no failure.
    pub fn forget(&self, offset: u64, bytes: u64) {
        if let Err(error) = pages::forget(&self.file, &self.path, offset, bytes) {
            eprintln!("{}", error.chain());
        }
    }
}

/// A root partition with its hashes.
#[derive(Debug)]
pub struct Partitions {
    pub root: Device,
    pub verity: Device,
}

impl Partitions {
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(root: &Path, verity: &Path, write: bool) -> Result<Self, Failure> {
        Ok(Self {
            root: Device::open(root, write)?,
            verity: Device::open(verity, write)?,
        })
    }

    /// Nothing starts from it any more: stage 1 finds no superblock. Durable when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn invalidate(&self) -> Result<(), Failure> {
        self.verity.write(&[0; BLOCK], 0)?;
        self.verity.sync()
    }

    /// The hash tree that it holds, if it holds a whole one.
    pub fn tree(&self) -> Option<Tree> {
        let mut superblock = vec![0; BLOCK];
        self.verity.file.read_exact_at(&mut superblock, 0).ok()?;
        let blocks = superblock.get(72..80)?.try_into().ok()?;
        let blocks = u64::from_le_bytes(blocks);
        if blocks > self.root.bytes / BLOCK as u64 {
            return None;
        }
        let bytes = Tree::area_bytes(blocks);
        if bytes > self.verity.bytes {
            return None;
        }
        let mut area = vec![0; usize::try_from(bytes).ok()?];
        self.verity.file.read_exact_at(&mut area, 0).ok()?;
        Tree::parse(area).ok()
    }
}

/// The running slot and the other one.
#[derive(Debug)]
pub struct Slots {
    pub running: Partitions,
    pub target: Partitions,
}

impl Slots {
    /// By what stage 1 has left of this boot. Only the target can be written to.
    ///
    /// # Errors
    /// The request means the slot that runs, or it cannot be told which partitions are meant.
    pub fn find(target: Slot) -> Result<Self, Failure> {
        let boot = BootRecord::read().ok_or(Failure::NoSlots)?;
        let letter = match target {
            Slot::A => 'a',
            Slot::B => 'b',
        };
        if boot.slot == letter {
            return Err(Failure::Running(letter));
        }
        let disk = scan::disk(&boot.disk).ok_or(Failure::NoSlots)?;
        let open = |wanted: char, write: bool| {
            let pairs = plan_pairs(&disk.partitions);
            let pair = pairs.into_iter().find(|pair| pair.letter == wanted);
            let pair = pair.ok_or(Failure::NoSlots)?;
            let root = device(&disk.name, pair.root.number, write)?;
            let verity = device(&disk.name, pair.verity.number, write)?;
            Partitions::open(&root, &verity, write)
        };
        Ok(Self {
            running: open(boot.slot, false)?,
            target: open(letter, true)?,
        })
    }
}

/// The node of a partition; one that is to be written to must have no holder, such as the running root's dm-verity.
fn device(disk: &str, number: u32, write: bool) -> Result<PathBuf, Failure> {
    let name = scan::partition_name(disk, number).ok_or(Failure::NoSlots)?;
    let holders = Path::new("/sys/class/block").join(&name).join("holders");
    let held = fs::read_dir(&holders).is_ok_and(|mut entries| entries.next().is_some());
    if write && held {
        return Err(Failure::Held(name));
    }
    Ok(Path::new("/dev").join(name))
}

//! Which partitions make up the slots, and which slot belongs to the root hash.
//!
//! The pairing is pure; the search reads the candidates' hash partitions. A slot's label decides its letter; where there
//! is none, the order on the disk does: the image's own tables are written that way.

use crate::disk::gpt::{Partition, TYPE_ROOT, TYPE_ROOT_VERITY};
use crate::disk::scan::{Disk, partition_device};
use crate::stage1::cmdline::RootHash;
use crate::stage1::verity::{SUPERBLOCK, Superblock};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// A root partition and its hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// `a` or `b`.
    pub letter: char,
    pub root: Partition,
    pub verity: Partition,
}

/// The slot to boot.
#[derive(Debug, Clone)]
pub struct Slot {
    pub disk: String,
    pub letter: char,
    pub root: PathBuf,
    pub verity: PathBuf,
    pub superblock: Superblock,
}

/// The slots of one disk, a before b.
pub fn plan_pairs(partitions: &[Partition]) -> Vec<Pair> {
    let of_kind = |kind: &str| {
        partitions
            .iter()
            .filter(|partition| partition.kind == kind)
            .collect::<Vec<_>>()
    };
    let (roots, hashes) = (of_kind(TYPE_ROOT), of_kind(TYPE_ROOT_VERITY));
    ['a', 'b']
        .into_iter()
        .enumerate()
        .filter_map(|(index, letter)| {
            Some(Pair {
                letter,
                root: choose(&roots, &format!("root-{letter}"), index)?,
                verity: choose(&hashes, &format!("verity-{letter}"), index)?,
            })
        })
        .collect()
}

fn choose(partitions: &[&Partition], label: &str, index: usize) -> Option<Partition> {
    let by_label = partitions.iter().find(|partition| partition.label == label);
    by_label
        .or_else(|| partitions.get(index))
        .map(|partition| (*partition).clone())
}

/// Tries every slot of every disk; `tell` gets a line about each that does not fit.
pub fn find(disks: &[Disk], root_hash: &RootHash, tell: &mut dyn FnMut(String)) -> Option<Slot> {
    for disk in disks {
        for pair in plan_pairs(&disk.partitions) {
            match examine(disk, &pair, root_hash) {
                Ok(Some(slot)) => return Some(slot),
                Ok(None) => tell(format!(
                    "{}: slot {} is of another version",
                    disk.name, pair.letter
                )),
                Err(error) => tell(format!("{}: slot {}: {error}", disk.name, pair.letter)),
            }
        }
    }
    None
}

/// The root hash, in hexadecimal, of the system that a slot holds by the top of its hash tree; `None`: it holds none.
///
/// # Errors
/// It cannot be read.
pub fn held(disk: &Disk, pair: &Pair) -> io::Result<Option<String>> {
    let not_there = || io::Error::from(io::ErrorKind::NotFound);
    let verity = partition_device(&disk.name, pair.verity.number).ok_or_else(not_there)?;
    held_by(&mut File::open(verity)?, pair.root.size)
}

fn held_by(hashes: &mut (impl Read + Seek), room: u64) -> io::Result<Option<String>> {
    let mut bytes = [0u8; SUPERBLOCK];
    hashes.read_exact(&mut bytes)?;
    let superblock = match Superblock::parse(&bytes) {
        Ok(superblock) if superblock.data_bytes() <= room => superblock,
        Ok(_) | Err(_) => return Ok(None),
    };
    let top = read_top(hashes, &superblock)?;
    let digits = superblock.root_hash(&top);
    Ok(Some(
        digits.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

fn read_top(hashes: &mut (impl Read + Seek), superblock: &Superblock) -> io::Result<Vec<u8>> {
    let block = u64::from(superblock.hash_block_size);
    let mut top = vec![0u8; superblock.hash_block_size as usize];
    hashes.seek(SeekFrom::Start(superblock.hash_start() * block))?;
    hashes.read_exact(&mut top)?;
    Ok(top)
}

fn examine(disk: &Disk, pair: &Pair, root_hash: &RootHash) -> io::Result<Option<Slot>> {
    let device = |number| {
        partition_device(&disk.name, number).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let root = device(pair.root.number)?;
    let verity = device(pair.verity.number)?;
    let mut hashes = File::open(&verity)?;
    let mut bytes = [0u8; SUPERBLOCK];
    hashes.read_exact(&mut bytes)?;
    let superblock = Superblock::parse(&bytes).map_err(io::Error::other)?;
    if superblock.data_bytes() > pair.root.size {
        return Err(io::Error::other(
            "verity superblock for more data than the partition holds",
        ));
    }
    let top = read_top(&mut hashes, &superblock)?;
    if !superblock.belongs_to(&top, &root_hash.bytes()) {
        return Ok(None);
    }
    Ok(Some(Slot {
        disk: disk.name.clone(),
        letter: pair.letter,
        root,
        verity,
        superblock,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: u32, kind: &str, label: &str) -> Partition {
        Partition {
            number,
            kind: kind.into(),
            unique: String::new(),
            label: label.into(),
            start: 0,
            size: 1,
        }
    }

    fn numbers(partitions: &[Partition]) -> Vec<(char, u32, u32)> {
        plan_pairs(partitions)
            .into_iter()
            .map(|pair| (pair.letter, pair.root.number, pair.verity.number))
            .collect()
    }

    #[test]
    fn labels_decide_and_order_stands_in_for_them() {
        let labelled = [
            partition(1, TYPE_ROOT, "root-b"),
            partition(2, TYPE_ROOT_VERITY, "verity-b"),
            partition(3, TYPE_ROOT, "root-a"),
            partition(4, TYPE_ROOT_VERITY, "verity-a"),
        ];
        assert_eq!(numbers(&labelled), [('a', 3, 4), ('b', 1, 2)]);
        let bare = [
            partition(1, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "esp"),
            partition(2, TYPE_ROOT, "root-x86-64"),
            partition(3, TYPE_ROOT_VERITY, "root-x86-64-verity"),
            partition(4, TYPE_ROOT, "_empty"),
            partition(5, TYPE_ROOT_VERITY, "_empty"),
        ];
        assert_eq!(numbers(&bare), [('a', 2, 3), ('b', 4, 5)]);
    }

    #[test]
    fn a_slot_holds_what_the_top_of_its_tree_says_or_nothing() {
        let mut area = vec![0u8; 8192];
        area[..6].copy_from_slice(b"verity");
        area[8] = 1;
        area[12] = 1;
        area[32..38].copy_from_slice(b"sha256");
        area[64..68].copy_from_slice(&4096u32.to_le_bytes());
        area[68..72].copy_from_slice(&4096u32.to_le_bytes());
        area[72..80].copy_from_slice(&16u64.to_le_bytes());
        let held = |area: &[u8], room: u64| held_by(&mut io::Cursor::new(area), room).unwrap();
        let hash = held(&area, 65_536).unwrap();
        // sha256sum of 4096 zeros.
        assert_eq!(
            hash,
            "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"
        );
        assert_eq!(held(&area, 65_535), None);
        area[..8].fill(0);
        assert_eq!(held(&area, 65_536), None);
        assert!(held_by(&mut io::Cursor::new([0u8; 100]), 1).is_err());
    }

    #[test]
    fn half_a_slot_is_none() {
        assert_eq!(numbers(&[partition(1, TYPE_ROOT, "root-a")]), []);
        assert_eq!(numbers(&[]), []);
    }
}

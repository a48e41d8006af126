//! Reads a GUID partition table (UEFI 2.10, chapter 5.3), the backup one if the primary is damaged.
//!
//! Pure apart from reading what it is given. Every number on the disk is distrusted: sizes are bounded before use, and
//! nothing here can panic on any content.

use crate::disk::crc::crc32;
use std::io::{self, Read, Seek, SeekFrom};

/// A root partition for x86-64 (Discoverable Partitions Specification).
pub const TYPE_ROOT: &str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709";
/// The dm-verity hashes of a root partition for x86-64.
pub const TYPE_ROOT_VERITY: &str = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5";

/// One partition that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As in the device's name, from 1.
    pub number: u32,
    /// Lower-case GUID.
    pub kind: String,
    /// Lower-case GUID.
    pub unique: String,
    pub label: String,
    /// In bytes.
    pub start: u64,
    /// In bytes.
    pub size: u64,
}

/// Why a disk has no usable table.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    #[error("failed to read the partition table")]
    Read(#[source] io::Error),
    #[error("no partition table")]
    Absent,
    #[error("both copies of the partition table are damaged")]
    Damaged,
}

/// The partitions of a disk of `size` bytes with sectors of `sector` bytes, in the table's order.
///
/// # Errors
/// See [`GptError`]; a wrong checksum in one copy is none if the other is good.
pub fn parse<D: Read + Seek>(
    disk: &mut D,
    size: u64,
    sector: u64,
) -> Result<Vec<Partition>, GptError> {
    if !(512..=65536).contains(&sector) || size < sector.saturating_mul(4) {
        return Err(GptError::Absent);
    }
    let last = size / sector - 1;
    let mut seen = false;
    for lba in [1, last] {
        match table_at(disk, lba, last, sector) {
            Ok(partitions) => return Ok(partitions),
            Err(GptError::Damaged) => seen = true,
            Err(GptError::Absent) => {}
            // A disk that cannot be read at one end may still be good at the other, but not worth trusting.
            Err(error @ GptError::Read(_)) => return Err(error),
        }
    }
    Err(if seen {
        GptError::Damaged
    } else {
        GptError::Absent
    })
}

fn table_at<D: Read + Seek>(
    disk: &mut D,
    lba: u64,
    last: u64,
    sector: u64,
) -> Result<Vec<Partition>, GptError> {
    let mut header = read_at(disk, lba * sector, 512)?;
    if !header.starts_with(b"EFI PART") {
        return Err(GptError::Absent);
    }
    let header_size = u32_at(&header, 12) as usize;
    let checksum = u32_at(&header, 16);
    if !(92..=512).contains(&header_size) || u64_at(&header, 24) != lba {
        return Err(GptError::Damaged);
    }
    header[16..20].fill(0); // the sum is made with its own field as zero
    if crc32(&header[..header_size]) != checksum {
        return Err(GptError::Damaged);
    }
    let entries_lba = u64_at(&header, 72);
    let count = u32_at(&header, 80);
    let entry_size = u32_at(&header, 84);
    // 128 entries of 128 bytes are what everybody writes; 1 MiB is far beyond.
    let length = u64::from(count) * u64::from(entry_size);
    if entries_lba > last || !(128..=4096).contains(&entry_size) || length > 1 << 20 {
        return Err(GptError::Damaged);
    }
    let entries = read_at(disk, entries_lba * sector, length as usize)?;
    if crc32(&entries) != u32_at(&header, 88) {
        return Err(GptError::Damaged);
    }
    let partitions = entries
        .chunks_exact(entry_size as usize)
        .zip(1u32..)
        .filter_map(|(entry, number)| partition(entry, number, last, sector))
        .collect();
    Ok(partitions)
}

/// `None` for an unused entry and for one that does not lie on the disk.
fn partition(entry: &[u8], number: u32, last_lba: u64, sector: u64) -> Option<Partition> {
    let kind = guid(entry, 0);
    if entry[..16].iter().all(|byte| *byte == 0) {
        return None;
    }
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    if first > last || last > last_lba {
        return None;
    }
    let units: Vec<u16> = entry[56..128]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Partition {
        number,
        kind,
        unique: guid(entry, 16),
        label: String::from_utf16_lossy(&units),
        start: first * sector,
        size: (last - first + 1) * sector,
    })
}

/// The text of a GUID: the first three groups are little-endian on disk.
fn guid(bytes: &[u8], offset: usize) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (position, index) in ORDER.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = bytes.get(offset + index).copied().unwrap_or(0);
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn read_at<D: Read + Seek>(disk: &mut D, offset: u64, length: usize) -> Result<Vec<u8>, GptError> {
    let mut bytes = vec![0; length];
    disk.seek(SeekFrom::Start(offset)).map_err(GptError::Read)?;
    disk.read_exact(&mut bytes).map_err(GptError::Read)?;
    Ok(bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..offset + 4)
        .and_then(|slice| slice.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..offset + 8)
        .and_then(|slice| slice.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const SECTORS: u64 = 2048;

    fn parse_bytes(disk: &[u8]) -> Result<Vec<Partition>, GptError> {
        parse(&mut Cursor::new(disk), disk.len() as u64, 512)
    }

    fn guid_bytes(text: &str) -> [u8; 16] {
        let hex: String = text.chars().filter(|letter| *letter != '-').collect();
        let plain: Vec<u8> = (0..16)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        std::array::from_fn(|i| plain[order[i]])
    }

    fn header(lba: u64, other: u64, entries_lba: u64, entries: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; 512];
        bytes[..8].copy_from_slice(b"EFI PART");
        bytes[8..12].copy_from_slice(&0x10000u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&92u32.to_le_bytes());
        bytes[24..32].copy_from_slice(&lba.to_le_bytes());
        bytes[32..40].copy_from_slice(&other.to_le_bytes());
        bytes[72..80].copy_from_slice(&entries_lba.to_le_bytes());
        bytes[80..84].copy_from_slice(&128u32.to_le_bytes());
        bytes[84..88].copy_from_slice(&128u32.to_le_bytes());
        bytes[88..92].copy_from_slice(&crc32(entries).to_le_bytes());
        let sum = crc32(&bytes[..92]);
        bytes[16..20].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn disk(parts: &[(&str, &str, u64, u64)]) -> Vec<u8> {
        let mut entries = vec![0u8; 128 * 128];
        for (index, (kind, label, first, last)) in parts.iter().enumerate() {
            let entry = &mut entries[index * 128..(index + 1) * 128];
            entry[..16].copy_from_slice(&guid_bytes(kind));
            entry[16..32].fill(index as u8 + 1);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            for (position, unit) in label.encode_utf16().enumerate() {
                entry[56 + 2 * position..58 + 2 * position].copy_from_slice(&unit.to_le_bytes());
            }
        }
        let mut bytes = vec![0u8; (SECTORS * 512) as usize];
        let last = SECTORS - 1;
        bytes[512..1024].copy_from_slice(&header(1, last, 2, &entries));
        bytes[1024..1024 + entries.len()].copy_from_slice(&entries);
        let backup = ((last - 32) * 512) as usize;
        bytes[backup..backup + entries.len()].copy_from_slice(&entries);
        bytes[(last * 512) as usize..].copy_from_slice(&header(last, 1, last - 32, &entries));
        bytes
    }

    #[test]
    fn types_labels_and_places_are_read() {
        let partitions = parse_bytes(&disk(&[
            (TYPE_ROOT, "root-a", 100, 199),
            (TYPE_ROOT_VERITY, "verity-a", 200, 209),
        ]))
        .unwrap();
        assert_eq!(partitions.len(), 2);
        assert_eq!(partitions[0].kind, TYPE_ROOT);
        assert_eq!(partitions[0].label, "root-a");
        assert_eq!((partitions[0].start, partitions[0].size), (51200, 51200));
        assert_eq!(partitions[1].number, 2);
        assert_eq!(partitions[1].kind, TYPE_ROOT_VERITY);
        assert_eq!(partitions[1].unique, "02020202-0202-0202-0202-020202020202");
    }

    #[test]
    fn the_backup_table_stands_in_for_a_damaged_primary_one() {
        let good = disk(&[(TYPE_ROOT, "root-a", 100, 199)]);
        for position in [512 + 60, 1024 + 40] {
            let mut bytes = good.clone();
            bytes[position] ^= 1;
            assert_eq!(parse_bytes(&bytes).unwrap()[0].label, "root-a");
        }
    }

    #[test]
    fn two_damaged_tables_and_none_are_told_apart() {
        let mut bytes = disk(&[(TYPE_ROOT, "root-a", 100, 199)]);
        bytes[512 + 60] ^= 1;
        let last = bytes.len() - 512;
        bytes[last + 60] ^= 1;
        assert!(matches!(parse_bytes(&bytes), Err(GptError::Damaged)));
        assert!(matches!(parse_bytes(&vec![0; 4096]), Err(GptError::Absent)));
        assert!(matches!(parse_bytes(&[]), Err(GptError::Absent)));
    }

    #[test]
    fn a_partition_that_is_not_on_the_disk_is_left_out() {
        assert!(
            parse_bytes(&disk(&[(TYPE_ROOT, "x", 100, SECTORS * 2)]))
                .unwrap()
                .is_empty()
        );
        assert!(
            parse_bytes(&disk(&[(TYPE_ROOT, "x", 200, 100)]))
                .unwrap()
                .is_empty()
        );
    }

    proptest::proptest! {
        #[test]
        fn no_content_makes_it_panic(changes in proptest::collection::vec((0usize..4096, proptest::num::u8::ANY), 0..40)) {
            let mut bytes = disk(&[(TYPE_ROOT, "root-a", 100, 199)]);
            for (position, value) in changes {
                bytes[512 + position] = value;
            }
            // Header sums are made right again, so that the fields behind them are reached.
            bytes[512 + 16..512 + 20].fill(0);
            let sum = crc32(&bytes[512..512 + 92]);
            bytes[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
            let _unused = parse_bytes(&bytes).is_ok();
        }
    }
}

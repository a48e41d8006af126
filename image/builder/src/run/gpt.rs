//! Reads a GUID partition table (UEFI specification 2.10, chapter 5.3) to find where the slots are. It never writes one.

/// Size of a logical block of our disks.
const BLOCK: u64 = 512;

const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
const ROOT: [u8; 16] = [
    0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09,
];
const VERITY: [u8; 16] = [
    0xed, 0x57, 0x73, 0x2c, 0xd2, 0xeb, 0xd9, 0x46, 0xae, 0xc1, 0x23, 0xd4, 0x37, 0xec, 0x2b, 0xf5,
];

/// A partition, in bytes from the disk's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub start: u64,
    pub size: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub esp: Extent,
    /// Slots a and b.
    pub slots: [Slot; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub root: Extent,
    pub verity: Extent,
}

/// Understands the first blocks of a disk (the protective MBR, the header and the entries).
pub fn parse(start: &[u8]) -> Option<Layout> {
    let header = start.get(512..1024)?;
    if header.get(..8)? != b"EFI PART" {
        return None;
    }
    let table = usize::try_from(long(header, 72)? * BLOCK).ok()?;
    let count = usize::try_from(word(header, 80)?).ok()?;
    let size = usize::try_from(word(header, 84)?).ok()?;
    let entries: Vec<&[u8]> = (0..count.min(128))
        .map_while(|index| {
            let at = table.checked_add(index.checked_mul(size)?)?;
            start.get(at..at.checked_add(size)?)
        })
        .collect();
    let of_kind = |kind: &[u8; 16]| -> Vec<Extent> {
        entries
            .iter()
            .filter(|entry| entry.get(..16) == Some(kind))
            .filter_map(|entry| extent(entry))
            .collect()
    };
    let (roots, verities) = (of_kind(&ROOT), of_kind(&VERITY));
    let slot = |index: usize| {
        Some(Slot {
            root: *roots.get(index)?,
            verity: *verities.get(index)?,
        })
    };
    Some(Layout {
        esp: *of_kind(&ESP).first()?,
        slots: [slot(0)?, slot(1)?],
    })
}

fn extent(entry: &[u8]) -> Option<Extent> {
    let (first, last) = (long(entry, 32)?, long(entry, 40)?);
    let blocks = last.checked_sub(first)?.checked_add(1)?;
    Some(Extent {
        start: first.checked_mul(BLOCK)?,
        size: blocks.checked_mul(BLOCK)?,
    })
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A table with an ESP and two slots of these sizes, in blocks.
    pub fn table(esp: u64, root: u64, verity: u64) -> Vec<u8> {
        let mut disk = vec![0; 1024 + 128 * 128];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72..512 + 80].copy_from_slice(&2_u64.to_le_bytes());
        disk[512 + 80..512 + 84].copy_from_slice(&128_u32.to_le_bytes());
        disk[512 + 84..512 + 88].copy_from_slice(&128_u32.to_le_bytes());
        let mut first = 64;
        let kinds = [
            (ESP, esp),
            (ROOT, root),
            (VERITY, verity),
            (ROOT, root),
            (VERITY, verity),
        ];
        for (index, (kind, blocks)) in kinds.into_iter().enumerate() {
            let at = 1024 + index * 128;
            disk[at..at + 16].copy_from_slice(&kind);
            disk[at + 32..at + 40].copy_from_slice(&u64::to_le_bytes(first));
            disk[at + 40..at + 48].copy_from_slice(&u64::to_le_bytes(first + blocks - 1));
            first += blocks;
        }
        disk
    }

    #[test]
    fn esp_and_slots_are_found_in_order() {
        let layout = parse(&table(8, 100, 10)).unwrap();
        assert_eq!(
            layout.esp,
            Extent {
                start: 64 * 512,
                size: 8 * 512
            }
        );
        assert_eq!(
            layout.slots[0].root,
            Extent {
                start: 72 * 512,
                size: 100 * 512
            }
        );
        assert_eq!(
            layout.slots[1].verity,
            Extent {
                start: (72 + 210) * 512,
                size: 10 * 512
            }
        );
    }

    #[test]
    fn anything_else_is_no_table() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0; 40_000]), None);
        let mut cut = table(8, 100, 10);
        cut.truncate(1024 + 2 * 128);
        assert_eq!(parse(&cut), None);
    }
}

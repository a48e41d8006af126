//! Where in a PE file the bytes lie that a signature is about, and where its signatures are: Microsoft's "PE Format", Appendix A. Reads no file
//! and hashes nothing: whoever does is told which ranges, in which order.
//!
//! What firmware might read in two ways is refused; what sbsign and systemd's tools make is taken.

use std::ops::Range;

/// The headers of an image lie in so much of its beginning.
pub const HEAD: usize = 64 << 10;
/// All signatures of an image together.
pub const TABLE: u64 = 256 << 10;
/// So many signatures are looked at.
const SIGNATURES: usize = 16;

const SECTION: usize = 40;
/// WIN_CERTIFICATE: length, revision, type.
const ENTRY: usize = 8;
const PKCS_SIGNED_DATA: u16 = 2;

#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// What is hashed, in this order: all but the checksum, where the signatures are, and the signatures.
    pub hashed: Vec<Range<u64>>,
    /// The table of signatures; empty if there are none.
    pub signatures: Range<u64>,
}

impl Layout {
    /// Of an image of `length` bytes that begins with `head` (all of it, or [`HEAD`] bytes).
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(head: &[u8], length: u64) -> Result<Self, &'static str> {
        const NOT: &str = "it is not an EFI program";
        const SIZES: &str = "the sizes in its headers do not fit together";
        let short = |at: usize| {
            let bytes = head.get(at..)?.first_chunk::<2>()?;
            Some(u16::from_le_bytes(*bytes))
        };
        let number = |at: usize| {
            let bytes = head.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let pe = number(0x3c)
            .filter(|_| head.starts_with(b"MZ"))
            .ok_or(NOT)? as usize;
        if number(pe) != Some(u32::from_le_bytes(*b"PE\0\0")) {
            return Err(NOT);
        }
        let optional = pe + 24;
        let directories = match short(optional) {
            Some(0x10b) => optional + 96,
            Some(0x20b) => optional + 112,
            _ => return Err(NOT),
        };
        let checksum = optional + 64;
        let headers = number(optional + 60).ok_or(NOT)? as usize;
        let directory = directories + 4 * 8;
        let table = optional + usize::from(short(pe + 20).ok_or(NOT)?);
        let count = usize::from(short(pe + 6).ok_or(NOT)?);
        let signed = number(directories - 4).ok_or(NOT)? > 4;
        let end = table + count * SECTION;
        if headers > head.len() || end > headers || directory + 8 > table {
            return Err(SIZES);
        }

        let before = 0..checksum as u64;
        let behind = checksum as u64 + 4;
        let (mut hashed, signatures) = if signed {
            let from = u64::from(number(directory).ok_or(SIZES)?);
            let bytes = u64::from(number(directory + 4).ok_or(SIZES)?);
            let between = behind..directory as u64;
            let hashed = vec![before, between, directory as u64 + 8..headers as u64];
            (hashed, from..from + bytes)
        } else {
            (vec![before, behind..headers as u64], 0..0)
        };
        let mut sections = Vec::new();
        for section in 0..count {
            let at = table + section * SECTION;
            let bytes = u64::from(number(at + 16).ok_or(SIZES)?);
            let from = u64::from(number(at + 20).ok_or(SIZES)?);
            if from + bytes > length {
                return Err(SIZES);
            }
            if bytes > 0 {
                sections.push(from..from + bytes);
            }
        }
        sections.sort_by_key(|section| section.start);
        // What stands behind: the specification counts how much was hashed and does not ask where it was.
        let counted = headers as u64 + sections.iter().map(|one| one.end - one.start).sum::<u64>();
        hashed.extend(sections);
        let rest = if signatures.is_empty() {
            length
        } else if signatures.end == length && signatures.end - signatures.start <= TABLE {
            signatures.start
        } else {
            return Err("its signatures do not stand at its end, or are too large");
        };
        if counted > rest {
            return Err(SIZES);
        }
        hashed.push(counted..rest);
        hashed.retain(|range| !range.is_empty());
        let signatures = if signatures.is_empty() {
            0..0
        } else {
            signatures
        };
        Ok(Self { hashed, signatures })
    }
}

/// The signatures in the table, DER with perhaps some zeros behind each.
///
/// # Errors
/// The table makes no sense.
pub fn signatures(mut table: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    const BROKEN: &str = "its table of signatures is broken";
    let mut found = Vec::new();
    while !table.is_empty() {
        let (entry, _) = table.split_at_checked(ENTRY).ok_or(BROKEN)?;
        let length = entry.first_chunk::<4>().copied().unwrap_or_default();
        let length = u32::from_le_bytes(length) as usize;
        let kind = u16::from_le_bytes([entry[6], entry[7]]);
        let content = table.get(ENTRY..length).ok_or(BROKEN)?;
        if kind == PKCS_SIGNED_DATA {
            found.push(content);
        }
        if found.len() > SIGNATURES {
            return Err("it has too many signatures");
        }
        // Entries stand at multiples of eight; behind the last one that may be left out.
        table = table.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: u32 = 0x400;

    /// PE32+ with these sections, and signatures from there on.
    fn head(sections: &[(u32, u32)], signatures: (u32, u32)) -> Vec<u8> {
        let mut head = vec![0; HEADERS as usize];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &0x40_u32.to_le_bytes());
        put(0x40, b"PE\0\0\x64\x86");
        put(0x46, &(sections.len() as u16).to_le_bytes());
        put(0x54, &0xf0_u16.to_le_bytes());
        put(0x58, &0x20b_u16.to_le_bytes());
        put(0x58 + 60, &HEADERS.to_le_bytes());
        put(0x58 + 108, &16_u32.to_le_bytes());
        put(0x58 + 144, &signatures.0.to_le_bytes());
        put(0x58 + 148, &signatures.1.to_le_bytes());
        for (index, (from, bytes)) in sections.iter().enumerate() {
            let at = 0x58 + 0xf0 + index * SECTION;
            put(at + 16, &bytes.to_le_bytes());
            put(at + 20, &from.to_le_bytes());
        }
        head
    }

    #[test]
    fn sections_count_in_the_order_of_their_places() {
        let head = head(&[(0xa00, 0x200), (0x400, 0x600), (0x99, 0)], (0xd00, 0x80));
        let layout = Layout::parse(&head, 0xd80).unwrap();
        let headers = [0..0x98, 0x9c..0xe8, 0xf0..0x400];
        let rest = [0x400..0xa00, 0xa00..0xc00, 0xc00..0xd00];
        assert_eq!(layout.hashed, [&headers[..], &rest].concat());
        assert_eq!(layout.signatures, 0xd00..0xd80);
    }

    #[test]
    fn an_image_without_signatures_is_hashed_to_its_end() {
        let mut head = head(&[(0x400, 0x200)], (0, 0));
        let layout = Layout::parse(&head, 0x700).unwrap();
        assert_eq!(layout.hashed.last(), Some(&(0x600..0x700)));
        assert!(layout.signatures.is_empty());
        // Without a place for them there is nothing to leave out either.
        head[0x58 + 108] = 4;
        let layout = Layout::parse(&head, 0x700).unwrap();
        assert_eq!(layout.hashed[1], 0x9c..0x400);
    }

    #[test]
    fn what_lies_outside_or_twice_is_refused() {
        let refused = |sections: &[(u32, u32)], signatures, length| {
            assert!(Layout::parse(&head(sections, signatures), length).is_err());
        };
        refused(&[(0x400, 0x201)], (0, 0), 0x600);
        refused(&[(u32::MAX, u32::MAX)], (0, 0), 0x600);
        refused(&[(0x400, 0x200), (0x400, 0x200)], (0, 0), 0x600);
        refused(&[(0x400, 0x200)], (0x5f0, 0x10), 0x600);
        refused(&[(0x400, 0x200)], (0x600, 0x10), 0x620);
        refused(&[(0x400, 0x200)], (0x600, u32::MAX), 0x620);
        refused(&[], (0x600, TABLE as u32 + 8), 0x600 + TABLE + 8);
        let good = head(&[], (0, 0));
        assert!(Layout::parse(&good, 0x400).is_ok());
        for length in 0..good.len() {
            assert!(Layout::parse(&good[..length], length as u64).is_err());
        }
        for (at, value) in [
            (0x3c, 0xff),
            (0x47, 0xff),
            (0x54, 0x80),
            (0x55, 0xff),
            (0x58, 0),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(Layout::parse(&bad, 0x400).is_err(), "{at}");
        }
    }

    fn entry(length: u32, kind: u16, content: &[u8]) -> Vec<u8> {
        let mut entry = length.to_le_bytes().to_vec();
        entry.extend([0, 2]);
        entry.extend(kind.to_le_bytes());
        entry.extend(content);
        entry
    }

    #[test]
    fn each_signature_of_the_table_is_found() {
        let table = [
            entry(13, 2, b"first\0\0\0"),
            entry(12, 0x0ef1, b"else\0\0\0\0"),
            entry(13, 2, b"third"),
        ]
        .concat();
        assert_eq!(signatures(&table).unwrap(), [b"first", b"third"]);
        for bad in [
            &[0; 8][..],
            &[1; 3],
            &entry(7, 2, b"x"),
            &entry(17, 2, b"x"),
        ] {
            assert!(signatures(bad).is_err(), "{bad:?}");
        }
        assert!(signatures(&entry(16, 2, &[0; 8]).repeat(SIGNATURES + 1)).is_err());
    }
}

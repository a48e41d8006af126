//! The root hash that a unified kernel image gives its kernel: by it one knows to which slot an entry belongs, whatever it is called. The image is
//! not trusted: no number in it is believed, and nothing here can panic on any content.

use std::fs::File;
use std::os::unix::fs::FileExt;

use atalaya_init::stage1::cmdline;

/// PE format: the DOS header's pointer to the real one.
const POINTER: usize = 0x3c;
/// Signature and COFF header.
const COFF: usize = 24;
const SECTION: usize = 40;
/// Headers of all that we build are in the first page or two.
const HEADERS: usize = 64 * 1024;
const LINE: usize = 64 * 1024;

/// None if it is no such image or names none.
pub fn root_hash(file: &File) -> Option<String> {
    let mut headers = vec![0; HEADERS];
    let length = read(file, &mut headers, 0)?;
    let (offset, size) = section(headers.get(..length)?, b".cmdline")?;
    let mut line = vec![0; size.min(LINE)];
    let length = read(file, &mut line, offset)?;
    let line = String::from_utf8_lossy(line.get(..length)?);
    let hash = cmdline::parse_root_hash(line.trim_end_matches('\0')).ok()?;
    Some(hash.as_str().to_owned())
}

/// Where the first section of that name lies in the file, and how many bytes it has.
fn section(headers: &[u8], name: &[u8]) -> Option<(u64, usize)> {
    let coff = usize::try_from(number(headers, POINTER, 4)?).ok()?;
    if headers.get(coff..coff.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let sections = usize::try_from(number(headers, coff + 6, 2)?).ok()?;
    let optional = usize::try_from(number(headers, coff + 20, 2)?).ok()?;
    let table = headers.get(coff + COFF + optional..)?;
    let mut rows = table.chunks_exact(SECTION).take(sections);
    let row = rows.find(|row| {
        let (found, rest) = row[..8].split_at(name.len().min(8));
        found == name && rest.iter().all(|byte| *byte == 0)
    })?;
    // What is in memory, or in the file if that is less.
    let size = number(row, 8, 4)?.min(number(row, 16, 4)?);
    Some((number(row, 20, 4)?, usize::try_from(size).ok()?))
}

fn number(bytes: &[u8], offset: usize, length: usize) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(length)?)?;
    let little_end_last = field.iter().rev();
    Some(little_end_last.fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

/// As much as is there.
fn read(file: &File, bytes: &mut [u8], offset: u64) -> Option<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], offset.checked_add(length as u64)?) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(_) => return None,
        }
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// Two sections, the second of them the command line.
    pub fn image(line: &str) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[POINTER] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x86] = 2;
        bytes[0x80 + 20] = 240;
        let table = 0x80 + COFF + 240;
        bytes[table..table + 6].copy_from_slice(b".osrel");
        let row = table + SECTION;
        bytes[row..row + 8].copy_from_slice(b".cmdline");
        let size = u32::try_from(line.len()).unwrap();
        bytes[row + 8..row + 12].copy_from_slice(&size.to_le_bytes());
        bytes[row + 16..row + 20].copy_from_slice(&512u32.to_le_bytes());
        bytes[row + 20..row + 24].copy_from_slice(&1024u32.to_le_bytes());
        bytes.extend(line.as_bytes());
        bytes.resize(1536, 0);
        bytes
    }

    fn root_hash_of(bytes: &[u8]) -> Option<String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        root_hash(&file)
    }

    #[test]
    fn the_first_root_hash_of_the_command_line() {
        let (mine, other) = ("a".repeat(64), "b".repeat(64));
        let line = format!("gpt roothash={mine} panic=10 roothash={other}");
        assert_eq!(root_hash_of(&image(&line)), Some(mine));
        assert_eq!(root_hash_of(&image("gpt")), None);
        assert_eq!(root_hash_of(b""), None);
        assert_eq!(root_hash_of(b"MZ"), None);
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic(changes in prop::collection::vec((0usize..1536, any::<u8>()), 0..40)) {
            let mut bytes = image(&format!("roothash={}", "a".repeat(64)));
            for (position, value) in changes {
                bytes[position] = value;
            }
            drop(root_hash_of(&bytes));
        }
    }
}

//! Disks of machines under test: sparse copies of an image, and where its partitions lie.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

const SECTOR: u64 = 512;

/// Makes a sparse copy of `image`, grown to `size` bytes.
pub fn copy_grown(image: &Path, copy: &Path, size: u64) -> anyhow::Result<()> {
    // cp finds the holes (SEEK_HOLE) and clones where the file system can.
    let status = Command::new("cp")
        .args(["--sparse=always", "--reflink=auto", "--"])
        .args([image, copy])
        .status()
        .context("failed to run cp")?;
    ensure!(
        status.success(),
        "failed to copy {} to {}",
        image.display(),
        copy.display()
    );
    let file = OpenOptions::new()
        .write(true)
        .open(copy)
        .context("failed to open the copy")?;
    let now = file.metadata()?.len();
    ensure!(
        now <= size,
        "the image has {now} bytes, more than the {size} of the disk"
    );
    file.set_len(size)
        .with_context(|| format!("failed to grow {}", copy.display()))
}

/// A partition of a disk image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name in the table.
    pub name: String,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Reads the GUID partition table (UEFI specification 2.10, 5.3).
pub fn partitions(disk: &Path) -> anyhow::Result<Vec<Partition>> {
    let file = File::open(disk).with_context(|| format!("failed to open {}", disk.display()))?;
    let mut header = [0; 92];
    file.read_exact_at(&mut header, SECTOR)?;
    ensure!(
        header.starts_with(b"EFI PART"),
        "{} has no partition table",
        disk.display()
    );
    let table = number(&header[72..80]) * SECTOR;
    let (count, size) = (number(&header[80..84]), number(&header[84..88]));
    ensure!(
        count <= 1024 && (128..=4096).contains(&size),
        "the partition table is damaged"
    );
    let mut list = Vec::new();
    for index in 0..count {
        let mut entry = [0; 128];
        file.read_exact_at(&mut entry, table + index * size)?;
        if entry[..16].iter().any(|&byte| byte != 0) {
            let (first, last) = (number(&entry[32..40]), number(&entry[40..48]));
            let name = entry[56..]
                .chunks(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            let name = char::decode_utf16(name.take_while(|&unit| unit != 0))
                .map(|c| c.unwrap_or('?'))
                .collect();
            list.push(Partition {
                name,
                start: first * SECTOR,
                length: (last + 1 - first) * SECTOR,
            });
        }
    }
    Ok(list)
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Changes one byte of a file and says what it was.
pub fn flip_byte(path: &Path, offset: u64) -> anyhow::Result<u8> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&[!byte[0]], offset)?;
    file.sync_all()?;
    Ok(byte[0])
}

/// What `dump.erofs --path=FILE -e` says about where a file's data lie: physical offset and length of each extent.
pub fn parse_extents(output: &str) -> anyhow::Result<Vec<(u64, u64)>> {
    let mut extents = Vec::new();
    for line in output.lines() {
        // " Ext:   logical offset   |  length :     physical offset    |  length" then
        // "   0:        0..  131072 |  131072 :     909312..    933888 |   24576"
        let Some((logical, physical)) = line
            .split_once('|')
            .and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        let Some((from, to)) = physical
            .split_once('|')
            .and_then(|(range, _)| range.split_once(".."))
        else {
            continue;
        };
        if let (Ok(_), Ok(from), Ok(to)) = (
            logical.trim().parse::<u64>(),
            from.trim().parse::<u64>(),
            to.trim().parse::<u64>(),
        ) {
            extents.push((from, to - from));
        }
    }
    if extents.is_empty() {
        bail!("no extent in what dump.erofs said:\n{output}");
    }
    Ok(extents)
}

/// Every path below `directory`, itself not included; symbolic links are not followed.
pub fn walk(directory: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(directory) = ahead.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("failed to list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                ahead.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut header = [0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[72..80].copy_from_slice(&2_u64.to_le_bytes());
        header[80..84].copy_from_slice(&4_u32.to_le_bytes());
        header[84..88].copy_from_slice(&128_u32.to_le_bytes());
        let mut entry = [0; 128];
        entry[0] = 1;
        entry[32..40].copy_from_slice(&2048_u64.to_le_bytes());
        entry[40..48].copy_from_slice(&4095_u64.to_le_bytes());
        for (slot, unit) in entry[56..].chunks_mut(2).zip("root-a".encode_utf16()) {
            slot.copy_from_slice(&unit.to_le_bytes());
        }
        file.as_file().set_len(1 << 20).unwrap();
        file.as_file().write_all_at(&header, 512).unwrap();
        file.as_file().write_all_at(&entry, 1024 + 128).unwrap();
        let partition = Partition {
            name: "root-a".to_owned(),
            start: 1 << 20,
            length: 1 << 20,
        };
        assert_eq!(partitions(file.path()).unwrap(), [partition]);
    }

    #[test]
    fn extents_are_read() {
        let output = "\n Ext:   logical offset   |  length :     physical offset    |  length\n   0:        0..  131072 |  131072 :     909312..    933888 |   24576\n";
        assert_eq!(parse_extents(output).unwrap(), [(909_312, 24576)]);
        assert!(parse_extents("erofs: cannot open").is_err());
    }

    #[test]
    fn a_copy_is_grown_and_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let (image, copy) = (dir.path().join("image"), dir.path().join("copy"));
        File::create(&image).unwrap().write_all_at(b"x", 0).unwrap();
        copy_grown(&image, &copy, 1 << 30).unwrap();
        let about = fs::metadata(&copy).unwrap();
        assert_eq!(about.len(), 1 << 30);
        assert!(std::os::unix::fs::MetadataExt::blocks(&about) * 512 < 1 << 20);
    }
}

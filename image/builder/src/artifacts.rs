//! Takes the parts out of what mkosi made and puts them into place under their final names: disk, root, verity, UKI.
//! Refuses a UKI that would stand in the way of its successors.

use crate::digest;
use crate::error::{Error, IoContext, Result};
use atalaya_bundle::verity::{BLOCK, Tree};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A file of the output folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub name: String,
    pub size: u64,
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    /// A whole disk: ESP, slot a filled, slot b empty.
    pub disk: Artifact,
    /// The root file system, cut to what verity covers.
    pub root: Artifact,
    /// The hash tree with its superblock, cut to its own length.
    pub verity: Artifact,
    pub uki: Artifact,
    pub root_hash: String,
}

/// Links with stable names beside the files, whose names carry the version.
pub const DISK_LINK: &str = "atalaya.raw";
/// The boot loader's own file beside them.
pub const LOADER: &str = "systemd-bootx64.efi";

/// Moves mkosi's results from `from` to `to` (a fresh folder).
pub fn collect(from: &Path, to: &Path, version: &str) -> Result<Artifacts> {
    fs::create_dir_all(to).during("create folder", to)?;
    let stem = format!("atalaya-{version}");
    let part = |suffix: &str, name: String| -> Result<PathBuf> {
        let source = from.join(format!("atalaya.{suffix}"));
        let target = to.join(name);
        fs::rename(&source, &target).during("take", &source)?;
        Ok(target)
    };
    let disk = part("raw", format!("{stem}.raw"))?;
    let root = part("root.raw", format!("{stem}.root"))?;
    let verity = part("verity.raw", format!("{stem}.verity"))?;
    let uki = part("efi", format!("{stem}.efi"))?;
    for (file, link) in [
        (&disk, DISK_LINK),
        (&root, "atalaya.root"),
        (&verity, "atalaya.verity"),
        (&uki, "atalaya.efi"),
    ] {
        let name = file.file_name().unwrap_or_default();
        let link = to.join(link);
        symlink(name, &link).during("create link", &link)?;
    }
    let data_size = verity_data_size(&read_start(&verity)?).ok_or_else(|| Error::Image {
        problem: "its verity partition has no superblock".to_owned(),
    })?;
    let tree_size = Tree::area_bytes(data_size / BLOCK as u64);
    for (file, size) in [(&root, data_size), (&verity, tree_size)] {
        OpenOptions::new()
            .write(true)
            .open(file)
            .and_then(|file| file.set_len(size))
            .during("cut", file)?;
    }
    let bytes = fs::read(&uki).during("read", &uki)?;
    let root_hash = root_hash_of(&bytes).ok_or_else(|| Error::Image {
        problem: "its UKI has no roothash= on the command line".to_owned(),
    })?;
    check_order(&bytes).map_err(|problem| Error::Image { problem })?;
    Ok(Artifacts {
        disk: describe(&disk)?,
        root: describe(&root)?,
        verity: describe(&verity)?,
        uki: describe(&uki)?,
        root_hash,
    })
}

/// Whether a file is still what the manifest says.
pub fn check(folder: &Path, file: &Artifact) -> Result<()> {
    let path = folder.join(&file.name);
    let found = digest::of_file(&path)?;
    if found == file.sha256 {
        return Ok(());
    }
    Err(Error::Damaged {
        path,
        expected: file.sha256.clone(),
        found,
    })
}

fn describe(path: &Path) -> Result<Artifact> {
    Ok(Artifact {
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        size: fs::metadata(path).during("look at", path)?.len(),
        sha256: digest::of_file(path)?,
    })
}

fn read_start(path: &Path) -> Result<Vec<u8>> {
    let mut start = vec![0; 512];
    let mut file = File::open(path).during("open", path)?;
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_exact(&mut start))
        .during("read", path)?;
    Ok(start)
}

/// Bytes of data that a verity superblock covers (cryptsetup's lib/verity/verity.c: signature, version, hash type, uuid,
/// algorithm[32], data block size, hash block size, data blocks).
pub fn verity_data_size(block: &[u8]) -> Option<u64> {
    if block.get(..8)? != b"verity\0\0" {
        return None;
    }
    let block_size = u32::from_le_bytes(block.get(64..68)?.try_into().ok()?);
    let blocks = u64::from_le_bytes(block.get(72..80)?.try_into().ok()?);
    blocks.checked_mul(u64::from(block_size))
}

/// Keys by which the boot loader would order entries before it looks at their numbers: an older version could then never
/// be gone back to.
const ORDERING: [&str; 4] = ["IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID"];

fn check_order(uki: &[u8]) -> std::result::Result<(), String> {
    let text = section(uki, b".osrel").ok_or("its UKI has no os-release")?;
    let text = String::from_utf8_lossy(text);
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_end_matches('\0').trim_matches('"'))
    };
    if let Some(key) = ORDERING.iter().find(|key| value(key).is_some()) {
        return Err(format!("its UKI's os-release has {key}="));
    }
    if let Some(key) = ["ID", "IMAGE_ID"]
        .iter()
        .find(|key| value(key) != Some("atalaya"))
    {
        return Err(format!("its UKI's os-release has another {key}="));
    }
    Ok(())
}

/// The first `roothash=` on a UKI's command line.
pub fn root_hash_of(uki: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(section(uki, b".cmdline")?);
    let hash = line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("roothash="))?
        .trim_end_matches('\0');
    (hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| hash.to_owned())
}

/// A section of a PE file ("PE Format", section table: name[8], virtual size, address, raw size, raw offset, ...).
fn section<'a>(file: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(size)?)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
        )
    };
    let header = number(0x3c, 4)?;
    if file.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let count = number(header + 6, 2)?;
    let table = header + 24 + number(header + 20, 2)?;
    (0..count).map(|index| table + index * 40).find_map(|at| {
        let field = file.get(at..at + 8)?;
        if field.split(|byte| *byte == 0).next()? != name {
            return None;
        }
        let size = number(at + 8, 4)?.min(number(at + 16, 4)?);
        let offset = number(at + 20, 4)?;
        file.get(offset..offset.checked_add(size)?)
    })
}

/// Puts a complete folder into the place of the old one.
pub fn put_into_place(from: &Path, place: &Path) -> Result<()> {
    let aside = place.with_file_name(format!(
        "{}.old",
        place.file_name().unwrap_or_default().to_string_lossy()
    ));
    if aside.exists() {
        fs::remove_dir_all(&aside).during("remove", &aside)?;
    }
    if place.exists() {
        fs::rename(place, &aside).during("move aside", place)?;
    }
    fs::rename(from, place).during("rename into place", place)?;
    if aside.exists() {
        fs::remove_dir_all(&aside).during("remove", &aside)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verity_superblock_tells_the_size_of_the_data() {
        let mut block = vec![0; 512];
        block[..8].copy_from_slice(b"verity\0\0");
        block[64..68].copy_from_slice(&4096_u32.to_le_bytes());
        block[72..80].copy_from_slice(&100_u64.to_le_bytes());
        assert_eq!(verity_data_size(&block), Some(409_600));
        assert_eq!(verity_data_size(&[0; 512]), None);
        assert_eq!(verity_data_size(b"verity\0\0"), None);
    }

    #[test]
    fn entries_are_ordered_by_their_numbers_only() {
        let good = "NAME=Atalaya\nID=atalaya\nID_LIKE=debian\nIMAGE_ID=\"atalaya\"";
        assert_eq!(check_order(&pe_with(b".osrel", good)), Ok(()));
        for key in ORDERING {
            let text = format!("{good}\n{key}=1\n");
            assert!(check_order(&pe_with(b".osrel", &text)).is_err(), "{key}");
        }
        assert!(check_order(&pe_with(b".osrel", "ID=atalaya\n")).is_err());
        assert!(check_order(&pe("roothash=")).is_err());
    }

    fn pe(line: &str) -> Vec<u8> {
        pe_with(b".cmdline", line)
    }

    fn pe_with(name: &[u8], line: &str) -> Vec<u8> {
        let mut file = vec![0; 0x40 + 24 + 40];
        file[0x3c] = 0x40;
        file[0x40..0x44].copy_from_slice(b"PE\0\0");
        file[0x46] = 1;
        let at = 0x40 + 24;
        file[at..at + name.len()].copy_from_slice(name);
        let size = u32::try_from(line.len()).unwrap().to_le_bytes();
        file[at + 8..at + 12].copy_from_slice(&size);
        file[at + 16..at + 20].copy_from_slice(&size);
        let offset = u32::try_from(file.len()).unwrap().to_le_bytes();
        file[at + 20..at + 24].copy_from_slice(&offset);
        file.extend(line.bytes());
        file
    }

    #[test]
    fn the_first_root_hash_on_the_command_line_counts() {
        let (first, second) = ("ab".repeat(32), "cd".repeat(32));
        let line = format!("quiet roothash={first} roothash={second}");
        assert_eq!(root_hash_of(&pe(&line)), Some(first));
        assert_eq!(root_hash_of(&pe("roothash=abcd")), None);
        assert_eq!(root_hash_of(b"MZ"), None);
    }

    #[test]
    fn the_new_folder_replaces_the_old_one() {
        let work = tempfile::tempdir().unwrap();
        let (new, place) = (work.path().join("new"), work.path().join("place"));
        fs::create_dir_all(new.join("a")).unwrap();
        fs::create_dir_all(place.join("b")).unwrap();
        put_into_place(&new, &place).unwrap();
        assert!(place.join("a").exists() && !place.join("b").exists());
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 1);
    }
}

//! What one has to know of a FAT file system to change it safely: FAT has no inodes, so whether two names have one content is seen only by where it
//! begins on the disk; and its changes are on the disk only when both the file system and the directory were synced.

use crate::{Context, Result};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statfs::{FsType, fstatfs};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// linux/magic.h.
const MSDOS_SUPER_MAGIC: FsType = FsType(0x4d44);

// FIBMAP of linux/fs.h: the number of a block within the file becomes that on the disk.
nix::ioctl_readwrite_bad!(fibmap, 1, libc::c_int);

/// A number that two files share if and only if they are names of one content, 0 for a file without content: the first block on FAT (which needs
/// CAP_SYS_RAWIO), the inode elsewhere.
pub fn content_start(file: &File, path: &Path) -> Result<u64> {
    let name = path.display();
    let metadata = file.metadata().context("read the metadata of", &name)?;
    let kind = fstatfs(file)
        .context("ask for the file system of", &name)?
        .filesystem_type();
    if kind != MSDOS_SUPER_MAGIC {
        return Ok(if metadata.len() == 0 {
            0
        } else {
            metadata.ino()
        });
    }
    let mut block: libc::c_int = 0;
    // SAFETY: the descriptor is open for the whole call, and the kernel reads and writes exactly one int at the address.
    unsafe { fibmap(file.as_raw_fd(), &raw mut block) }
        .context("ask for the first block of", &name)?;
    Ok(u64::from(block.unsigned_abs()))
}

/// Renames; that `to` is there already is an error.
pub fn rename_new(from: &Path, to: &Path) -> Result<()> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE).context(
        "rename",
        format_args!("{} to {}", from.display(), to.display()),
    )
}

/// Puts all changes of the file system on the disk. The directory comes last: FAT's own sync writes, but does not make the disk empty its cache, and
/// that of a file or directory does.
pub fn sync(directory: &Path) -> Result<()> {
    let handle = File::open(directory).context("open", directory.display())?;
    nix::unistd::syncfs(&handle).context("sync the file system of", directory.display())?;
    handle
        .sync_all()
        .context("sync directory", directory.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_content_have_one_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, bytes) in [
            ("one", b"same".as_slice()),
            ("two", b"same"),
            ("empty", b""),
        ] {
            crate::durable::write(&path(name), bytes, 0o600, None).unwrap();
        }
        std::fs::hard_link(path("one"), path("other")).unwrap();
        let start =
            |name: &str| content_start(&File::open(path(name)).unwrap(), &path(name)).unwrap();
        assert_eq!(start("one"), start("other"));
        assert_ne!(start("one"), start("two"));
        assert_eq!(start("empty"), 0);
    }

    #[test]
    fn a_rename_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        crate::durable::write(&one, b"1", 0o600, None).unwrap();
        crate::durable::write(&two, b"2", 0o600, None).unwrap();
        assert_eq!(rename_new(&one, &two).unwrap_err().errno(), libc::EEXIST);
        std::fs::remove_file(&two).unwrap();
        rename_new(&one, &two).unwrap();
        sync(folder.path()).unwrap();
        assert_eq!(std::fs::read(&two).unwrap(), b"1");
    }
}

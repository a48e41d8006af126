//! What XFS is told by ioctl: project ids, their limits, copy-on-write extent size, growing.

use crate::error::check;
use crate::{Context, Result};
use std::ffi::CString;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

nix::ioctl_read!(fs_ioc_fsgetxattr, b'X', 31, Attributes);
nix::ioctl_write_ptr!(fs_ioc_fssetxattr, b'X', 32, Attributes);

const FLAG_PROJECT_INHERIT: u32 = 0x200;
const FLAG_EXTENT_SIZE: u32 = 0x800;
const FLAG_EXTENT_SIZE_INHERIT: u32 = 0x1000;
const FLAG_COW_EXTENT_SIZE: u32 = 0x10000;
/// What [`copy_attributes`] carries over; the others are about a file's own protection.
const COPIED: u32 =
    FLAG_PROJECT_INHERIT | FLAG_EXTENT_SIZE | FLAG_EXTENT_SIZE_INHERIT | FLAG_COW_EXTENT_SIZE;

/// `struct fs_disk_quota` of linux/dqblk_xfs.h; sizes in 512-byte units.
#[repr(C)]
#[derive(Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    field_mask: u16,
    id: u32,
    block_hard_limit: u64,
    block_soft_limit: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    block_count: u64,
    inode_count: u64,
    inode_timer: i32,
    block_timer: i32,
    inode_warnings: u16,
    block_warnings: u16,
    inode_timer_high: i8,
    block_timer_high: i8,
    realtime_timer_high: i8,
    padding2: i8,
    realtime_hard_limit: u64,
    realtime_soft_limit: u64,
    realtime_count: u64,
    realtime_timer: i32,
    realtime_warnings: u16,
    padding3: i16,
    padding4: [u8; 8],
}

const Q_XSETQLIM: i32 = 0x5800 + 4;
const PROJECT_QUOTA: i32 = 2;
const FIELD_BLOCK_SOFT: u16 = 1 << 2;
const FIELD_BLOCK_HARD: u16 = 1 << 3;

/// Gives everything that will be made below `directory` the project id `project`.
pub fn set_project(directory: &Path, project: u32) -> Result<()> {
    change(directory, |attributes| {
        attributes.project = project;
        attributes.flags |= FLAG_PROJECT_INHERIT;
    })
}

/// New files below `directory` copy shared extents in pieces of `bytes` (a multiple of the block size): small writes
/// into a reflinked file then stay small.
pub fn set_cow_extent_size(directory: &Path, bytes: u32) -> Result<()> {
    change(directory, |attributes| {
        attributes.cow_extent_size = bytes;
        attributes.flags |= FLAG_COW_EXTENT_SIZE;
    })
}

/// The (project id, copy-on-write extent size) of a file or directory.
pub fn attributes(path: &Path) -> Result<(u32, u32)> {
    let file = File::open(path).context("open", path.display())?;
    let read = read(&file, path.display())?;
    Ok((read.project, read.cow_extent_size))
}

/// Gives `target`, which is still empty, the project id and the extent sizes of `source`; what will be made in a directory inherits them.
/// Nothing, where the file system has no such attributes. `name` is told in an error.
pub fn copy_attributes(source: &File, target: &File, name: impl Display + Copy) -> Result<()> {
    let wanted = match read(source, name) {
        Err(error) if [libc::ENOTTY, libc::EOPNOTSUPP].contains(&error.errno()) => return Ok(()),
        other => other?,
    };
    let there = read(target, name)?;
    let carried = Attributes {
        flags: (there.flags & !COPIED) | (wanted.flags & COPIED),
        extent_size: wanted.extent_size,
        project: wanted.project,
        cow_extent_size: wanted.cow_extent_size,
        ..there
    };
    if carried == there {
        return Ok(());
    }
    write(target, &carried, name)
}

/// Limits the project on the XFS of block device `device`, mounted with `prjquota`; `bytes` is hard.
pub fn limit_project(device: &Path, project: u32, bytes: u64) -> Result<()> {
    let name = CString::new(device.as_os_str().as_encoded_bytes())
        .map_err(io::Error::from)
        .context("use the device name", device.display())?;
    let mut quota = DiskQuota {
        version: 1,
        flags: 2, // FS_PROJ_QUOTA
        field_mask: FIELD_BLOCK_SOFT | FIELD_BLOCK_HARD,
        id: project,
        block_hard_limit: bytes / 512,
        block_soft_limit: bytes / 512,
        ..DiskQuota::default()
    };
    let command = (Q_XSETQLIM << 8) | PROJECT_QUOTA;
    // SAFETY: the name is a C string, and the kernel reads one fs_disk_quota (112 bytes, checked by a test) from `quota`.
    let result = unsafe {
        libc::quotactl(
            command,
            name.as_ptr(),
            project.cast_signed(),
            (&raw mut quota).cast(),
        )
    };
    check(result.into()).context("limit a project's space on", device.display())?;
    Ok(())
}

/// `struct xfs_growfs_data` of fs/xfs/libxfs/xfs_fs.h.
#[repr(C)]
pub struct GrowData {
    new_blocks: u64,
    inode_percent: u32,
}

nix::ioctl_write_ptr!(xfs_ioc_fsgrowfsdata, b'X', 110, GrowData);

/// Lets the XFS mounted at `mount_point` grow to `blocks` of its own block size; `inode_percent` stays as it was.
pub fn grow(mount_point: &Path, blocks: u64, inode_percent: u32) -> Result<()> {
    let file = File::open(mount_point).context("open", mount_point.display())?;
    let data = GrowData {
        new_blocks: blocks,
        inode_percent,
    };
    // SAFETY: the kernel reads one xfs_growfs_data, which lives here.
    unsafe { xfs_ioc_fsgrowfsdata(file.as_raw_fd(), &raw const data) }
        .context("grow", mount_point.display())?;
    Ok(())
}

fn read(file: &File, name: impl Display) -> Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one fsxattr, which lives here.
    unsafe { fs_ioc_fsgetxattr(file.as_raw_fd(), &raw mut attributes) }
        .context("read the attributes of", name)?;
    Ok(attributes)
}

fn write(file: &File, attributes: &Attributes, name: impl Display) -> Result<()> {
    // SAFETY: the kernel reads one fsxattr, which lives as long as the reference.
    unsafe { fs_ioc_fssetxattr(file.as_raw_fd(), &raw const *attributes) }
        .context("change the attributes of", name)?;
    Ok(())
}

fn change(path: &Path, edit: impl FnOnce(&mut Attributes)) -> Result<()> {
    let file = File::open(path).context("open", path.display())?;
    let mut attributes = read(&file, path.display())?;
    edit(&mut attributes);
    write(&file, &attributes, path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Attributes>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<GrowData>(), 16);
    }
}

//! Mounting, with errors that name the place.

use crate::error::check;
use crate::{Context, Error, Result};
use nix::mount::{MntFlags, MsFlags};
use std::ffi::CString;
use std::path::Path;

pub use nix::mount::MsFlags as Flags;

const NOTHING: Option<&str> = None;

/// Mounts `source` of type `kind` on `target`; `options` is the file system's own string ("" for none).
pub fn mount(source: &str, target: &Path, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    let options = (!options.is_empty()).then_some(options);
    nix::mount::mount(Some(source), target, Some(kind), flags, options).context(
        "mount",
        format_args!("{kind} {source} on {}", target.display()),
    )
}

/// A tmpfs; `options` such as `mode=0755,size=64m`.
pub fn tmpfs(target: &Path, flags: MsFlags, options: &str) -> Result<()> {
    mount("tmpfs", target, "tmpfs", flags, options)
}

/// Shows `source` at `target` too, with everything mounted below it if `recursive`, and then with `flags` (bind mounts
/// take their flags only by a second call; it is made here).
pub fn bind(source: &Path, target: &Path, recursive: bool, flags: MsFlags) -> Result<()> {
    let depth = if recursive {
        MsFlags::MS_REC
    } else {
        MsFlags::empty()
    };
    nix::mount::mount(
        Some(source),
        target,
        NOTHING,
        MsFlags::MS_BIND | depth,
        NOTHING,
    )
    .context(
        "bind",
        format_args!("{} to {}", source.display(), target.display()),
    )?;
    if flags.is_empty() {
        return Ok(());
    }
    remount_bind(target, flags)
}

/// Changes the flags of the mount at `target` only (not of its file system).
pub fn remount_bind(target: &Path, flags: MsFlags) -> Result<()> {
    nix::mount::mount(
        NOTHING,
        target,
        NOTHING,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags,
        NOTHING,
    )
    .context("change the mount flags of", target.display())
}

/// Makes the mount at `target` and all below it read-only and without setuid, in one step (Linux 5.12). What is open for
/// writing there gives `EBUSY`.
pub fn read_only_everywhere(target: &Path) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let path = CString::new(target.as_os_str().as_encoded_bytes())
        .map_err(|error| Error::new("name", target.display(), error.into()))?;
    // SAFETY: the path is zero-terminated and the structure has the size that is given; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
        .map(drop)
        .context("make read-only", target.display())
}

/// Makes the whole file system read-only.
pub fn remount_read_only(target: &Path) -> Result<()> {
    nix::mount::mount(
        NOTHING,
        target,
        NOTHING,
        MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        NOTHING,
    )
    .context("make read-only", target.display())
}

/// Moves a mount with everything below it.
pub fn move_mount(source: &Path, target: &Path) -> Result<()> {
    nix::mount::mount(Some(source), target, NOTHING, MsFlags::MS_MOVE, NOTHING).context(
        "move the mount",
        format_args!("{} to {}", source.display(), target.display()),
    )
}

/// Ends propagation both ways for `target` and everything below it.
pub fn make_private(target: &Path) -> Result<()> {
    nix::mount::mount(
        NOTHING,
        target,
        NOTHING,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        NOTHING,
    )
    .context("make private", target.display())
}

/// Unmounts what is on top at `target`.
pub fn unmount(target: &Path) -> Result<()> {
    nix::mount::umount2(target, MntFlags::UMOUNT_NOFOLLOW).context("unmount", target.display())
}

/// Takes the mount out of sight now and unmounts it when the last user is gone.
pub fn detach(target: &Path) -> Result<()> {
    nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .context("detach", target.display())
}

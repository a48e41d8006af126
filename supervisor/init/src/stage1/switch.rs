//! From the initrd into the verified root: the initrd's files are deleted, its memory comes back.

use crate::failure::{AtStage, Failure};
use crate::stage1::WATCHDOG_ENV;
use atalaya_sys::mounts;
use atalaya_sys::watchdog::Watchdog;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::statfs::{FsType, statfs};
use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the root's PID 1 is.
pub const PROGRAM: &str = "/usr/lib/atalaya/atalaya-init";
/// linux/magic.h; an initrd is one of the two.
const RAMFS: FsType = FsType(0x8584_58f6);
const TMPFS: FsType = FsType(0x0102_1994);

/// Makes `root` the root and executes PID 1 from it.
pub fn into(root: &Path, watchdog: Option<&Watchdog>) -> Result<Infallible, Failure> {
    for name in ["dev", "proc", "sys", "run"] {
        mounts::move_mount(&Path::new("/").join(name), &root.join(name)).at("mounts")?;
    }
    nix::unistd::chdir(root).at("root folder")?;
    empty_initrd();
    mounts::move_mount(Path::new("."), Path::new("/")).at("root mount")?;
    nix::unistd::chroot(".").at("root")?;
    nix::unistd::chdir("/").at("root folder")?;
    execute(watchdog)
}

fn execute(watchdog: Option<&Watchdog>) -> Result<Infallible, Failure> {
    let mut environment = vec![text("PATH=/usr/bin:/usr/sbin").at("environment")?];
    if let Some(watchdog) = watchdog {
        fcntl(watchdog.file(), FcntlArg::F_SETFD(FdFlag::empty())).at("keep the watchdog")?;
        let number = watchdog.file().as_raw_fd();
        environment.push(text(&format!("{WATCHDOG_ENV}={number}")).at("environment")?);
    }
    let program = text(PROGRAM).at("start PID 1")?;
    nix::unistd::execve(&program, &[&program], &environment).at("start PID 1")
}

fn text(value: &str) -> Result<CString, NulError> {
    CString::new(value)
}

/// Deletes the initrd, if it is one: this must never run on anything else.
fn empty_initrd() {
    let is_initrd =
        statfs("/").is_ok_and(|found| [RAMFS, TMPFS].contains(&found.filesystem_type()));
    if let (true, Ok(root)) = (is_initrd, fs::metadata("/")) {
        empty(Path::new("/"), root.dev());
    }
}

/// Deletes what is below `folder` on the same file system. What does not go only costs memory.
fn empty(folder: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.dev() != device {
            continue; // the new root
        }
        if metadata.is_dir() {
            empty(&path, device);
            drop(fs::remove_dir(&path));
        } else {
            drop(fs::remove_file(&path));
        }
    }
}

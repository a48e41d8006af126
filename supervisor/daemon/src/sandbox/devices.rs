//! A /dev with nothing but the harmless devices and memory of its own.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use atalaya_sys::mounts::{self, Flags};

use super::{Failure, Stage, held_path, hold, is_directory};

/// The devices that everybody may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

pub(super) fn build(syslog: &str) -> Result<(), Failure> {
    let fail = |error: atalaya_sys::Error| Stage::Mounts.fail("make a private /dev", error.chain());
    let io_fail = |error: std::io::Error| Stage::Mounts.fail("make a private /dev", error);
    let dev = Path::new("/dev");
    let mut held = Vec::new();
    for name in DEVICES {
        // A machine without a tty is no reason to fail.
        if let Ok(fd) = hold(&format!("/dev/{name}"))
            && !is_directory(&fd)
        {
            held.push((name, fd));
        }
    }
    mounts::tmpfs(
        dev,
        Flags::MS_NOSUID | Flags::MS_NOEXEC,
        "mode=0755,size=64k",
    )
    .map_err(fail)?;
    for (name, source) in &held {
        let target = dev.join(name);
        File::create(&target).map_err(io_fail)?;
        mounts::bind(
            &held_path(source),
            &target,
            false,
            Flags::MS_NOSUID | Flags::MS_NOEXEC,
        )
        .map_err(fail)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("log", syslog),
    ] {
        symlink(target, dev.join(name)).map_err(io_fail)?;
    }
    let flags = Flags::MS_NOSUID | Flags::MS_NOEXEC;
    fs::create_dir(dev.join("pts")).map_err(io_fail)?;
    mounts::mount(
        "devpts",
        &dev.join("pts"),
        "devpts",
        flags,
        "newinstance,mode=0620,ptmxmode=0666",
    )
    .map_err(fail)?;
    // PostgreSQL keeps shared memory there.
    fs::create_dir(dev.join("shm")).map_err(io_fail)?;
    mounts::tmpfs(
        &dev.join("shm"),
        flags | Flags::MS_NODEV,
        "mode=1777,size=50%",
    )
    .map_err(fail)?;
    mounts::remount_bind(dev, flags | Flags::MS_RDONLY).map_err(fail)
}

//! What the unit sees: a mount namespace with a read-only root, /data hidden, its own mounts, a private /tmp and a small
//! /dev.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use atalaya_sys::mounts::{self, Flags};
use nix::sched::{CloneFlags, unshare};

use super::{Failure, Spec, Stage, held_path, hold, is_directory};

/// The devices that everybody may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

pub(super) fn build(spec: &Spec) -> Result<(), Failure> {
    let fail = |what: &str| {
        let what = what.to_owned();
        move |error: atalaya_sys::Error| Stage::Mounts.fail(&what, error.chain())
    };
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|error| Stage::Mounts.fail("make a mount namespace", error))?;
    if spec.privileged {
        // It sees what is mounted later; what it mounts itself stays its own.
        nix::mount::mount(
            None::<&str>,
            "/",
            None::<&str>,
            Flags::MS_REC | Flags::MS_SLAVE,
            None::<&str>,
        )
        .map_err(|error| Stage::Mounts.fail("part its mounts from the machine's", error))?;
        return bind_shell(spec);
    }
    mounts::make_private(Path::new("/")).map_err(fail("part its mounts from the machine's"))?;
    let sources = spec
        .mounts
        .iter()
        .map(|mount| {
            hold(&mount.source)
                .map_err(|error| Stage::Mounts.fail(&format!("open {}", mount.source), error))
        })
        .collect::<Result<Vec<OwnedFd>, Failure>>()?;
    // Its own mount, so that it stays writable where it is only a directory of the root.
    let run = Path::new("/run");
    mounts::bind(run, run, true, Flags::empty()).map_err(fail("keep /run"))?;
    // The image's root is read-only already; that of a machine that builds and tests is not.
    mounts::remount_bind(Path::new("/"), Flags::MS_RDONLY | Flags::MS_NOSUID)
        .map_err(fail("make the root read-only"))?;
    for path in &spec.hide {
        if Path::new(path).is_dir() {
            let flags = Flags::MS_RDONLY | Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
            mounts::tmpfs(Path::new(path), flags, "mode=0755,size=4k")
                .map_err(fail("hide /data"))?;
        }
    }
    let flags = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    mounts::tmpfs(Path::new("/tmp"), flags, "mode=1777,size=25%")
        .map_err(fail("make a private /tmp"))?;
    if !spec.devices {
        build_devices()?;
    }
    for (mount, source) in spec.mounts.iter().zip(&sources) {
        let mut flags = Flags::MS_NOSUID | Flags::MS_NODEV;
        if !mount.exec {
            flags |= Flags::MS_NOEXEC;
        }
        if mount.read_only {
            flags |= Flags::MS_RDONLY;
        }
        let target = Path::new(&mount.path);
        if !target.exists() {
            // Inside another mount of the unit it can be made; in the image it must be there.
            fs::create_dir_all(target).map_err(|error| {
                Stage::Mounts.fail(&format!("make {} to mount on", mount.path), error)
            })?;
        }
        mounts::bind(&held_path(source), target, false, flags)
            .map_err(fail(&format!("mount {} on {}", mount.source, mount.path)))?;
    }
    bind_shell(spec)
}

fn bind_shell(spec: &Spec) -> Result<(), Failure> {
    let Some(shell) = &spec.shell else {
        return Ok(());
    };
    mounts::bind(
        Path::new(shell),
        Path::new("/usr/bin/sh"),
        false,
        Flags::MS_NOSUID | Flags::MS_RDONLY,
    )
    .map_err(|error| Stage::Mounts.fail("show the shell", error.chain()))
}

fn build_devices() -> Result<(), Failure> {
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

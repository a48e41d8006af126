//! What the unit sees: a mount namespace in which nothing can be written, /data is hidden, and its own mounts, runtime
//! directories, /tmp, /dev and /proc are laid over it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use atalaya_sys::mounts::{self, Flags};
use nix::sched::{CloneFlags, unshare};

use super::{Failure, Spec, Stage, devices, held_path, hold};

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
    // Held, because what comes next hides them.
    let sources = spec.mounts.iter().map(|mount| &mount.source);
    let sources = sources.map(open).collect::<Result<Vec<_>, _>>()?;
    let writable = spec.writable.iter().map(open);
    let writable = writable.collect::<Result<Vec<_>, _>>()?;
    // The image's root is read-only already; /run, /sys and the root of a machine that builds and tests are not.
    mounts::read_only_everywhere(Path::new("/")).map_err(fail("make everything read-only"))?;
    for path in hidden(spec) {
        let flags = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
        mounts::tmpfs(path, flags, "mode=0755,size=64k").map_err(fail("hide /data"))?;
    }
    let flags = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    mounts::tmpfs(Path::new("/tmp"), flags, "mode=1777,size=25%")
        .map_err(fail("make a private /tmp"))?;
    if !spec.devices {
        devices::build(&spec.syslog)?;
    }
    show_processes(spec).map_err(fail("make a private /proc"))?;
    for (path, held) in spec.writable.iter().zip(&writable) {
        // In the real /dev nodes must stay devices.
        let flags = if path == "/dev" {
            Flags::MS_NOSUID | Flags::MS_NOEXEC
        } else {
            Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC
        };
        mounts::bind(&held_path(held), Path::new(path), false, flags)
            .map_err(fail(&format!("keep {path} writable")))?;
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
    for path in hidden(spec) {
        mounts::remount_bind(path, flags | Flags::MS_RDONLY).map_err(fail("hide /data"))?;
    }
    bind_shell(spec)
}

fn hidden(spec: &Spec) -> impl Iterator<Item = &Path> {
    let paths = spec.hide.iter().map(Path::new);
    paths.filter(|path| path.is_dir())
}

fn open(path: &String) -> Result<OwnedFd, Failure> {
    hold(path).map_err(|error| Stage::Mounts.fail(&format!("open {path}"), error))
}

/// Of other users' processes not even the numbers are shown. The kernel's switches can be looked at.
fn show_processes(spec: &Spec) -> Result<(), atalaya_sys::Error> {
    let flags = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    let options = if spec.all_processes {
        ""
    } else {
        "hidepid=invisible"
    };
    mounts::mount("proc", Path::new("/proc"), "proc", flags, options)?;
    let switches = Path::new("/proc/sys");
    mounts::bind(switches, switches, false, flags | Flags::MS_RDONLY)
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

//! The machine's own mounts: the list is data, mounting it is one loop.

use crate::failure::Failure;
use atalaya_sys::mounts::{self, Flags};
use std::io;
use std::path::Path;

/// One line of the list.
#[derive(Debug, Clone, Copy)]
pub struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: Flags,
    options: &'static str,
    /// Whether its folder is made; those inside /sys cannot be, and are absent where the machine has no such thing.
    make: bool,
}

const STRICT: Flags = Flags::MS_NOSUID
    .union(Flags::MS_NODEV)
    .union(Flags::MS_NOEXEC);
const DEVICES: Flags = Flags::MS_NOSUID.union(Flags::MS_NOEXEC);

/// What stage 1 needs too. /run allows exec: the sandbox helper builds units' roots there, which set their own flags.
pub const EARLY: &[Mount] = &[
    line("proc", "/proc", STRICT, ""),
    line("sysfs", "/sys", STRICT, ""),
    line("devtmpfs", "/dev", DEVICES, "mode=0755"),
    line(
        "tmpfs",
        "/run",
        Flags::MS_NOSUID.union(Flags::MS_NODEV),
        "mode=0755,size=20%",
    ),
];

/// What PID 1 adds.
pub const FULL: &[Mount] = &[
    line(
        "devpts",
        "/dev/pts",
        DEVICES,
        "gid=5,mode=0620,ptmxmode=0666",
    ),
    line("tmpfs", "/dev/shm", STRICT, "mode=1777,size=50%"),
    line("tmpfs", "/tmp", STRICT, "mode=1777,size=20%"),
    optional(
        "cgroup2",
        "/sys/fs/cgroup",
        STRICT,
        "nsdelegate,memory_recursiveprot",
    ),
    optional("efivarfs", "/sys/firmware/efi/efivars", STRICT, ""),
    optional("pstore", "/sys/fs/pstore", STRICT, ""),
];

const fn line(
    kind: &'static str,
    target: &'static str,
    flags: Flags,
    options: &'static str,
) -> Mount {
    Mount {
        kind,
        target,
        flags,
        options,
        make: true,
    }
}

const fn optional(
    kind: &'static str,
    target: &'static str,
    flags: Flags,
    options: &'static str,
) -> Mount {
    Mount {
        kind,
        target,
        flags,
        options,
        make: false,
    }
}

/// Mounts what is not mounted yet, in order. Returns what did not work.
pub fn apply(list: &[Mount]) -> Vec<Failure> {
    list.iter()
        .filter_map(|mount| apply_one(mount).err())
        .collect()
}

fn apply_one(mount: &Mount) -> Result<(), Failure> {
    let target = Path::new(mount.target);
    if mount.make {
        match std::fs::create_dir(target) {
            Err(error) if !target.is_dir() => return Err(Failure::new(mount.target, error)),
            _ => {}
        }
    } else if !target.is_dir() {
        return Ok(());
    }
    if is_mounted(target) {
        return Ok(());
    }
    mounts::mount(mount.kind, target, mount.kind, mount.flags, mount.options)
        .map_err(|error| Failure::new(mount.target, error))
}

/// Whether something is mounted exactly there: another device than its parent's folder.
fn is_mounted(target: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| -> io::Result<u64> { Ok(std::fs::symlink_metadata(path)?.dev()) };
    match (device(target), target.parent().map(device)) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_with_setuid_and_no_folder_before_its_parent() {
        let all: Vec<_> = EARLY.iter().chain(FULL).collect();
        for (index, mount) in all.iter().enumerate() {
            assert!(mount.flags.contains(Flags::MS_NOSUID), "{}", mount.target);
            assert!(
                all[index + 1..]
                    .iter()
                    .all(|later| !mount.target.starts_with(&format!("{}/", later.target)))
            );
        }
    }

    #[test]
    fn a_mount_point_is_told_from_a_folder() {
        assert!(is_mounted(Path::new("/proc")));
        assert!(!is_mounted(Path::new("/proc/self")));
    }
}

//! The steps of the end, as a list, and what is unmounted in which order. Pure.

use nix::sys::signal::Signal;

/// One step; each has its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To every process but PID 1.
    Signal(Signal),
    WaitForProcesses {
        limit_ms: u64,
    },
    Sync {
        limit_ms: u64,
    },
    Unmount,
}

/// How the machine ends, after the units were stopped or with them still running.
///
/// In the second case PostgreSQL gets what its orderly shutdown needs: TERM lets it wait for its clients, which are
/// ended by the same signal; INT makes it end without waiting; and there is a minute for its checkpoint.
pub fn plan(units_stopped: bool) -> Vec<Step> {
    let mut steps = vec![Step::Signal(Signal::SIGTERM)];
    if units_stopped {
        steps.push(Step::WaitForProcesses { limit_ms: 5_000 });
    } else {
        steps.extend([
            Step::WaitForProcesses { limit_ms: 10_000 },
            Step::Signal(Signal::SIGINT),
            Step::WaitForProcesses { limit_ms: 60_000 },
        ]);
    }
    steps.extend([
        Step::Signal(Signal::SIGKILL),
        Step::WaitForProcesses { limit_ms: 5_000 },
        Step::Sync { limit_ms: 60_000 },
        Step::Unmount,
        Step::Sync { limit_ms: 20_000 },
    ]);
    steps
}

/// Mount points to unmount, the last mounted first, from the text of /proc/self/mountinfo. The root and the kernel's own
/// file systems stay: nothing of theirs is on a disk that has to be written.
pub fn plan_unmounts(mountinfo: &str) -> Vec<String> {
    const KERNEL: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];
    let mut targets: Vec<String> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|target| {
            let inside = |folder: &&str| {
                target
                    .strip_prefix(*folder)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            // A disk mounted below /run is a disk all the same.
            target != "/"
                && !KERNEL
                    .iter()
                    .any(|folder| inside(folder) && !is_disk(mountinfo, target))
        })
        .collect();
    targets.reverse();
    targets
}

/// Whether the last file system mounted there comes from a block device.
fn is_disk(mountinfo: &str, target: &str) -> bool {
    mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4).map(unescape).as_deref() == Some(target))
        .and_then(|line| line.split(" - ").nth(1)?.split(' ').nth(1))
        .is_some_and(|source| source.starts_with("/dev/"))
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        let (before, escape) = rest.split_at(position);
        out.push_str(before);
        match escape
            .get(1..4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &escape[4..];
            }
            None => {
                out.push('\\');
                rest = &escape[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 254:0 / / ro - erofs /dev/dm-0 ro
22 21 0:5 / /dev rw - devtmpfs devtmpfs rw
23 22 0:20 / /dev/shm rw - tmpfs tmpfs rw
24 21 0:21 / /proc rw - proc proc rw
25 21 0:22 / /run rw - tmpfs tmpfs rw
26 21 254:5 / /data rw - xfs /dev/vda6 rw
27 26 0:30 / /data/tmp rw - tmpfs tmpfs rw
28 25 254:1 / /run/esp rw - vfat /dev/vda1 rw
29 21 254:5 /a\\040b /opt/with\\040space rw - xfs /dev/vda6 rw
30 21 0:31 / /runner rw - tmpfs tmpfs rw";

    #[test]
    fn disks_are_unmounted_last_mounted_first_and_the_rest_stays() {
        assert_eq!(
            plan_unmounts(MOUNTS),
            [
                "/runner",
                "/opt/with space",
                "/run/esp",
                "/data/tmp",
                "/data"
            ]
        );
        assert_eq!(plan_unmounts("junk\n\n"), Vec::<String>::new());
    }

    #[test]
    fn kill_comes_after_every_gentler_way_and_sync_after_kill() {
        for units_stopped in [true, false] {
            let steps = plan(units_stopped);
            let killed = steps
                .iter()
                .position(|step| *step == Step::Signal(Signal::SIGKILL))
                .unwrap();
            assert!(steps[..killed].contains(&Step::Signal(Signal::SIGTERM)));
            assert_eq!(
                steps[..killed].contains(&Step::Signal(Signal::SIGINT)),
                !units_stopped
            );
            assert!(matches!(
                steps[killed + 2..],
                [Step::Sync { .. }, Step::Unmount, Step::Sync { .. }]
            ));
        }
    }
}

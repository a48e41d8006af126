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
    /// That the end was orderly, for the next boot.
    Record {
        limit_ms: u64,
    },
    Sync {
        limit_ms: u64,
    },
    /// File systems, swaps, mapped devices.
    Release,
}

/// How the machine ends, once the units were stopped.
pub fn plan() -> Vec<Step> {
    vec![
        Step::Signal(Signal::SIGTERM),
        Step::WaitForProcesses { limit_ms: 5_000 },
        Step::Signal(Signal::SIGKILL),
        Step::WaitForProcesses { limit_ms: 5_000 },
        Step::Record { limit_ms: 10_000 },
        Step::Sync { limit_ms: 60_000 },
        Step::Release,
        Step::Sync { limit_ms: 20_000 },
    ]
}

/// Something that keeps a disk busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Mount(String),
    Swap(String),
    /// A device-mapper device, by name.
    Mapped(String),
}

impl Holder {
    /// The words for `effect::run` that give it up.
    pub fn words(&self) -> [&str; 2] {
        match self {
            Self::Mount(target) => ["unmount", target],
            Self::Swap(path) => ["swap-off", path],
            Self::Mapped(name) => ["remove", name],
        }
    }

    pub fn name(&self) -> &str {
        let [_, name] = self.words();
        name
    }
}

/// Swaps, from the text of /proc/swaps.
pub fn plan_swaps(swaps: &str) -> Vec<Holder> {
    swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(|path| Holder::Swap(unescape(path)))
        .collect()
}

/// Mapped devices but the root's own, which is in use to the very end. `devices`: name and number (`254:0`) of each.
pub fn plan_devices(mountinfo: &str, devices: &[(String, String)]) -> Vec<Holder> {
    let root = mountinfo.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(4) == Some(&"/")).then(|| fields.get(2).copied())?
    });
    devices
        .iter()
        .filter(|(_, number)| Some(number.as_str()) != root)
        .map(|(name, _)| Holder::Mapped(name.clone()))
        .collect()
}

/// Mount points to unmount, the last mounted first, from the text of /proc/self/mountinfo. The root and the kernel's own
/// file systems stay: nothing of theirs is on a disk that has to be written.
pub fn plan_unmounts(mountinfo: &str) -> Vec<Holder> {
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
    targets.into_iter().map(Holder::Mount).collect()
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
        let targets: Vec<Holder> = [
            "/runner",
            "/opt/with space",
            "/run/esp",
            "/data/tmp",
            "/data",
        ]
        .map(|target| Holder::Mount(target.to_owned()))
        .to_vec();
        assert_eq!(plan_unmounts(MOUNTS), targets);
        assert_eq!(plan_unmounts("junk\n\n"), []);
    }

    #[test]
    fn swaps_and_mapped_devices_are_given_up_but_for_the_roots() {
        let swaps = "Filename\tType\tSize\tUsed\tPriority\n/data/a\\040swap file 1 0 -2\n";
        assert_eq!(plan_swaps(swaps), [Holder::Swap("/data/a swap".to_owned())]);
        assert_eq!(plan_swaps(""), []);
        let devices = [("root", "254:0"), ("data", "254:1")]
            .map(|(name, number)| (name.to_owned(), number.to_owned()));
        assert_eq!(
            plan_devices(MOUNTS, &devices),
            [Holder::Mapped("data".to_owned())]
        );
    }

    #[test]
    fn kill_comes_after_term_and_sync_after_kill() {
        let steps = plan();
        let killed = steps
            .iter()
            .position(|step| *step == Step::Signal(Signal::SIGKILL))
            .unwrap();
        assert!(steps[..killed].contains(&Step::Signal(Signal::SIGTERM)));
        assert!(matches!(
            steps[killed + 2..],
            [
                Step::Record { .. },
                Step::Sync { .. },
                Step::Release,
                Step::Sync { .. }
            ]
        ));
    }
}

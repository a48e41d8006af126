//! The cgroups that PID 1 makes: its own, atalayad's, and the one that units live below.

use atalaya_sys::cgroup::Cgroup;
use atalaya_sys::{Error, reap};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// init's own, with what it starts for itself.
pub const INIT: &str = "atalaya.init";
/// atalayad and its short-lived children.
pub const DAEMON: &str = "atalaya.daemon";
/// atalayad makes `units/NAME.RUN` in it.
pub const UNITS: &str = "units";
/// What units may be limited by; a kernel without one of them is told about where the limit is set.
const CONTROLLERS: [&str; 5] = ["cpu", "io", "memory", "pids", "cpuset"];

/// Makes them and moves PID 1 into its own. Returns what did not work.
pub fn create() -> Vec<Error> {
    let root = Cgroup::at(ROOT);
    let mut problems = Vec::new();
    let made = [INIT, DAEMON, UNITS].map(|name| Cgroup::create(path(name)));
    for cgroup in made {
        problems.extend(cgroup.err());
    }
    problems.extend(Cgroup::at(path(INIT)).add(0).err());
    for controller in CONTROLLERS {
        let available = root.read("cgroup.controllers").unwrap_or_default();
        if available
            .split_ascii_whitespace()
            .any(|name| name == controller)
        {
            let enable = format!("+{controller}");
            problems.extend(root.write("cgroup.subtree_control", &enable).err());
            problems.extend(
                Cgroup::at(path(UNITS))
                    .write("cgroup.subtree_control", &enable)
                    .err(),
            );
        }
    }
    problems
}

pub fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// What `Exited` says of a zombie: the unit's name and run number, or the last component of another path.
pub fn label_of(pid: i32) -> String {
    reap::cgroup_of(pid)
        .map(|path| label(&path).to_owned())
        .unwrap_or_default()
}

/// A unit may make cgroups below its own (udevd does): the component behind `units` is the one that carries its name.
fn label(path: &str) -> &str {
    let mut parts = path.split('/').skip_while(|part| *part != UNITS).skip(1);
    parts
        .next()
        .or_else(|| path.rsplit('/').next())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::label;

    #[test]
    fn the_label_names_unit_and_run() {
        assert_eq!(label("/units/postgres.3"), "postgres.3");
        assert_eq!(label("/units/udevd.1/udev"), "udevd.1");
        assert_eq!(label("/atalaya.daemon"), "atalaya.daemon");
        assert_eq!(label("/"), "");
    }
}

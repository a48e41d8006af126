//! The cgroups that PID 1 makes: its own, atalayad's, and the one that units live below.

use atalaya_sys::cgroup::Cgroup;
use atalaya_sys::{Error, Result, reap};
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

/// What `Exited` says of a zombie: the unit's name and run number. `None` for processes of no unit.
pub fn unit_of(pid: i32) -> Result<Option<String>> {
    Ok(unit(&reap::cgroup_of(pid)?).map(str::to_owned))
}

/// A unit may make cgroups below its own (udevd does): the component behind `units` is the one that carries its name.
fn unit(path: &str) -> Option<&str> {
    path.split('/').skip_while(|part| *part != UNITS).nth(1)
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn the_label_names_unit_and_run() {
        assert_eq!(unit("/units/postgres.3"), Some("postgres.3"));
        assert_eq!(unit("/units/udevd.1/udev"), Some("udevd.1"));
        assert_eq!(unit("/atalaya.daemon"), None);
        assert_eq!(unit("/units"), None);
        assert_eq!(unit("/"), None);
    }
}

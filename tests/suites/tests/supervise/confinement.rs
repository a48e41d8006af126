//! What the kernel says about every running unit, against what its file declares.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use atalaya_suites::confined::{Machine, Process, compare, shipped};
use atalaya_suites::inside::{cgroup, text, unit};
use atalaya_suites::place::Place;
use atalaya_vm::UnitState;

use crate::Supervise;

pub fn every_running_unit_is_as_confined_as_its_file_says(
    of: &mut Supervise,
) -> anyhow::Result<()> {
    let state = of.wait_all_up()?;
    let link = |path: &str| {
        let target = of.vm.agent()?.stat(path)?.target;
        target.with_context(|| format!("{path} is no link"))
    };
    let mut namespaces = BTreeMap::new();
    for name in ["mnt", "ipc", "net", "pid", "user"] {
        namespaces.insert(name.to_owned(), link(&format!("/proc/1/ns/{name}"))?);
    }
    let passwd = text(&of.vm, "/etc/passwd")?;
    let meminfo = text(&of.vm, "/proc/meminfo")?;
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = kib.and_then(|rest| rest.split_whitespace().next());
    let memory = 1024 * kib.context("the machine has no memory")?.parse::<u64>()?;
    let machine = Machine {
        passwd: &passwd,
        namespaces: &namespaces,
        memory,
    };
    let mut differences = Vec::new();
    let mut compared = 0;
    for declared in shipped(Place::from_environment().root())? {
        let is = unit(&state, &declared.name)?;
        if is.state != UnitState::Running {
            continue;
        }
        let (pid, cgroup) = (is.pid.context("it has no pid")?, cgroup(&is)?);
        let process = Process {
            file: &|name| text(&of.vm, &format!("/proc/{pid}/{name}")),
            link: &|name| link(&format!("/proc/{pid}/{name}")),
            cgroup: &|name| text(&of.vm, &format!("{cgroup}/{name}")),
        };
        let found = compare(&declared, machine, &process)
            .with_context(|| format!("failed to look at {}", declared.name))?;
        differences.extend(
            found
                .into_iter()
                .map(|line| format!("{}: {line}", declared.name)),
        );
        compared += 1;
    }
    ensure!(compared >= 7, "only {compared} units run");
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

//! Every running unit is as confined as its file says.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{RECOVERY, wait_served};
use atalaya_suites::confined::{Machine, Process, compare, shipped};
use atalaya_vm::{UnitState, Vm};

use crate::Life;

pub fn every_unit_is_as_confined_as_its_file_says(life: &mut Life) -> anyhow::Result<()> {
    // That all are up is another step's.
    let state = wait_served(&life.vm, RECOVERY)?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let passwd = read(&life.vm, "/etc/passwd")?;
    let names = ["mnt", "ipc", "net", "pid", "user"];
    let namespaces: BTreeMap<String, String> = names
        .into_iter()
        .map(|name| {
            Ok((
                name.to_owned(),
                link(&life.vm, &format!("/proc/1/ns/{name}"))?,
            ))
        })
        .collect::<anyhow::Result<_>>()?;
    let memory = read(&life.vm, "/proc/meminfo")?;
    let total = memory.split_whitespace().nth(1).context("no MemTotal")?;
    let machine = Machine {
        passwd: &passwd,
        namespaces: &namespaces,
        memory: total.parse::<u64>()? * 1024,
    };
    let mut wrong = Vec::new();
    let mut compared = 0;
    for unit in shipped(&project)? {
        let Some(running) = state.units.get(&unit.name) else {
            wrong.push(format!("{} is not there", unit.name));
            continue;
        };
        let (UnitState::Running, Some(pid), Some(run)) = (running.state, running.pid, running.run)
        else {
            continue;
        };
        let vm = &life.vm;
        let cgroup = format!("/sys/fs/cgroup/units/{}.{run}", unit.name);
        let process = Process {
            file: &|name| read(vm, &format!("/proc/{pid}/{name}")),
            link: &|name| link(vm, &format!("/proc/{pid}/{name}")),
            cgroup: &|name| read(vm, &format!("{cgroup}/{name}")),
        };
        let found = compare(&unit, machine, &process)
            .with_context(|| format!("failed to look at {}", unit.name))?;
        wrong.extend(
            found
                .into_iter()
                .map(|what| format!("{}: {what}", unit.name)),
        );
        compared += 1;
    }
    ensure!(wrong.is_empty(), "not as declared:\n{}", wrong.join("\n"));
    ensure!(compared >= 7, "only {compared} units were compared");
    Ok(())
}

fn read(vm: &Vm, path: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(vm.agent()?.read_file(path)?)?)
}

fn link(vm: &Vm, path: &str) -> anyhow::Result<String> {
    let entry = vm.agent()?.stat(path)?;
    entry.target.with_context(|| format!("{path} is no link"))
}

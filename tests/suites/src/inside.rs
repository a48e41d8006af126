//! What is asked inside a machine: of its units, their processes and their cgroups.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_vm::agent_protocol::ProcessInfo;
use atalaya_vm::{Event, Snapshot, Unit, UnitState, Vm};

use crate::appliance::served;
use crate::story::eventually;

/// The agent's program, which does mischief when it has words behind its name.
pub const AGENT: &str = "/usr/lib/atalaya/atalaya-agent";
/// Signal numbers.
pub const SIGKILL: i32 = 9;
/// See above.
pub const SIGCONT: i32 = 18;
/// See above.
pub const SIGSTOP: i32 = 19;

/// Nothing waits, nothing failed, and every service is ready.
#[must_use]
pub fn all_up(state: &Snapshot) -> bool {
    let up = |state: UnitState| matches!(state, UnitState::Running | UnitState::Done);
    // What is not wanted at boot is Stopped.
    served(state)
        && state
            .units
            .values()
            .all(|unit| unit.state == UnitState::Stopped || up(unit.state) && unit.ready)
}

/// The unit as last reported.
pub fn unit(state: &Snapshot, name: &str) -> anyhow::Result<Unit> {
    let unit = state.units.get(name);
    Ok(unit
        .with_context(|| format!("there is no unit {name}"))?
        .clone())
}

/// Which process of which run every running unit has: what must not change where nothing is to be restarted.
#[must_use]
pub fn lives(state: &Snapshot) -> BTreeMap<String, (Option<u64>, Option<i32>)> {
    let running = state
        .units
        .values()
        .filter(|unit| unit.state == UnitState::Running);
    running
        .map(|unit| (unit.unit.clone(), (unit.run, unit.pid)))
        .collect()
}

/// The same processes run as before, apart from those of `but`.
pub fn check_untouched(before: &Snapshot, after: &Snapshot, but: &[&str]) -> anyhow::Result<()> {
    let (before, after) = (lives(before), lives(after));
    for (name, life) in &before {
        if but.contains(&name.as_str()) {
            continue;
        }
        let now = after.get(name);
        ensure!(
            now == Some(life),
            "{name} had {life:?} (run, pid), now it has {now:?}"
        );
    }
    Ok(())
}

/// The cgroup of a unit's run, below /sys/fs/cgroup.
pub fn cgroup(unit: &Unit) -> anyhow::Result<String> {
    let run = unit.run.context("the unit has no run")?;
    Ok(format!("/sys/fs/cgroup/units/{}.{run}", unit.unit))
}

/// The processes of a unit's run.
pub fn processes(vm: &Vm, name: &str, run: u64) -> anyhow::Result<Vec<ProcessInfo>> {
    let cgroup = format!("/units/{name}.{run}");
    let mut all = vm.agent()?.processes()?;
    all.retain(|process| process.cgroup == cgroup);
    Ok(all)
}

/// A small file of the kernel's, as text.
pub fn text(vm: &Vm, path: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&vm.agent()?.read_file(path)?)
        .trim()
        .to_owned())
}

/// A number in a file of a cgroup; "max" is refused: a limit is expected.
pub fn limit(vm: &Vm, cgroup: &str, file: &str) -> anyhow::Result<u64> {
    let text = text(vm, &format!("{cgroup}/{file}"))?;
    text.parse()
        .with_context(|| format!("{cgroup}/{file} is {text:?} and should be a number"))
}

/// One counter in a file of lines like `oom_kill 3`.
pub fn counter(vm: &Vm, path: &str, key: &str) -> anyhow::Result<u64> {
    let text = text(vm, path)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    Ok(line
        .with_context(|| format!("{path} has no {key}"))?
        .trim()
        .parse()?)
}

/// Every report about a unit since the machine was started, that came after the first `mark` of all reports.
#[must_use]
pub fn reports(vm: &Vm, mark: usize, name: &str) -> Vec<Unit> {
    let events = vm.status().events();
    let units = events
        .into_iter()
        .skip(mark)
        .filter_map(|recorded| match recorded.event {
            Event::Unit(unit) => Some(unit),
            _ => None,
        });
    units.filter(|unit| unit.unit == name).collect()
}

/// Waits until the unit has said `part` in a report's reason after `mark`.
pub fn wait_reason(
    vm: &Vm,
    mark: usize,
    name: &str,
    part: &str,
    limit: Duration,
) -> anyhow::Result<Unit> {
    let says = |unit: &Unit| {
        unit.reason
            .as_deref()
            .is_some_and(|reason| reason.contains(part))
    };
    eventually(&format!("{name} to be {part:?}"), limit, || {
        Ok(reports(vm, mark, name).into_iter().find(|unit| says(unit)))
    })
    .with_context(|| format!("its reports: {:?}", reports(vm, mark, name)))
}

/// Waits for so many whole reports of the machine: time in which it would have done what it must not do.
pub fn wait_reports(vm: &Vm, count: usize, limit: Duration) -> anyhow::Result<()> {
    let boots = || {
        let events = vm.status().events();
        events
            .iter()
            .filter(|recorded| matches!(recorded.event, Event::Boot(_)))
            .count()
    };
    let wanted = boots() + count;
    eventually("the machine to report its whole state", limit, || {
        Ok((boots() >= wanted).then_some(()))
    })
}

/// Kills atalayad and waits for the next one.
pub fn replace_supervisor(vm: &Vm, limit: Duration) -> anyhow::Result<()> {
    let old = supervisor(vm)?;
    vm.agent()?.kill(old, SIGKILL)?;
    eventually("another atalayad", limit, || {
        Ok(supervisor(vm).is_ok_and(|pid| pid != old).then_some(()))
    })
}

/// atalayad's process.
pub fn supervisor(vm: &Vm) -> anyhow::Result<i32> {
    let processes = vm.agent()?.processes()?;
    let found = processes
        .iter()
        .find(|process| process.name == "atalayad" && process.cgroup.ends_with("atalaya.daemon"));
    Ok(found.context("no atalayad runs")?.pid)
}

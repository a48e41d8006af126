//! Main processes are killed while posts flow: each unit's, and the supervisor's.

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{ADMINISTRATOR, PASSWORD, RECOVERY, run};
use atalaya_suites::story::eventually;
use atalaya_suites::stream::Stream;
use atalaya_vm::{UnitState, Vm};

use crate::{Life, all_up};

const SIGKILL: i32 = 9;
/// Every unit that runs in the product.
pub const KILLED: [&str; 8] = [
    "udevd",
    "networkd",
    "resolved",
    "chronyd",
    "console",
    "edge",
    "postgres",
    "mattermost",
];

pub fn killed_atalayad_leaves_units_alone(life: &mut Life) -> anyhow::Result<()> {
    let before = life
        .vm
        .wait_status("every unit to be up", RECOVERY, all_up)?;
    let stream = Stream::begin(
        &life.client,
        &life.channel,
        "atalayad",
        ADMINISTRATOR,
        PASSWORD,
    );
    stream.wait_flow(RECOVERY)?;
    let old = supervisor(&life.vm)?;
    life.vm.agent()?.kill(old, SIGKILL)?;
    let taken_over = eventually("another atalayad that answers", RECOVERY, || {
        let other = supervisor(&life.vm).is_ok_and(|pid| pid != old);
        Ok((other && run(&life.vm, &["/usr/bin/atalaya", "status"]).is_ok()).then_some(()))
    });
    let tally = stream.end()?;
    taken_over?;
    let after = life
        .vm
        .wait_status("every unit to be up", RECOVERY, all_up)?;
    let processes = life.vm.agent()?.processes()?;
    for (name, unit) in before
        .units
        .iter()
        .filter(|(_, unit)| unit.state == UnitState::Running)
    {
        let pid = unit
            .pid
            .with_context(|| format!("{name} runs and has no pid"))?;
        ensure!(
            after.pid(name) == Some(pid),
            "{name} had pid {pid}, now it has {:?}",
            after.pid(name)
        );
        ensure!(
            processes
                .iter()
                .any(|process| process.pid == pid && process.ppid == 1),
            "{name} is gone"
        );
    }
    ensure!(
        tally.posts.keys().eq(&[201]),
        "posts were answered with {:?}",
        tally.posts
    );
    tally.check_honest()?;
    tally.check_kept(&life.client, &life.channel)?;
    // It takes the exit statuses over as well.
    kill_unit(life, "chronyd")
}

fn supervisor(vm: &Vm) -> anyhow::Result<i32> {
    let processes = vm.agent()?.processes()?;
    let found = processes
        .iter()
        .find(|process| process.name == "atalayad" && process.cgroup.ends_with("atalaya.daemon"));
    Ok(found.context("no atalayad runs")?.pid)
}

/// Whoever adds a unit adds its step.
pub fn every_unit_has_its_step(life: &mut Life) -> anyhow::Result<()> {
    let state = life
        .vm
        .wait_status("every unit to be up", RECOVERY, all_up)?;
    let running = state
        .units
        .values()
        .filter(|unit| unit.state == UnitState::Running);
    // The agent is what kills; it is not part of the product.
    let names = running
        .map(|unit| unit.unit.as_str())
        .filter(|name| *name != "agent");
    let forgotten: Vec<&str> = names.filter(|name| !KILLED.contains(name)).collect();
    ensure!(
        forgotten.is_empty(),
        "{forgotten:?} run and are never killed here"
    );
    Ok(())
}

pub fn kill_unit(life: &mut Life, name: &str) -> anyhow::Result<()> {
    let before = life
        .vm
        .wait_status("every unit to be up", RECOVERY, all_up)?;
    let unit = before.units.get(name).context("there is no such unit")?;
    let (pid, run) = (
        unit.pid.context("it has no pid")?,
        unit.run.context("it has no run number")?,
    );
    let stream = Stream::begin(&life.client, &life.channel, name, ADMINISTRATOR, PASSWORD);
    stream.wait_flow(RECOVERY)?;
    life.vm.agent()?.kill(pid, SIGKILL)?;
    let back = life.vm.wait_status(
        "the unit to be back and users to be admitted",
        RECOVERY,
        |state| {
            state
                .units
                .get(name)
                .is_some_and(|unit| unit.run > Some(run))
                && all_up(state)
        },
    );
    let flows = stream.wait_flow(RECOVERY);
    let page = life.client.get("/");
    let tally = stream.end()?;
    back?;
    flows?;
    ensure!(
        page?.status == 200,
        "posts are taken and the page is not served"
    );
    tally.check_honest()?;
    tally.check_kept(&life.client, &life.channel)?;
    match name {
        "postgres" | "mattermost" => {
            ensure!(
                tally.posts.contains_key(&503),
                "the edge never answered 503: {:?}",
                tally.posts
            );
        }
        "edge" => {}
        _ => ensure!(
            tally.posts.keys().eq(&[201]),
            "posts were answered with {:?}",
            tally.posts
        ),
    }
    Ok(())
}

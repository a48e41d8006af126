//! Whoever takes over: the supervisor itself is killed and stopped, and the edge is, under connections.

use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{RECOVERY, run};
use atalaya_suites::inside::{
    AGENT, SIGKILL, SIGSTOP, all_up, check_untouched, supervisor, text, unit,
};
use atalaya_suites::story::eventually;

use crate::Supervise;

/// init waits 30 s for a sign of life.
const SILENCE: Duration = Duration::from_secs(60);

pub fn a_stopped_supervisor_is_replaced_and_misses_no_exit(
    of: &mut Supervise,
) -> anyhow::Result<()> {
    let before = of.wait_all_up()?;
    let victim = unit(&before, "chronyd")?;
    let old = supervisor(&of.vm)?;
    of.vm.agent()?.kill(old, SIGSTOP)?;
    // Ends while nobody listens.
    of.vm
        .agent()?
        .kill(victim.pid.context("it has no pid")?, SIGKILL)?;
    eventually("another atalayad", SILENCE, || {
        Ok(supervisor(&of.vm).is_ok_and(|pid| pid != old).then_some(()))
    })?;
    let after = of
        .vm
        .wait_status("the ended unit to be back", RECOVERY, |state| {
            let back = state.units.get("chronyd");
            back.is_some_and(|unit| unit.run > victim.run) && all_up(state)
        })?;
    check_untouched(&before, &after, &["chronyd"])?;
    let log = run(&of.vm, &["/usr/bin/atalaya", "logs", "-u", "chronyd"])?;
    ensure!(
        log.contains("signal 9") || log.contains("SIGKILL"),
        "the log does not say how chronyd ended:\n{log}"
    );
    Ok(())
}

/// Its sockets are kept open, so a connection waits for the next edge instead of being refused.
pub fn a_killed_edge_refuses_no_connection(of: &mut Supervise) -> anyhow::Result<()> {
    const FILE: &str = "/run/knock";
    const KILLS: usize = 5;
    let before = of.wait_all_up()?;
    let agent = of.vm.agent()?;
    agent.write_file(FILE, b"go", 0o600)?;
    agent.launch(&[AGENT, "knock", "127.0.0.1:443", FILE])?;
    for _ in 0..KILLS {
        let edge = unit(&of.wait_all_up()?, "edge")?;
        agent.kill(edge.pid.context("it has no pid")?, SIGKILL)?;
        of.vm.wait_status("the next edge", RECOVERY, |state| {
            let next = state.units.get("edge");
            next.is_some_and(|unit| unit.run > edge.run && unit.ready)
        })?;
    }
    agent.write_file(FILE, b"enough", 0o600)?;
    let told = eventually("the knocking to end", RECOVERY, || {
        let told = text(&of.vm, FILE)?;
        Ok(told.contains("knocks").then_some(told))
    })?;
    let knocks: usize = told.split(' ').next().context("no number")?.parse()?;
    ensure!(knocks > 10 * KILLS, "hardly anybody knocked: {told}");
    ensure!(told.ends_with(" 0 refused"), "{told}");
    check_untouched(&before, &of.wait_all_up()?, &["edge"])
}

/// init alone keeps the machine as it is, and what was said meanwhile is not lost.
pub fn five_deaths_mean_safe_mode_and_nobody_notices(of: &mut Supervise) -> anyhow::Result<()> {
    let before = of.wait_all_up()?;
    let told_before = of.vm.console().text().len();
    let is_told = || {
        let told = of.vm.console().text().split_off(told_before);
        told.contains("safe mode")
    };
    // A death within the same minute before this step counts too.
    let mut last = 0;
    while !is_told() {
        let next = eventually("another atalayad, or safe mode", RECOVERY, || {
            let other = supervisor(&of.vm).ok().filter(|pid| *pid != last);
            Ok(other.map(Some).or_else(|| is_told().then_some(None)))
        })?;
        if let Some(pid) = next {
            of.vm.agent()?.kill(pid, SIGKILL)?;
            last = pid;
        }
    }
    ensure!(supervisor(&of.vm).is_err(), "there is an atalayad");
    let meanwhile = of.client.get("/said-in-safe-mode")?;
    ensure!(
        (200..500).contains(&meanwhile.status),
        "the page has status {}",
        meanwhile.status
    );
    of.client
        .make_post(&of.channel, "posted in safe mode", &[])?;
    run(&of.vm, &["/usr/bin/atalaya", "supervisor", "restart"])?;
    eventually("the supervisor to answer", RECOVERY, || {
        Ok(run(&of.vm, &["/usr/bin/atalaya", "status"])
            .is_ok()
            .then_some(()))
    })?;
    check_untouched(&before, &of.wait_all_up()?, &[])?;
    eventually("what was said meanwhile to be in the log", RECOVERY, || {
        let log = run(&of.vm, &["/usr/bin/atalaya", "logs", "-u", "edge"])?;
        Ok(log.contains("/said-in-safe-mode").then_some(()))
    })?;
    let messages = of.client.messages(&of.channel)?;
    ensure!(
        messages.iter().any(|text| text == "posted in safe mode"),
        "the post is gone"
    );
    Ok(())
}

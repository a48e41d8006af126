//! What a machine runs out of, and a clock that cannot be trusted.

use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{RECOVERY, run};
use atalaya_suites::inside::{
    AGENT, SIGKILL, all_up, cgroup, check_untouched, limit, processes, unit, wait_reason,
    wait_reports,
};
use atalaya_suites::story::eventually;

use crate::Supervise;

const TEN_YEARS_S: i64 = 10 * 365 * 86_400;
/// The whole state is reported every ten seconds of the machine's own.
const REPORT: Duration = Duration::from_secs(40);

/// The smallest unit: its limits are reached soonest.
const SMALL: &str = "chronyd";

pub fn a_unit_over_its_memory_dies_and_says_so(of: &mut Supervise) -> anyhow::Result<()> {
    let before = of.wait_all_up()?;
    let victim = unit(&before, SMALL)?;
    let cgroup = cgroup(&victim)?;
    let bytes = limit(&of.vm, &cgroup, "memory.max")?;
    let mark = of.vm.status().events().len();
    let too_much = (2 * bytes / (1 << 20)).to_string();
    of.vm.agent()?.launch(&[AGENT, "eat", &cgroup, &too_much])?;
    wait_reason(&of.vm, mark, SMALL, "cause=oom", RECOVERY)?;
    let after = of.vm.wait_status("it to be back", RECOVERY, |state| {
        let back = state.units.get(SMALL);
        back.is_some_and(|unit| unit.run > victim.run) && all_up(state)
    })?;
    check_untouched(&before, &after, &[SMALL])?;
    let why = run(&of.vm, &["/usr/bin/atalaya", "unit", "show", SMALL])?;
    ensure!(
        why.contains("out of memory"),
        "`atalaya unit show` has forgotten it:\n{why}"
    );
    Ok(())
}

pub fn a_fork_bomb_stays_in_its_unit(of: &mut Supervise) -> anyhow::Result<()> {
    let before = of.wait_all_up()?;
    let victim = unit(&before, SMALL)?;
    let cgroup = cgroup(&victim)?;
    let tasks = limit(&of.vm, &cgroup, "pids.max")?;
    of.vm
        .agent()?
        .launch(&[AGENT, "crowd", &cgroup, "100000"])?;
    eventually("the unit to be full", RECOVERY, || {
        Ok((limit(&of.vm, &cgroup, "pids.current")? == tasks).then_some(()))
    })?;
    run(&of.vm, &["/usr/bin/atalaya", "status"])?;
    ensure!(of.client.get("/")?.status == 200, "the page is not served");
    let bomb = processes(&of.vm, SMALL, victim.run.context("it has no run")?)?
        .into_iter()
        .find(|process| process.argv.iter().any(|word| word == "crowd"))
        .context("the bomb is gone")?;
    of.vm.agent()?.kill(bomb.pid, SIGKILL)?;
    eventually("the bomb to be gone", RECOVERY, || {
        Ok((limit(&of.vm, &cgroup, "pids.current")? < tasks).then_some(()))
    })?;
    check_untouched(&before, &of.wait_all_up()?, &[])
}

/// What the database could not write is not acknowledged, and what was is kept. Space that comes back brings it back.
pub fn a_full_disk_stops_the_database_in_order(of: &mut Supervise) -> anyhow::Result<()> {
    const FILLER: &str = "/data/filler";
    const RESERVE: &str = "/data/reserve";
    let before = unit(&of.wait_all_up()?, "postgres")?;
    let agent = of.vm.agent()?;
    let reserve = || Ok(agent.stat(RESERVE).ok().filter(|file| file.size > 0));
    eventually("the reserve to be made", RECOVERY, reserve)?;
    let stream = of.stream("full")?;
    let (_, free) = agent.file_system("/data")?;
    let order = format!("falloc 0 {}", free - (16 << 20));
    let mark = of.vm.status().events().len();
    run(&of.vm, &["/usr/sbin/xfs_io", "-f", "-c", &order, FILLER])?;
    let stopped = wait_reason(&of.vm, mark, "postgres", "no room on /data", RECOVERY);
    let freed = eventually("the reserve to be freed", RECOVERY, || {
        Ok(reserve()?.is_none().then_some(()))
    });
    let closed = eventually("the edge to refuse", RECOVERY, || {
        Ok((of.client.get("/api/v4/users/me")?.status == 503).then_some(()))
    });
    let shown = run(&of.vm, &["/usr/bin/atalaya", "status"]);
    run(&of.vm, &["/usr/sbin/xfs_io", "-c", "truncate 0", FILLER])?;
    let back = of
        .vm
        .wait_status("the database to be back", RECOVERY, |state| {
            let back = state.units.get("postgres");
            back.is_some_and(|unit| unit.run > before.run) && all_up(state)
        });
    let flows = stream.wait_flow(RECOVERY);
    let tally = stream.end()?;
    stopped?;
    freed?;
    closed?;
    back?;
    flows?;
    ensure!(
        shown.as_ref().is_ok_and(|shown| shown.contains("/data")),
        "`atalaya status` does not say what is wrong: {shown:?}"
    );
    ensure!(
        of.vm.console().text().contains("Make the disk larger"),
        "the console does not say what to do"
    );
    let log = run(&of.vm, &["/usr/bin/atalaya", "logs", "-u", "postgres"])?;
    ensure!(
        log.contains("database system is shut down"),
        "it was not shut down in order:\n{log}"
    );
    tally.check_honest()?;
    tally.check_kept(&of.client, &of.channel)
}

pub fn a_clock_ten_years_off_changes_nothing(of: &mut Supervise) -> anyhow::Result<()> {
    let before = of.wait_all_up()?;
    let lines = || -> anyhow::Result<Vec<String>> {
        let log = run(&of.vm, &["/usr/bin/atalaya", "logs", "-u", "postgres"])?;
        Ok(log.lines().map(str::to_owned).collect())
    };
    let said = lines()?;
    ensure!(!said.is_empty(), "PostgreSQL has said nothing");
    // There, as far again on the other side, and back to where it was.
    for shift in [TEN_YEARS_S, -2 * TEN_YEARS_S, TEN_YEARS_S] {
        run(&of.vm, &[AGENT, "clock", &shift.to_string()])?;
        wait_reports(&of.vm, 1, REPORT)?;
        check_untouched(&before, &of.vm.status().snapshot(), &[])?;
        let now = lines()?;
        ensure!(
            now.starts_with(&said),
            "lines of the log are gone; it begins with {:?}",
            now.first()
        );
    }
    Ok(())
}

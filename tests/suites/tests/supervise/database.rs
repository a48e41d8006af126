//! PostgreSQL's own processes die.

use anyhow::{Context, bail, ensure};
use atalaya_suites::appliance::{RECOVERY, run as run_in};
use atalaya_suites::inside::{
    SIGKILL, SIGSTOP, all_up, check_untouched, processes, unit, wait_reason,
};
use atalaya_suites::story::eventually;
use atalaya_vm::UnitState;
use atalaya_vm::agent_protocol::ProcessInfo;

use crate::Supervise;

/// The processes that serve Mattermost's connections.
fn backends(of: &Supervise, run: u64) -> anyhow::Result<Vec<ProcessInfo>> {
    let mut found = processes(&of.vm, "postgres", run)?;
    found.retain(|process| process.argv.iter().any(|word| word.contains("mattermost")));
    Ok(found)
}

/// PostgreSQL recovers by itself and says nothing about it. A backend that is stopped makes that last five seconds, until
/// the postmaster kills it.
pub fn a_killed_backend_means_recovering_and_no_restart(of: &mut Supervise) -> anyhow::Result<()> {
    let before = of.wait_all_up()?;
    let database = unit(&before, "postgres")?;
    let run = database.run.context("it has no run")?;
    let found = backends(of, run)?;
    let [victim, stopped, ..] = found.as_slice() else {
        bail!("Mattermost has fewer than two connections: {found:?}")
    };
    let stream = of.stream("backend")?;
    let mark = of.vm.status().events().len();
    of.vm.agent()?.kill(stopped.pid, SIGSTOP)?;
    of.vm.agent()?.kill(victim.pid, SIGKILL)?;
    let recovering = wait_reason(&of.vm, mark, "postgres", "rejecting", RECOVERY);
    let closed = eventually("the edge to refuse", RECOVERY, || {
        Ok((of.client.get("/api/v4/users/me")?.status == 503).then_some(()))
    });
    let shown = run_in(&of.vm, &["/usr/bin/atalaya", "status"]);
    let after = of.vm.wait_status("users to be admitted", RECOVERY, all_up);
    let flows = stream.wait_flow(RECOVERY);
    let tally = stream.end()?;
    let recovering = recovering?;
    closed?;
    flows?;
    ensure!(
        !recovering.ready && recovering.state == UnitState::Running,
        "{recovering:?}"
    );
    ensure!(
        shown
            .as_ref()
            .is_ok_and(|shown| shown.contains("rejecting")),
        "`atalaya status` does not say it: {shown:?}"
    );
    check_untouched(&before, &after?, &[])?;
    ensure!(
        tally.posts.contains_key(&503),
        "the edge never answered 503: {:?}",
        tally.posts
    );
    tally.check_honest()?;
    tally.check_kept(&of.client, &of.channel)
}

/// A postmaster killed alone leaves its backends, and a stopped one does not go by itself: with it alive in the shared
/// memory, a second postmaster on the same directory is how databases are lost.
pub fn database_left_by_its_postmaster_is_emptied_before_the_next_start(
    of: &mut Supervise,
) -> anyhow::Result<()> {
    let before = unit(&of.wait_all_up()?, "postgres")?;
    let run = before.run.context("it has no run")?;
    let postmaster = before.pid.context("it has no pid")?;
    let left = backends(of, run)?;
    let left = left.first().context("Mattermost has no connection")?;
    let stream = of.stream("left")?;
    of.vm.agent()?.kill(left.pid, SIGSTOP)?;
    of.vm.agent()?.kill(postmaster, SIGKILL)?;
    let next = of.vm.wait_status("the next run", RECOVERY, |state| {
        let unit = state.units.get("postgres");
        unit.is_some_and(|unit| unit.run > Some(run) && unit.state == UnitState::Running)
    });
    let still = processes(&of.vm, "postgres", run)?;
    next?;
    ensure!(still.is_empty(), "of the killed run there are {still:?}");
    of.vm
        .wait_status("users to be admitted", RECOVERY, all_up)?;
    stream.wait_flow(RECOVERY)?;
    let tally = stream.end()?;
    tally.check_honest()?;
    tally.check_kept(&of.client, &of.channel)
}

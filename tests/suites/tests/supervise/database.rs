//! PostgreSQL's own processes die.

use anyhow::{Context, ensure};
use atalaya_suites::appliance::RECOVERY;
use atalaya_suites::inside::{SIGKILL, SIGSTOP, all_up, processes, unit};
use atalaya_vm::UnitState;
use atalaya_vm::agent_protocol::ProcessInfo;

use crate::Supervise;

/// The processes that serve Mattermost's connections.
fn backends(of: &Supervise, run: u64) -> anyhow::Result<Vec<ProcessInfo>> {
    let mut found = processes(&of.vm, "postgres", run)?;
    found.retain(|process| process.argv.iter().any(|word| word.contains("mattermost")));
    Ok(found)
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

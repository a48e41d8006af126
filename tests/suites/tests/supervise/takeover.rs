//! The supervisor itself is killed and stopped; init replaces it.

use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{RECOVERY, run};
use atalaya_suites::inside::{SIGKILL, SIGSTOP, all_up, check_untouched, supervisor, unit};
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

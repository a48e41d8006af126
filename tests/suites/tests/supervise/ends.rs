//! The machine dies or cannot: what brings it back.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{BOOT, wait_served};
use atalaya_suites::inside::AGENT;

use crate::Supervise;

/// The kernel restarts the machine ten seconds after a panic.
const PANIC: Duration = Duration::from_secs(60);
/// The watchdog's limit is a minute, and it may have been fed just before.
const BITE: Duration = Duration::from_secs(150);
/// All limits of a shutdown together.
const SHUTDOWN: Duration = Duration::from_secs(240);

fn back(of: &Supervise) -> anyhow::Result<()> {
    wait_served(&of.vm, BOOT)?;
    Ok(of.vm.agent()?.wait_ready(BOOT)?)
}

pub fn a_panic_restarts_the_machine(of: &mut Supervise) -> anyhow::Result<()> {
    let mark = of.vm.qmp().mark();
    of.vm
        .agent()?
        .launch(&[AGENT, "write", "/proc/sysrq-trigger", "c"])?;
    of.vm
        .wait_reset("the kernel to restart the machine", mark, PANIC)?;
    back(of)
}

/// PID 1 cannot be stopped by a signal, but its cgroup can be frozen.
pub fn a_hung_init_is_bitten(of: &mut Supervise) -> anyhow::Result<()> {
    let mark = of.vm.qmp().mark();
    of.vm.agent()?.launch(&[
        AGENT,
        "write",
        "/sys/fs/cgroup/atalaya.init/cgroup.freeze",
        "1",
    ])?;
    let bite = of.vm.qmp().wait_event("WATCHDOG", mark, BITE);
    ensure!(bite.is_some(), "the watchdog was fed by a frozen init");
    of.vm
        .wait_reset("the watchdog to restart the machine", mark, BITE)?;
    back(of)
}

/// Ctrl-S on the console, a disk that answers nothing, and so processes that no signal ends.
pub fn nothing_that_hangs_keeps_the_machine_from_restarting(
    of: &mut Supervise,
) -> anyhow::Result<()> {
    let stream = of.stream("last")?;
    let mut terminal = of.vm.open_terminal()?;
    terminal
        .write_all(&[0x13])
        .context("failed to type Ctrl-S")?;
    of.vm.end_on_reboot()?;
    let mark = of.vm.qmp().mark();
    of.disk.pause()?;
    of.vm.press_ctrl_alt_del()?;
    let end = of.vm.qmp().wait_event("SHUTDOWN", mark, SHUTDOWN);
    let bitten = of
        .vm
        .qmp()
        .wait_event("WATCHDOG", mark, Duration::ZERO)
        .is_some();
    // QEMU waits for its disk before it ends.
    of.disk.resume()?;
    drop(stream.end());
    let end = end.with_context(|| format!("it still runs:\n{}", of.vm.console().tail(40)))?;
    ensure!(
        end.data["reason"] == "guest-reset",
        "it ended for {}",
        end.data
    );
    ensure!(!bitten, "the watchdog had to restart it");
    Ok(())
}

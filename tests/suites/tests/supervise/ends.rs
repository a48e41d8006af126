//! The machine dies or cannot: what brings it back.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use atalaya_suites::appliance::{BOOT, run, wait_served};
use atalaya_suites::inside::{AGENT, cgroup, unit};
use atalaya_suites::story::eventually;
use atalaya_vm::agent_protocol::Entry;
use serde_json::Value;

use crate::Supervise;

/// The kernel restarts the machine ten seconds after a panic.
const PANIC: Duration = Duration::from_secs(60);
/// The watchdog's limit is a minute, and it may have been fed just before.
const BITE: Duration = Duration::from_secs(150);
const CTRL_S: u8 = 0x13;
const CTRL_Q: u8 = 0x11;
/// All limits of a shutdown together, but for PostgreSQL's: units 25 s, what is left of them 10 s, syncing 90 s, giving up
/// file systems 20 s each.
const SHUTDOWN: Duration = Duration::from_secs(300);

/// Something in the log that must survive the crash: it has reached the disk.
fn leave_a_line(of: &Supervise, path: &str) -> anyhow::Result<()> {
    of.client.get(path)?;
    let agent = of.vm.agent()?;
    eventually("the line to be in a segment", BOOT, || {
        let segments = agent.list("/data/logs", true)?;
        let holds = |file: &Entry| {
            let content = agent.read_file(&file.path).unwrap_or_default();
            let needle = path.as_bytes();
            content.windows(needle.len()).any(|part| part == needle)
        };
        let open = segments.iter().filter(|file| file.path.ends_with(".jsonl"));
        Ok(open.into_iter().any(holds).then_some(()))
    })?;
    run(&of.vm, &["/usr/sbin/xfs_io", "-c", "syncfs", "/data"]).map(drop)
}

/// Waits until it is up again, and how it then explains the end of the boot before.
fn check_explained(of: &Supervise, cause: &str, line: &str) -> anyhow::Result<()> {
    wait_served(&of.vm, BOOT)?;
    of.vm.agent()?.wait_ready(BOOT)?;
    let boots = run(&of.vm, &["/usr/bin/atalaya", "logs", "--boots", "--json"])?;
    let boots: Value = serde_json::from_str(&boots).context("the list of boots is no JSON")?;
    let list = boots.as_array().or_else(|| boots["boots"].as_array());
    let before = list
        .and_then(|list| list.iter().find(|boot| boot["index"] == -1))
        .with_context(|| format!("there is no boot before this one: {boots}"))?;
    ensure!(before["cause"] == cause, "the boot before: {before}");
    let log = run(&of.vm, &["/usr/bin/atalaya", "logs", "--boot", "-1"])?;
    ensure!(
        log.contains(line),
        "the boot before has lost its last lines"
    );
    Ok(())
}

pub fn a_panic_restarts_the_machine_and_is_explained(of: &mut Supervise) -> anyhow::Result<()> {
    leave_a_line(of, "/before-the-panic")?;
    let mark = of.vm.qmp().mark();
    of.vm
        .agent()?
        .launch(&[AGENT, "write", "/proc/sysrq-trigger", "c"])?;
    of.vm
        .wait_reset("the kernel to restart the machine", mark, PANIC)?;
    check_explained(of, "panic", "/before-the-panic")
}

/// PID 1 cannot be stopped by a signal, but its cgroup can be frozen.
pub fn a_hung_init_is_bitten_and_that_is_explained(of: &mut Supervise) -> anyhow::Result<()> {
    leave_a_line(of, "/before-the-bite")?;
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
    check_explained(of, "watchdog", "/before-the-bite")
}

/// Ctrl-S on the console, a disk that answers nothing, and so a process of a unit that no signal ends. PostgreSQL is
/// stopped before: it alone would be given five minutes.
///
/// init is done when it says that it restarts. Then the kernel resets its devices, and QEMU waits for a disk that does not
/// answer; where that takes too long, the watchdog, which init leaves armed, is the one that restarts the machine.
pub fn nothing_that_hangs_keeps_the_machine_from_restarting(
    of: &mut Supervise,
) -> anyhow::Result<()> {
    let agent = of.vm.agent()?;
    let victim = unit(&of.vm.status().snapshot(), "chronyd")?;
    run(&of.vm, &["/usr/bin/atalaya", "unit", "stop", "postgres"])?;
    agent.launch(&[AGENT, "hang", &cgroup(&victim)?, "/data/hang"])?;
    eventually("the process that will hang", BOOT, || {
        Ok(agent
            .stat("/data/hang")
            .is_ok_and(|file| file.size > 0)
            .then_some(()))
    })?;
    let mut terminal = of.vm.open_terminal()?;
    terminal
        .write_all(&[CTRL_S])
        .context("failed to type Ctrl-S")?;
    of.vm.end_on_reboot()?;
    let mark = of.vm.qmp().mark();
    of.disk.pause()?;
    of.vm.press_ctrl_alt_del()?;
    // The agent is a unit too: when it no longer answers, the machine is on its way down behind the stopped console.
    eventually("the agent to be stopped", BOOT, || {
        Ok(agent.stat("/").is_err().then_some(()))
    })?;
    let unheard = read_until(&mut terminal, "stopping all services", Duration::ZERO);
    ensure!(unheard.is_err(), "Ctrl-S did not stop the console");
    terminal
        .write_all(&[CTRL_Q])
        .context("failed to type Ctrl-Q")?;
    let said = read_until(&mut terminal, "end: restarting\r\n", SHUTDOWN)?;
    for word in ["cannot be killed", "end: gave up after", "made read-only"] {
        ensure!(said.contains(word), "nothing was said of {word:?}:\n{said}");
    }
    of.disk.resume()?;
    let end = (of.vm.qmp().wait_event("SHUTDOWN", mark, BITE)).context("it was not restarted")?;
    ensure!(
        end.data["reason"] == "guest-reset",
        "it ended for {}",
        end.data
    );
    Ok(())
}

/// What the serial line says up to `word`.
fn read_until(terminal: &mut UnixStream, word: &str, limit: Duration) -> anyhow::Result<String> {
    let begin = Instant::now();
    let mut said = String::new();
    let mut bytes = [0; 4096];
    terminal.set_read_timeout(Some(Duration::from_millis(200)))?;
    loop {
        match terminal.read(&mut bytes) {
            Ok(0) => bail!("the serial line is closed:\n{said}"),
            Ok(count) => said.push_str(&String::from_utf8_lossy(&bytes[..count])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("failed to read the serial line"),
        }
        if said.contains(word) {
            return Ok(said);
        }
        ensure!(begin.elapsed() < limit, "{word:?} was not said:\n{said}");
    }
}

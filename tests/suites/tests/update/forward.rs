//! The way that everybody goes: a command, and everything is a version ahead. And back, because somebody wants it so.

use std::time::Duration;

use anyhow::ensure;
use atalaya_suites::appliance::{BOOT, run, wait_served};
use atalaya_suites::download::Download;
use atalaya_suites::updating::{last_update, log_in, version, version_of};
use atalaya_vm::{CrashDisk, Disk, Packets, Snapshot, UnitState, WriteLog};

use crate::{Update, switch_off};

/// A whole system is fetched, written, read back and compared, on an emulated machine.
pub const INSTALL: Duration = Duration::from_secs(400);
const RESTART: Duration = Duration::from_secs(240);

/// The network is in use, so packets may go out.
fn sends(state: &Snapshot) -> bool {
    let networkd = state.units.get("networkd");
    networkd.is_some_and(|unit| {
        matches!(
            unit.state,
            UnitState::Starting | UnitState::Running | UnitState::Backoff
        )
    })
}

pub fn one_command_moves_everything_forward_and_a_rollback_back(
    of: &mut Update,
) -> anyhow::Result<()> {
    let folder = of.appliance.directory().to_owned();
    let (log, capture) = (folder.join("writes.log"), folder.join("packets.pcap"));
    let disk = Disk::recorded(of.appliance.disk(), &log);
    let machine = of.appliance.machine().boot_disk(disk).capture(&capture);
    let vm = machine.start()?;
    let packets = Packets::at(&capture);
    let state = wait_served(&vm, BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    ensure!(
        version(&state) == version_of(&of.one)?,
        "it began as {}",
        version(&state)
    );
    let client = log_in(&of.appliance, &state)?;
    of.check_kept(&client)?;

    let download = Download::start(&of.two.file("atalaya.bundle")?)?;
    of.marks.installing = WriteLog::count(&log)?;
    let mark = vm.qmp().mark();
    run(
        &vm,
        &[
            "/usr/bin/atalaya",
            "update",
            "install",
            "--yes",
            "--no-wait",
            &download.address(),
        ],
    )?;
    vm.wait_reset("the machine to restart into the new version", mark, INSTALL)?;
    of.marks.armed = WriteLog::count(&log)?;
    let before = packets.sent()?;

    // The trial: nothing leaves the machine before it has decided.
    let two = version_of(&of.two)?.to_owned();
    vm.wait_status(
        "the trial to end and the network to be used",
        RESTART,
        |state| version(state) == two && sends(state),
    )?;
    let during = packets.sent()?;
    ensure!(
        during == before,
        "{} packets left the machine during the trial",
        during - before
    );
    let client = of.wait_version(&vm, &of.two, 2)?;
    of.marks.opened = WriteLog::count(&log)?;
    ensure!(
        packets.sent()? > during,
        "nothing was counted: the capture shows nothing"
    );
    of.check_kept(&client)?;
    vm.agent()?.wait_ready(BOOT)?;
    let slot = vm.status().snapshot().boot.map(|boot| boot.slot);
    ensure!(slot.as_deref() == Some("b"), "it runs from slot {slot:?}");
    let history = last_update(&vm)?;
    ensure!(
        history["outcome"] == "opened" && history["to"] == two.as_str(),
        "the history ends with {history}"
    );
    ensure!(
        history["downtime"]
            .as_u64()
            .is_some_and(|seconds| seconds < 600),
        "the downtime is {}",
        history["downtime"]
    );
    client.make_post(&of.kept.channel, "written on version 2", &[])?;

    let mark = vm.qmp().mark();
    of.marks.going_back = WriteLog::count(&log)?;
    vm.agent()?
        .launch(&["/usr/bin/atalaya", "update", "rollback", "--yes"])?;
    vm.wait_reset("the machine to restart into the old version", mark, INSTALL)?;
    let client = of.wait_version(&vm, &of.one, 2)?;
    of.marks.back = WriteLog::count(&log)?;
    of.check_kept(&client)?;
    let messages = client.messages(&of.kept.channel)?;
    ensure!(
        !messages.contains(&"written on version 2".to_owned()),
        "what was written on version 2 is there, on the data of version 1"
    );
    switch_off(&vm)?;
    of.crash = Some(CrashDisk::start(&of.base, WriteLog::read(&log)?)?);
    Ok(())
}

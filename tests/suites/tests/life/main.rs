//! The life of one appliance: a fresh disk, users, killed units, restarts, power off.

mod confined;
mod generation;
mod killed;

use std::process::ExitCode;

use anyhow::{Context, ensure};
use atalaya_contract::Target;
use atalaya_suites::appliance::{
    ADMINISTRATOR, Appliance, BOOT, FIRST_BOOT, PASSWORD, POWER_OFF, RECOVERY, run, served,
    wait_served,
};
use atalaya_suites::client::Client;
use atalaya_suites::place::Place;
use atalaya_suites::story::{self, Step};
use atalaya_vm::{Snapshot, UnitState, Vm};
use killed::{KILLED, every_unit_has_its_step, kill_unit, killed_atalayad_leaves_units_alone};

const GIB: u64 = 1 << 30;

/// What the steps share.
struct Life {
    place: Place,
    appliance: Appliance,
    vm: Vm,
    client: Client,
    channel: String,
    kept: Kept,
}

/// What must still be there after every restart.
struct Kept {
    message: String,
    file: String,
    content: Vec<u8>,
    certificate: Vec<u8>,
}

fn main() -> ExitCode {
    let step = |name, run: fn(&mut Life) -> anyhow::Result<()>| Step { name, run };
    story::run(
        "life",
        begin,
        &[
            step("fresh_disk_to_page", fresh_disk_to_page),
            step(
                "every_unit_is_up_and_status_says_so",
                every_unit_is_up_and_status_says_so,
            ),
            step(
                "every_unit_is_as_confined_as_its_file_says",
                confined::every_unit_is_as_confined_as_its_file_says,
            ),
            step("contract_suite", contract_suite),
            step("probe", probe),
            step("data_fills_the_disk", data_fills_the_disk),
            step(
                "temporary_files_cannot_fill_the_disk",
                temporary_files_cannot_fill_the_disk,
            ),
            step(
                "generation_is_copied_and_removed",
                generation::generation_is_copied_and_removed,
            ),
            step(
                "password_of_the_seed_is_nowhere",
                password_of_the_seed_is_nowhere,
            ),
            step(
                "killed_atalayad_leaves_units_alone",
                killed_atalayad_leaves_units_alone,
            ),
            step("every_unit_has_its_step", every_unit_has_its_step),
            step("killed_udevd_comes_back", |life| kill_unit(life, "udevd")),
            step("killed_networkd_comes_back", |life| {
                kill_unit(life, "networkd")
            }),
            step("killed_resolved_comes_back", |life| {
                kill_unit(life, "resolved")
            }),
            step("killed_chronyd_comes_back", |life| {
                kill_unit(life, "chronyd")
            }),
            step("killed_console_comes_back", |life| {
                kill_unit(life, "console")
            }),
            step("killed_edge_comes_back", |life| kill_unit(life, "edge")),
            step("killed_postgres_comes_back", |life| {
                kill_unit(life, "postgres")
            }),
            step("killed_mattermost_comes_back", |life| {
                kill_unit(life, "mattermost")
            }),
            step("reboot_keeps_everything", reboot_keeps_everything),
            step(
                "ctrl_alt_del_reboots_in_order",
                ctrl_alt_del_reboots_in_order,
            ),
            step(
                "power_button_is_a_clean_shutdown",
                power_button_is_a_clean_shutdown,
            ),
            step("sbin_poweroff_asks_init", sbin_poweroff_asks_init),
        ],
    )
}

fn begin() -> anyhow::Result<Life> {
    let place = Place::from_environment();
    let appliance = Appliance::new(&place, &place.test_image()?, 20, true)?.seeded()?;
    let vm = appliance.start()?;
    nobody_is_admitted_yet(&appliance, &vm)?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    let mut client = appliance.client(&state)?;
    client.log_in(ADMINISTRATOR, PASSWORD)?;
    let channel = client.make_channel("life")?;
    let message = "the first post of all".to_owned();
    let content: Vec<u8> = (0..300_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let file = client.upload(&channel, "bytes.bin", &content)?;
    client.make_post(&channel, &message, &[&file])?;
    let certificate = client.server_certificate()?;
    Ok(Life {
        place,
        appliance,
        vm,
        client,
        channel,
        kept: Kept {
            message,
            file,
            content,
            certificate,
        },
    })
}

/// Before there is an administrator: the maintenance page, and an error that a chat client understands.
fn nobody_is_admitted_yet(appliance: &Appliance, vm: &Vm) -> anyhow::Result<()> {
    let early = |state: &Snapshot| state.ca.is_some() && state.is_ready("edge");
    let state = vm.wait_status("the edge to be up", FIRST_BOOT, early)?;
    let client = appliance.client(&state)?;
    let (page, call) = (client.get("/")?, client.get("/api/v4/users/me")?);
    let log_in = client.try_log_in(ADMINISTRATOR, PASSWORD)?;
    ensure!(
        !vm.status().snapshot().admit,
        "users were admitted before anything could be seen"
    );
    ensure!(
        page.status == 503 && page.header("retry-after").is_some(),
        "the page has status {}",
        page.status
    );
    ensure!(
        log_in.status == 503,
        "a log-in has status {}",
        log_in.status
    );
    let error = call.json(503).context("a call of the API")?;
    ensure!(
        error["status_code"] == 503 && error["message"].is_string(),
        "the API answers {error}"
    );
    Ok(())
}

fn fresh_disk_to_page(life: &mut Life) -> anyhow::Result<()> {
    let page = life.client.get("/")?;
    ensure!(page.status == 200, "the page has status {}", page.status);
    ensure!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html")),
        "the page is no HTML"
    );
    let plain = life.client.get_plain("/some/where?x=1")?;
    ensure!(
        (301..=308).contains(&plain.status),
        "port 80 answers {}",
        plain.status
    );
    let wanted = format!("{}/some/where?x=1", life.client.base());
    ensure!(
        plain.header("location") == Some(wanted.as_str()),
        "port 80 leads to {:?}",
        plain.header("location")
    );
    check_kept(life)
}

fn check_kept(life: &Life) -> anyhow::Result<()> {
    let me = life
        .client
        .get("/api/v4/users/me")?
        .json(200)
        .context("the session is gone")?;
    ensure!(
        me["username"] == ADMINISTRATOR,
        "the session is of {}",
        me["username"]
    );
    let messages = life.client.messages(&life.channel)?;
    ensure!(messages.contains(&life.kept.message), "the post is gone");
    ensure!(
        life.client.download(&life.kept.file)? == life.kept.content,
        "the file is not what it was"
    );
    ensure!(
        life.client.server_certificate()? == life.kept.certificate,
        "the certificate is another one"
    );
    Ok(())
}

fn every_unit_is_up_and_status_says_so(life: &mut Life) -> anyhow::Result<()> {
    let state = life
        .vm
        .wait_status("every unit to be up", RECOVERY, all_up)?;
    for unit in KILLED {
        ensure!(state.units.contains_key(unit), "there is no unit {unit}");
    }
    let boot = state.boot.context("no boot was reported")?;
    let manifest = life.place.test_image()?.manifest().clone();
    let said = run(&life.vm, &["/usr/bin/atalaya", "status"])?;
    for fact in [&boot.version, &boot.build, &boot.mattermost] {
        ensure!(
            said.contains(fact.as_str()),
            "`atalaya status` does not say {fact}:\n{said}"
        );
        ensure!(
            manifest.to_string().contains(fact.as_str()),
            "the manifest does not say {fact}"
        );
    }
    let unreadable = life.vm.status().unreadable();
    ensure!(unreadable.is_empty(), "the status port said {unreadable:?}");
    Ok(())
}

/// Nothing waits, nothing failed, and every service is ready.
fn all_up(state: &Snapshot) -> bool {
    let up = |state: UnitState| matches!(state, UnitState::Running | UnitState::Done);
    // What is not wanted at boot is Stopped.
    served(state)
        && state
            .units
            .values()
            .all(|unit| unit.state == UnitState::Stopped || up(unit.state) && unit.ready)
}

fn contract_suite(life: &mut Life) -> anyhow::Result<()> {
    let mut target = Target::new(life.client.base(), ADMINISTRATOR, PASSWORD);
    target.ca_pem = Some(life.client.ca_pem().to_owned());
    let report = atalaya_contract::run(&target)?;
    ensure!(
        report.all_passed(),
        "{} checks failed: {:#?}",
        report.failed(),
        report.failures()
    );
    Ok(())
}

fn probe(life: &mut Life) -> anyhow::Result<()> {
    run(&life.vm, &["/usr/bin/atalaya", "probe"]).map(drop)
}

fn data_fills_the_disk(life: &mut Life) -> anyhow::Result<()> {
    let (size, _) = life.vm.agent()?.file_system("/data")?;
    // 20 GiB less the boot partition, two slots, and what XFS keeps for itself.
    ensure!(
        size > 14 * GIB,
        "/data has {size} bytes on a disk of 20 GiB"
    );
    Ok(())
}

/// Mattermost's temporary directory takes 1 GiB and not 3, though the disk has room for more.
fn temporary_files_cannot_fill_the_disk(life: &mut Life) -> anyhow::Result<()> {
    const FOLDER: &str = "/data/tmp/mattermost";
    let agent = life.vm.agent()?;
    let path = format!("{FOLDER}/large");
    let size_after = |command: &str| -> anyhow::Result<u64> {
        agent.exec(&["/usr/sbin/xfs_io", "-f", "-c", command, &path])?;
        let entries = agent.list(FOLDER, false)?;
        let entry = entries.iter().find(|entry| entry.path == path);
        Ok(entry.context("the file was not made")?.size)
    };
    let (fits, too_large) = (size_after("falloc 0 1g")?, size_after("falloc 0 3g")?);
    size_after("truncate 0")?;
    ensure!(
        fits == GIB,
        "1 GiB was asked for, the file has {fits} bytes"
    );
    ensure!(too_large < 3 * GIB, "3 GiB of temporary files were taken");
    Ok(())
}

fn password_of_the_seed_is_nowhere(life: &mut Life) -> anyhow::Result<()> {
    let agent = life.vm.agent()?;
    for entry in agent.list("/data", true)? {
        let regular = entry.mode & 0o170_000 == 0o100_000;
        // The database's own files are large and hold only the hash.
        if !regular || entry.size == 0 || entry.size > 4 << 20 || entry.path.contains("/postgres/")
        {
            continue;
        }
        let content = agent.read_file(&entry.path)?;
        let found = content
            .windows(PASSWORD.len())
            .any(|part| part == PASSWORD.as_bytes());
        ensure!(!found, "{} holds the administrator's password", entry.path);
    }
    ensure!(
        !life.vm.console().text().contains(PASSWORD),
        "the console shows the administrator's password"
    );
    Ok(())
}

fn reboot_keeps_everything(life: &mut Life) -> anyhow::Result<()> {
    let mark = life.vm.qmp().mark();
    life.vm.agent()?.launch(&["/usr/bin/atalaya", "reboot"])?;
    back_after_reset(life, mark)
}

fn ctrl_alt_del_reboots_in_order(life: &mut Life) -> anyhow::Result<()> {
    let mark = life.vm.qmp().mark();
    life.vm.press_ctrl_alt_del()?;
    back_after_reset(life, mark)?;
    check_recovered_nothing(life)
}

fn back_after_reset(life: &mut Life, mark: usize) -> anyhow::Result<()> {
    life.vm
        .wait_reset("the machine to restart", mark, POWER_OFF)?;
    wait_served(&life.vm, BOOT)?;
    life.vm.agent()?.wait_ready(BOOT)?;
    check_kept(life)
}

fn power_button_is_a_clean_shutdown(life: &mut Life) -> anyhow::Result<()> {
    life.vm.press_power_button()?;
    let exit = life
        .vm
        .wait_exit("the machine to switch itself off", POWER_OFF)?;
    ensure!(exit.success(), "QEMU ended with {exit}");
    life.vm = life.appliance.start()?;
    wait_served(&life.vm, BOOT)?;
    life.vm.agent()?.wait_ready(BOOT)?;
    check_recovered_nothing(life)?;
    check_kept(life)
}

/// PostgreSQL's own log: its last shutdown was clean and its last start had nothing to recover. There is no other
/// witness of that than what PostgreSQL says.
fn check_recovered_nothing(life: &Life) -> anyhow::Result<()> {
    let log = run(&life.vm, &["/usr/bin/atalaya", "logs", "-u", "postgres"])?;
    let lines: Vec<&str> = log.lines().collect();
    let last = |what: &str| lines.iter().rposition(|line| line.contains(what));
    let started = last("database system is ready to accept connections")
        .context("PostgreSQL's log has no start")?;
    let stopped =
        last("database system is shut down").context("PostgreSQL's log has no clean shutdown")?;
    ensure!(
        stopped < started,
        "the last shutdown comes after the last start"
    );
    let between = &lines[stopped..started];
    let recovered = between
        .iter()
        .find(|line| line.contains("redo starts") || line.contains("not properly shut down"));
    ensure!(recovered.is_none(), "PostgreSQL recovered: {recovered:?}");
    ensure!(
        between
            .iter()
            .any(|line| line.contains("database system was shut down at")),
        "no clean start:\n{log}"
    );
    Ok(())
}

fn sbin_poweroff_asks_init(life: &mut Life) -> anyhow::Result<()> {
    life.vm.agent()?.launch(&["/sbin/poweroff"])?;
    let exit = life
        .vm
        .wait_exit("the machine to switch itself off", POWER_OFF)?;
    ensure!(exit.success(), "QEMU ended with {exit}");
    let state = life.vm.status().snapshot();
    ensure!(
        state.stopping.as_deref() == Some("poweroff"),
        "it was stopping for {:?}",
        state.stopping
    );
    for name in KILLED {
        let unit = state.units.get(name).context("a unit is gone")?;
        ensure!(
            unit.state == UnitState::Stopped,
            "{name} was {:?} at the end",
            unit.state
        );
    }
    Ok(())
}

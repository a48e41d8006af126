//! Every cause for which a trial fails, and one that is none: each machine begins with the disk on which version 2 is armed, and ends with
//! version 1, which says why, and with everything that was ever written.

use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::run;
use atalaya_suites::disk::partitions;
use atalaya_suites::download::Download;
use atalaya_suites::inside::{AGENT, replace_supervisor};
use atalaya_suites::story::eventually;
use atalaya_suites::updating::{last_update, version, version_of};
use atalaya_vm::{Cut, Vm};

use crate::Update;
use crate::forward::INSTALL;

type Run = fn(&mut Update) -> anyhow::Result<()>;

pub const STEPS: [(&str, Run); 13] = [
    (
        "three_silent_deaths_and_the_old_version_is_back",
        three_silent_deaths,
    ),
    ("a_kernel_panic_ends_the_trial", kernel_panic),
    ("a_hang_ends_the_trial", hang),
    ("a_dead_init_ends_the_trial", dead_init),
    ("a_spoiled_root_ends_the_trial", spoiled_root),
    (
        "a_kernel_image_that_does_not_load_ends_the_trial",
        unloadable,
    ),
    ("a_supervisor_that_dies_ends_the_trial", dying_supervisor),
    (
        "a_supervisor_that_dies_now_and_then_goes_on_with_the_trial",
        mortal_supervisor,
    ),
    ("a_unit_that_is_not_ready_ends_the_trial", unit_not_ready),
    (
        "a_migration_that_fails_ends_the_trial_at_its_first_try",
        failing_migration,
    ),
    (
        "a_migration_that_gets_nowhere_ends_the_trial",
        hanging_migration,
    ),
    (
        "a_post_that_does_not_go_through_ends_the_trial",
        failing_probe,
    ),
    (
        "an_old_version_that_comes_early_serves_its_own_data",
        old_version_early,
    ),
];

/// Three boots of the new version and one of the old one.
const TRIALS: u32 = 4;
const TRIAL: Duration = Duration::from_secs(240);
/// What is said of a version that could not say anything itself, of one that the loader gave up before it had counted three starts, and of one that
/// never came as far as to count a start.
const SILENT: &str = "3 times, and each time it ended without a word";
const GIVEN_UP: &str = "was started before version";
const UNHEARD: &str = "each time it ended before it could report anything";
const ENTRY: &str = "atalaya_000002";

/// How the boot partition says how often version 2 may be tried.
#[derive(Clone, Copy, PartialEq)]
enum Tries {
    Three,
    /// Two have been used up.
    Last,
}

/// A machine at the moment of its restart into version 2.
fn armed(of: &Update, tries: Tries) -> anyhow::Result<Vm> {
    show_armed(of, tries)?;
    of.boot(of.crash()?.disk())
}

fn show_armed(of: &Update, tries: Tries) -> anyhow::Result<()> {
    let crash = of.crash()?;
    let armed = of.marks.armed;
    crash.show(&Cut {
        position: armed,
        durable: armed,
        kept: Vec::new(),
    })?;
    if tries == Tries::Last {
        mtools(of, "mren", &[&entry("+3"), &entry("+1-2")])?;
    }
    Ok(())
}

fn entry(counter: &str) -> String {
    format!("::/EFI/Linux/{ENTRY}{counter}.efi")
}

/// A tool that changes a FAT file system, on the boot partition of the disk that is shown.
fn mtools(of: &Update, tool: &str, words: &[&str]) -> anyhow::Result<()> {
    let table = partitions(&of.base)?;
    let esp = table.first().context("the disk has no partitions")?;
    let mut command = of.place.tools()?.command(tool)?;
    of.crash()?.edit(esp.start, esp.length, |part| {
        command.arg("-i").arg(part).args(words);
        let output = command
            .output()
            .with_context(|| format!("failed to run {tool}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{tool} {words:?}: {said}");
        Ok(())
    })
}

/// Waits until version 2 has come up so far that it can be harmed.
fn wait_trial(of: &Update, vm: &Vm) -> anyhow::Result<()> {
    let two = version_of(&of.two)?.to_owned();
    vm.wait_status("the trial to begin", TRIAL, |state| version(state) == two)?;
    vm.agent()?.wait_ready(TRIAL)?;
    let state = vm.status().snapshot();
    ensure!(!state.admit, "users were admitted before anything was done");
    Ok(())
}

/// Version 1 serves, nothing is lost, and it says why.
fn check_back(of: &Update, vm: &Vm, why: &str) -> anyhow::Result<()> {
    let client = of.wait_version(vm, &of.one, TRIALS)?;
    of.check_kept(&client)?;
    vm.agent()?.wait_ready(TRIAL)?;
    let last = last_update(vm)?;
    let what = last["reason"]["what"].as_str().unwrap_or_default();
    ensure!(
        last["outcome"] == "rolled_back" && what.contains(why),
        "the history ends with {last}; {why:?} was expected"
    );
    Ok(())
}

fn mischief(vm: &Vm, words: &[&str]) -> anyhow::Result<()> {
    let argv: Vec<&str> = std::iter::once(AGENT)
        .chain(words.iter().copied())
        .collect();
    Ok(vm.agent()?.launch(&argv)?)
}

fn three_silent_deaths(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Three)?;
    for _ in 0..3 {
        wait_trial(of, &vm)?;
        let mark = vm.qmp().mark();
        vm.press_reset()?;
        vm.wait_reset("the reset", mark, TRIAL)?;
    }
    check_back(of, &vm, SILENT)
}

fn kernel_panic(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Last)?;
    wait_trial(of, &vm)?;
    mischief(&vm, &["write", "/proc/sysrq-trigger", "c"])?;
    check_back(of, &vm, GIVEN_UP)?;
    update_again(of, &vm)
}

fn hang(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Last)?;
    wait_trial(of, &vm)?;
    mischief(
        &vm,
        &["write", "/sys/fs/cgroup/atalaya.init/cgroup.freeze", "1"],
    )?;
    check_back(of, &vm, GIVEN_UP)
}

fn dead_init(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Last)?;
    wait_trial(of, &vm)?;
    mischief(&vm, &["stab", "1"])?;
    check_back(of, &vm, GIVEN_UP)
}

/// The data of slot b, behind its superblock and tree, which are as they should be.
fn spoiled_root(of: &mut Update) -> anyhow::Result<()> {
    show_armed(of, Tries::Last)?;
    let table = partitions(&of.base)?;
    let root = table.get(3).context("the disk has no second slot")?;
    of.crash()?.zero(root.start, 64 << 20)?;
    let vm = of.boot(of.crash()?.disk())?;
    check_back(of, &vm, UNHEARD)
}

fn unloadable(of: &mut Update) -> anyhow::Result<()> {
    show_armed(of, Tries::Last)?;
    let short = of.appliance.directory().join("short.efi");
    let whole = std::fs::read(of.two.file("atalaya.efi")?)?;
    std::io::Write::write_all(
        &mut std::fs::File::create(&short)?,
        &whole[..whole.len() / 2],
    )?;
    let short = short.to_str().context("the folder's name is no text")?;
    mtools(of, "mcopy", &["-o", short, &entry("+1-2")])?;
    let vm = of.boot(of.crash()?.disk())?;
    check_back(of, &vm, UNHEARD)
}

fn dying_supervisor(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Last)?;
    wait_trial(of, &vm)?;
    mischief(&vm, &["slay", "/sys/fs/cgroup/atalaya.daemon", "atalayad"])?;
    check_back(of, &vm, "its supervisor has died five times")
}

/// Twice is no reason to give a version up: who comes next takes over what runs.
fn mortal_supervisor(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Three)?;
    wait_trial(of, &vm)?;
    for _ in 0..2 {
        replace_supervisor(&vm, TRIAL)?;
    }
    of.check_kept(&of.wait_version(&vm, &of.two, 2)?)
}

fn unit_not_ready(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Three)?;
    wait_trial(of, &vm)?;
    mischief(&vm, &["freeze", "edge"])?;
    check_back(of, &vm, "edge")
}

/// The server reads it at each use, so it counts from now on.
fn server_fault(vm: &Vm, word: &str) -> anyhow::Result<()> {
    let file = "/data/gen/2/mattermost/files/standin-faults";
    run(vm, &[AGENT, "lay", file, word])?;
    Ok(())
}

/// The same, before the server has come as far as to its migration.
fn migration_fault(of: &Update, vm: &Vm, word: &str) -> anyhow::Result<()> {
    wait_trial(of, vm)?;
    server_fault(vm, word)?;
    let state = vm.status().snapshot();
    let is_up = state.units.get("mattermost").is_some_and(|unit| unit.ready);
    ensure!(!is_up, "the server was up before it could be told to fail");
    Ok(())
}

fn failing_migration(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Three)?;
    migration_fault(of, &vm, "fail-migration")?;
    check_back(of, &vm, "mattermost has ended in its start")?;
    let log = last_update(&vm)?["reason"]["log"].to_string();
    let says = "failed to apply database migrations: migration 11";
    ensure!(log.contains(says), "{says:?} is not in the kept log: {log}");
    Ok(())
}

fn hanging_migration(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Three)?;
    migration_fault(of, &vm, "hang-migration")?;
    // As a seed would say it; it is read at each look.
    let configuration = "/run/atalaya/appliance.toml";
    let mut text = eventually("the configuration", TRIAL, || {
        Ok(vm.agent()?.read_file(configuration).ok())
    })?;
    text.extend(b"\n[update]\nmigration_patience_seconds = 60\n");
    vm.agent()?.write_file(configuration, &text, 0o644)?;
    let why = "nothing was written and nothing computed for 1 minute";
    check_back(of, &vm, why)
}

fn failing_probe(of: &mut Update) -> anyhow::Result<()> {
    let vm = armed(of, Tries::Three)?;
    wait_trial(of, &vm)?;
    server_fault(&vm, "lose-post")?;
    check_back(of, &vm, "")?;
    update_again(of, &vm)
}

/// The loader cannot start version 2 at all, say because its entry is gone.
fn old_version_early(of: &mut Update) -> anyhow::Result<()> {
    show_armed(of, Tries::Three)?;
    mtools(of, "mdel", &[&entry("+3")])?;
    let vm = of.boot(of.crash()?.disk())?;
    check_back(of, &vm, "")?;
    eventually("the copy for version 2 to be gone", TRIAL, || {
        let there = vm.agent()?.list("/data/gen", false)?;
        let is_good = |path: &str| path == "/data/gen/1";
        Ok((there.iter().all(|entry| is_good(&entry.path))).then_some(()))
    })
}

/// The same version once more, because somebody says so; nothing harms it this time.
fn update_again(of: &Update, vm: &Vm) -> anyhow::Result<()> {
    let download = Download::start(&of.two.file("atalaya.bundle")?)?;
    let mark = vm.qmp().mark();
    let address = download.address();
    let install = [
        "/usr/bin/atalaya",
        "update",
        "install",
        "--yes",
        "--no-wait",
    ];
    run(vm, &[&install[..], &["--again", &address]].concat())?;
    vm.wait_reset("the machine to restart into the new version", mark, INSTALL)?;
    of.check_kept(&of.wait_version(vm, &of.two, 2)?)
}

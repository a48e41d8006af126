//! Power cuts, at any moment of an update and of a rollback: what a disk may hold then is worked out from the recording.

use anyhow::{Context, bail, ensure};
use atalaya_suites::aftermath::problems;
use atalaya_suites::appliance::{BOOT, FIRST_BOOT, served, wait_served};
use atalaya_suites::inside::AGENT;
use atalaya_suites::updating::{log_in, version, version_of};
use atalaya_vm::agent_protocol::examine::Examined;
use atalaya_vm::{Cut, Dice, Disk, Vm};

use crate::Update;

/// So many disks are looked at, and so many booted; `make soak` takes more.
const EXAMINED: usize = 200;
const BOOTED: usize = 10;

fn number(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Cuts over the whole recording, most of them where something is decided.
fn cuts(of: &Update, count: usize, seed: u64) -> anyhow::Result<Vec<Cut>> {
    let entries = of.crash()?.log().entries();
    let marks = of.marks;
    let mut dice = Dice::new(seed);
    let stretches = [
        (marks.installing..marks.armed, 4),
        (marks.armed..marks.opened, 4),
        (marks.going_back..marks.back, 2),
    ];
    let mut list = Vec::new();
    for (stretch, tenths) in stretches {
        ensure!(!stretch.is_empty(), "nothing was recorded in {stretch:?}");
        list.extend(Cut::spread(
            entries,
            stretch,
            count * tenths / 10,
            &mut dice,
        ));
    }
    Ok(list)
}

fn examine(vm: &Vm) -> anyhow::Result<Examined> {
    let output = vm.agent()?.exec(&[AGENT, "examine", "vdb"])?;
    ensure!(output.code == Some(0), "{}", output.stderr.trim());
    serde_json::from_str(&output.stdout).context("what was found is no JSON")
}

pub fn any_power_cut_leaves_something_that_boots(of: &mut Update) -> anyhow::Result<()> {
    let crash = of.crash()?;
    crash.blank()?;
    let machine = of.appliance.machine();
    let vm = machine
        .boot_disk(Disk::thrown_away(&of.base))
        .extra_disk(crash.disk())
        .start()?;
    wait_served(&vm, BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    let cuts = cuts(of, number("ATALAYA_CUTS", EXAMINED), 1)?;
    let mut failed = Vec::new();
    for cut in &cuts {
        crash.show(cut)?;
        let found = examine(&vm);
        let list = match &found {
            Ok(found) => problems(found),
            Err(error) => vec![format!("{error:#}")],
        };
        if !list.is_empty() {
            failed.push(format!("{}: {list:?}\n{found:?}", describe(of, cut)));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    failed.truncate(5);
    bail!(
        "of {} disks some do not boot:\n{}",
        cuts.len(),
        failed.join("\n")
    )
}

fn describe(of: &Update, cut: &Cut) -> String {
    format!(
        "cut at {} ({} flushed, {} of the rest kept; {:?})",
        cut.position,
        cut.durable,
        cut.kept.len(),
        of.marks
    )
}

pub fn after_a_power_cut_the_page_is_served_and_the_post_is_there(
    of: &mut Update,
) -> anyhow::Result<()> {
    let crash = of.crash()?;
    let known = [version_of(&of.one)?, version_of(&of.two)?];
    for cut in cuts(of, number("ATALAYA_CUT_BOOTS", BOOTED), 2)? {
        crash.show(&cut)?;
        let serve = || -> anyhow::Result<()> {
            let vm = of.boot(crash.disk())?;
            // Perhaps a trial that fails, three times, and then the old version.
            let state = vm.wait_status("users to be admitted", FIRST_BOOT * 2, served)?;
            ensure!(
                known.contains(&version(&state)),
                "it is {}",
                version(&state)
            );
            of.check_kept(&log_in(&of.appliance, &state)?)
        };
        serve().with_context(|| describe(of, &cut))?;
    }
    Ok(())
}

//! Updates of a whole machine: forward, back on demand, back by itself for every cause there is, and power cuts at any
//! moment of it. The first way forward is recorded; every later machine begins with the disk as it was at some moment of
//! that recording, so nothing is installed twice.

mod anew;
mod causes;
mod cuts;
mod forward;
mod ways;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{Appliance, BOOT, FIRST_BOOT, POWER_OFF, wait_served};
use atalaya_suites::client::Client;
use atalaya_suites::disk::copy_grown;
use atalaya_suites::place::{Image, Place};
use atalaya_suites::story::{self, Branches, Step};
use atalaya_suites::updating::{log_in, version, version_of};
use atalaya_vm::{CrashDisk, Disk, Vm};

const GIB: u64 = 1 << 30;
const DISK: u64 = 12;

/// What the steps share.
pub struct Update {
    place: Place,
    one: Image,
    two: Image,
    appliance: Appliance,
    /// The disk of version 1 with a post, switched off; nobody writes to it.
    base: PathBuf,
    kept: Arc<Kept>,
    marks: Marks,
    /// There once the way forward was recorded.
    crash: Option<CrashDisk>,
}

/// What must be there whatever happens to an update.
pub struct Kept {
    channel: String,
    message: String,
    file: String,
    content: Vec<u8>,
}

/// How many writes the recording holds at each moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Marks {
    installing: usize,
    armed: usize,
    opened: usize,
    going_back: usize,
    back: usize,
}

fn main() -> ExitCode {
    let step = |name, run: fn(&mut Update) -> anyhow::Result<()>| Step { name, run };
    let steps = [
        step(
            "one_command_moves_everything_forward_and_a_rollback_back",
            forward::one_command_moves_everything_forward_and_a_rollback_back,
        ),
        step("ways_in_and_what_may_come_between", ways::ways),
    ];
    let mut aside = vec![
        step(
            "after_a_power_cut_the_page_is_served_and_the_post_is_there",
            cuts::after_a_power_cut_the_page_is_served_and_the_post_is_there,
        ),
        step(
            "any_power_cut_leaves_something_that_boots",
            cuts::any_power_cut_leaves_something_that_boots,
        ),
    ];
    aside.extend(causes::STEPS.map(|(name, run)| step(name, run)));
    aside.push(step(
        "an_image_written_over_the_system_keeps_the_data",
        anew::an_image_written_over_the_system_keeps_the_data,
    ));
    let branches = Branches {
        branch: &Update::another,
        steps: &aside,
    };
    story::run_with_branches("update", begin, &steps, &branches)
}

fn begin() -> anyhow::Result<Update> {
    let place = Place::from_environment();
    let one = place.test_image()?;
    let two = place.next_test_image()?;
    two.file("atalaya.bundle")?;
    let appliance = Appliance::new(&place, &one, DISK, true)?
        .seeded()?
        // The bundle is fetched from this host.
        .change(|machine| machine.isolated(false));
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    let client = log_in(&appliance, &state)?;
    let channel = client.make_channel("update")?;
    let content: Vec<u8> = (0..300_000_u32)
        .map(|number| (number % 241) as u8)
        .collect();
    let file = client.upload(&channel, "bytes.bin", &content)?;
    let kept = Kept {
        message: "written before any update".to_owned(),
        channel,
        file,
        content,
    };
    client.make_post(&kept.channel, &kept.message, &[&kept.file])?;
    switch_off(&vm)?;
    let base = appliance.directory().join("base.raw");
    copy_grown(&appliance.disk(), &base, DISK * GIB)?;
    Ok(Update {
        place,
        one,
        two,
        appliance,
        base,
        kept: Arc::new(kept),
        marks: Marks::default(),
        crash: None,
    })
}

fn switch_off(vm: &Vm) -> anyhow::Result<()> {
    vm.press_power_button()?;
    let exit = vm.wait_exit("the machine to switch itself off", POWER_OFF)?;
    ensure!(exit.success(), "QEMU ended with {exit}");
    Ok(())
}

impl Update {
    /// The same recording, for a machine beside this one's.
    fn another(&self) -> anyhow::Result<Update> {
        let log = self.crash()?.log().clone();
        Ok(Update {
            place: self.place.clone(),
            one: self.one.clone(),
            two: self.two.clone(),
            appliance: self.appliance.another()?,
            base: self.base.clone(),
            kept: Arc::clone(&self.kept),
            marks: self.marks,
            crash: Some(CrashDisk::start(&self.base, log)?),
        })
    }

    /// What was written before the update is there, text and file.
    fn check_kept(&self, client: &Client) -> anyhow::Result<()> {
        let messages = client.messages(&self.kept.channel)?;
        ensure!(
            messages.contains(&self.kept.message),
            "the post is gone; there are {messages:?}"
        );
        let content = client.download(&self.kept.file)?;
        ensure!(content == self.kept.content, "the file has changed");
        Ok(())
    }

    fn crash(&self) -> anyhow::Result<&CrashDisk> {
        let crash = self.crash.as_ref();
        crash.context("nothing was recorded: the step before this one has to run")
    }

    /// A machine with the tests' ports that boots this disk.
    fn boot(&self, disk: Disk) -> anyhow::Result<Vm> {
        let appliance = &self.appliance;
        Ok(appliance.machine().boot_disk(disk).watchdog(true).start()?)
    }

    /// Waits until this version, and no other, admits users; gives a client that is logged in.
    fn wait_version(&self, vm: &Vm, image: &Image, times: u32) -> anyhow::Result<Client> {
        let wanted = version_of(image)?;
        let state = vm.wait_status(
            &format!("version {wanted} to admit users"),
            BOOT * times,
            |state| version(state) == wanted && atalaya_suites::appliance::served(state),
        )?;
        log_in(&self.appliance, &state)
    }
}

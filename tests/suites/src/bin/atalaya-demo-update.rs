//! `make demo-update`: on one screen, an update that goes well and one that comes back by itself. Everything is real but
//! the server (the stand-in, in whose third version posts get lost) and the way in: commands are given by the test agent.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{
    ADMINISTRATOR, Appliance, BOOT, FIRST_BOOT, PASSWORD, POWER_OFF, run, served, wait_served,
};
use atalaya_suites::client::Client;
use atalaya_suites::download::Download;
use atalaya_suites::place::{Image, Place};
use atalaya_vm::{Snapshot, Vm};
use serde_json::Value;

/// A whole update on an emulated machine: written, restarted, tried, and perhaps restarted once more.
const UPDATE: Duration = Duration::from_secs(1200);
const MESSAGE: &str = "Hello from version 1";

fn main() -> ExitCode {
    let mut screen = Screen {
        begun: Instant::now(),
        live: std::io::stdout().is_terminal(),
    };
    match show(&mut screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.say("FAILED", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Lines with the time since the beginning; one of them may still change where somebody looks on.
struct Screen {
    begun: Instant,
    live: bool,
}

impl Screen {
    fn line(&self, what: &str, text: &str) -> String {
        let seconds = self.begun.elapsed().as_secs();
        format!("{:3}:{:02}  {what:<10} {text}", seconds / 60, seconds % 60)
    }

    #[allow(clippy::print_stdout, reason = "a program for people")]
    fn say(&mut self, what: &str, text: &str) {
        let clear = if self.live { "\r\u{1b}[K" } else { "" };
        println!("{clear}{}", self.line(what, text));
    }

    /// Shown until the next line is; nowhere where nobody looks on.
    #[allow(clippy::print_stdout, reason = "a program for people")]
    fn now(&mut self, what: &str, text: &str) {
        if self.live {
            print!("\r\u{1b}[K{}", self.line(what, text));
            // Nobody looks on any more.
            std::io::stdout().flush().ok();
        }
    }
}

fn show(screen: &mut Screen) -> anyhow::Result<()> {
    let place = Place::from_environment();
    let images: Vec<String> = std::env::args().skip(1).collect();
    let [one, two, three] = images.as_slice() else {
        anyhow::bail!("three folders of test images are wanted: make demo-update names them");
    };
    let image = |folder: &str| Image::at(Path::new(folder));
    let (one, two, three) = (image(one)?, image(two)?, image(three)?);
    let appliance = Appliance::new(&place, &one, 12, true)?
        .seeded()?
        .change(|machine| machine.isolated(false));
    screen.now("machine", "starts for the first time");
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    screen.say("machine", &serving(&state));
    let mut client = log_in(&appliance, &state)?;
    let channel = client.make_channel("demo")?;
    client.make_post(&channel, MESSAGE, &[])?;
    screen.say("post", &format!("written: {MESSAGE:?}"));

    let state = update(screen, &vm, &two)?;
    ensure!(
        version(&state) == version_of(&two)?,
        "it serves {}",
        version(&state)
    );
    screen.say("machine", &serving(&state));
    client = log_in(&appliance, &state)?;
    check_post(screen, &client, &channel)?;
    tell_history(screen, &vm)?;

    screen.say("broken", "the next version takes posts and loses them");
    let state = update(screen, &vm, &three)?;
    ensure!(
        version(&state) == version_of(&two)?,
        "it serves {}",
        version(&state)
    );
    screen.say("machine", &serving(&state));
    client = log_in(&appliance, &state)?;
    check_post(screen, &client, &channel)?;
    tell_history(screen, &vm)?;

    vm.press_power_button()?;
    vm.wait_exit("the machine to switch itself off", POWER_OFF)?;
    screen.say("machine", "switched off");
    Ok(())
}

fn serving(state: &Snapshot) -> String {
    let slot = state.boot.as_ref().map_or("?", |boot| &boot.slot);
    format!("version {} serves, from slot {slot}", version(state))
}

fn version(state: &Snapshot) -> &str {
    state.boot.as_ref().map_or("none", |boot| &boot.version)
}

fn version_of(image: &Image) -> anyhow::Result<&str> {
    let version = image.manifest()["version"].as_str();
    version.context("the image's manifest has no version")
}

fn log_in(appliance: &Appliance, state: &Snapshot) -> anyhow::Result<Client> {
    let mut client = appliance.client(state)?;
    client.log_in(ADMINISTRATOR, PASSWORD)?;
    Ok(client)
}

fn check_post(screen: &mut Screen, client: &Client, channel: &str) -> anyhow::Result<()> {
    let there = client.messages(channel)?.contains(&MESSAGE.to_owned());
    ensure!(there, "the post is gone");
    screen.say("post", &format!("still there: {MESSAGE:?}"));
    Ok(())
}

/// Installs the image's bundle and follows it until users are admitted again, by whichever version.
fn update(screen: &mut Screen, vm: &Vm, image: &Image) -> anyhow::Result<Snapshot> {
    let wanted = version_of(image)?;
    let download = Download::start(&image.file("atalaya.bundle")?)?;
    screen.say("update", &format!("to {wanted}"));
    let install = [
        "/usr/bin/atalaya",
        "update",
        "install",
        "--yes",
        "--no-wait",
    ];
    let before = vm.status().snapshot();
    run(vm, &[&install[..], &[&download.address()]].concat())?;
    let begun = Instant::now();
    let mut last = String::new();
    loop {
        let state = vm.status().snapshot();
        let rebooted = state.boot_id() != before.boot_id();
        if rebooted && served(&state) && vm.agent()?.wait_ready(Duration::from_secs(2)).is_ok() {
            return Ok(state);
        }
        ensure!(
            begun.elapsed() < UPDATE,
            "{}",
            vm.deadline("the update to end", UPDATE)
        );
        ensure!(vm.exit().is_none(), "the machine is gone");
        let stage = match &state.boot {
            None => "restarting".to_owned(),
            Some(_) if rebooted => format!("version {} starts and is tried", version(&state)),
            Some(_) => progress(vm).unwrap_or_else(|| "restarting".to_owned()),
        };
        match stage.split_once(": ") {
            Some((_, detail)) => screen.now("update", detail),
            None if stage != last => screen.say("update", &stage),
            None => {}
        }
        // Refused before anything was at stake: it says why in its history.
        if !rebooted && stage == "failed" {
            tell_history(screen, vm)?;
            anyhow::bail!("the update to {wanted} was not installed");
        }
        last = stage;
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What the machine itself says of an update that is being written; nothing while it does not answer.
fn progress(vm: &Vm) -> Option<String> {
    let output = vm
        .agent()
        .ok()?
        .exec(&["/usr/bin/atalaya", "--json", "update", "status"]);
    let answer: Value = serde_json::from_str(&output.ok()?.stdout).ok()?;
    let stage = answer["stage"].as_str()?;
    let progress = &answer["progress"];
    match (progress["done"].as_u64(), progress["total"].as_u64()) {
        (Some(done), Some(total)) if total > 0 => Some(format!(
            "{stage}: {} % of {} MiB ({})",
            done * 100 / total,
            total >> 20,
            progress["step"].as_str().unwrap_or(stage)
        )),
        _ => Some(stage.to_owned()),
    }
}

fn tell_history(screen: &mut Screen, vm: &Vm) -> anyhow::Result<()> {
    let text = run(vm, &["/usr/bin/atalaya", "--json", "update", "history"])?;
    let list: Value = serde_json::from_str(&text).context("the history is no JSON")?;
    let list = list.as_array().or_else(|| list["history"].as_array());
    let last = list
        .and_then(|list| list.last())
        .context("the history is empty")?;
    let field = |name: &str| last[name].as_str().unwrap_or("?").replace('_', " ");
    let downtime = last["downtime"].as_u64().unwrap_or(0);
    screen.say(
        "history",
        &format!(
            "{} to {}: {}, {downtime} s closed",
            field("from"),
            field("to"),
            field("outcome")
        ),
    );
    if let Some(what) = last["reason"]["what"].as_str() {
        screen.say("reason", what);
    }
    Ok(())
}

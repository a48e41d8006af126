//! `make demo-update`: on one screen, an update that goes well and one that comes back by itself. Everything is real but
//! the server (the stand-in, in whose third version posts get lost) and the way in: commands are given by the test agent.

mod screen;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use atalaya_core::words::{duration, size};
use atalaya_suites::appliance::{
    ADMINISTRATOR, Appliance, BOOT, FIRST_BOOT, PASSWORD, POWER_OFF, run, served,
};
use atalaya_suites::client::Client;
use atalaya_suites::download::Download;
use atalaya_suites::place::{Image, Place};
use atalaya_suites::story::eventually;
use atalaya_vm::{Snapshot, UnitState, Vm};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use screen::{Screen, Tone};

/// A whole update on an emulated machine: written, restarted, tried, and perhaps restarted once more.
const UPDATE: Duration = Duration::from_secs(1200);
/// A machine that is going down answers no more.
const ANSWER: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(500);
const MESSAGE: &str = "Hello from version 1";
const GIB: u64 = 12;

fn main() -> ExitCode {
    let mut screen = Screen::new();
    match show(&mut screen) {
        Ok(()) => {
            let time = duration(screen.seconds() * 1000);
            let end = format!(
                "Done after {time}: one version was kept, one came back by itself, and the post was there throughout. \
                 The machine is switched off and its disk removed."
            );
            screen.end(Tone::Good, &end);
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen.end(
                Tone::Bad,
                &format!("FAILED: {error:#}. The machine and its disk are removed."),
            );
            ExitCode::FAILURE
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
    screen.begin("Atalaya: an update that goes well, and one that comes back by itself");
    let appliance = Appliance::new(&place, &one, GIB, true)?
        .seeded()?
        .change(|machine| machine.isolated(false));
    clean_up_on_signals(appliance.directory())?;

    let vm = appliance.start()?;
    let what = format!("version {} starts for the first time", version_of(&one)?);
    let state = wait(screen, &vm, &what, FIRST_BOOT)?;
    screen.say(Tone::Plain, &serving(&state));
    let client = log_in(&appliance, &state)?;
    let channel = client.make_channel("demo")?;
    client.make_post(&channel, MESSAGE, &[])?;
    screen.say(Tone::Good, &format!("a post is written: {MESSAGE:?}"));

    let kept = version_of(&two)?;
    screen.heading(&format!("Update to {kept}"));
    let state = update(screen, &vm, &two)?;
    let last = history(&vm)?;
    ensure!(
        version(&state) == kept,
        "version {} serves, {kept} was taken back: {}",
        version(&state),
        last["reason"]["what"]
    );
    screen.say(
        Tone::Plain,
        &format!("{}{}", serving(&state), kept_out(&last)),
    );
    check_post(screen, &appliance, &state, &channel)?;

    let broken = version_of(&three)?;
    screen.heading(&format!(
        "Update to {broken}, in which the server takes posts and loses them"
    ));
    let state = update(screen, &vm, &three)?;
    ensure!(
        version(&state) == kept,
        "version {} serves, although it loses posts",
        version(&state)
    );
    let last = history(&vm)?;
    screen.say(
        Tone::Plain,
        &format!("{}{}", serving(&state), kept_out(&last)),
    );
    let reason = last["reason"]["what"].as_str();
    let reason = reason.context("the machine does not say why it went back")?;
    screen.say(Tone::Warning, &format!("it says why: {reason}"));
    check_post(screen, &appliance, &state, &channel)?;

    screen.wait("the machine is being switched off", "");
    vm.press_power_button()?;
    vm.wait_exit("the machine to switch itself off", POWER_OFF)?;
    Ok(())
}

/// QEMU ends with this process; the disk would be left.
fn clean_up_on_signals(directory: &Path) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])
        .context("failed to wait for signals")?;
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            std::fs::remove_dir_all(&directory).ok();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Until users are admitted, and the machine can be asked.
fn wait(screen: &mut Screen, vm: &Vm, what: &str, limit: Duration) -> anyhow::Result<Snapshot> {
    let begun = Instant::now();
    loop {
        let state = vm.status().snapshot();
        if served(&state) {
            vm.agent()?.wait_ready(BOOT)?;
            return Ok(state);
        }
        ensure!(vm.exit().is_none(), "QEMU has ended");
        ensure!(
            begun.elapsed() < limit,
            "{}",
            vm.deadline("users to be admitted", limit)
        );
        screen.wait(what, &ready(&state));
        std::thread::sleep(PAUSE);
    }
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

fn check_post(
    screen: &mut Screen,
    appliance: &Appliance,
    state: &Snapshot,
    channel: &str,
) -> anyhow::Result<()> {
    // On a slow machine a service may just be late, and users would see a page that says so.
    let messages = eventually("the channel to be read", BOOT, || {
        let read = || log_in(appliance, state)?.messages(channel);
        Ok(read().ok())
    })?;
    let there = messages.contains(&MESSAGE.to_owned());
    ensure!(there, "the post is gone");
    screen.say(Tone::Good, &format!("the post is there: {MESSAGE:?}"));
    Ok(())
}

/// Where an update is, as seen from outside.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    /// The version before still runs.
    Here,
    Restarting,
    Trial,
    /// The version before starts again.
    Back,
    /// Users are in again, by whichever version.
    Served,
}

fn course(before: &Snapshot, now: &Snapshot, wanted: &str) -> Course {
    match &now.boot {
        None => Course::Restarting,
        Some(_) if now.boot_id() == before.boot_id() => Course::Here,
        Some(_) if served(now) => Course::Served,
        Some(_) if version(now) == wanted => Course::Trial,
        Some(_) => Course::Back,
    }
}

/// Installs the image's bundle and follows it until users are admitted again, by whichever version.
fn update(screen: &mut Screen, vm: &Vm, image: &Image) -> anyhow::Result<Snapshot> {
    let wanted = version_of(image)?;
    let download = Download::start(&image.file("atalaya.bundle")?)?;
    let before = vm.status().snapshot();
    let (program, address) = ("/usr/bin/atalaya", download.address());
    run(
        vm,
        &[program, "update", "install", "--yes", "--no-wait", &address],
    )?;
    let begun = Instant::now();
    let (mut seen, mut written) = (Course::Here, false);
    loop {
        let state = vm.status().snapshot();
        ensure!(vm.exit().is_none(), "QEMU has ended");
        ensure!(
            begun.elapsed() < UPDATE,
            "{}",
            vm.deadline("the update to end", UPDATE)
        );
        let course = course(&before, &state, wanted);
        if course != seen {
            match course {
                Course::Trial => screen.say(
                    Tone::Plain,
                    &format!("version {wanted} starts on the copy, to be tried with a real post"),
                ),
                Course::Back => screen.say(
                    Tone::Warning,
                    &format!(
                        "{wanted} gave up by itself: {} starts again",
                        version(&state)
                    ),
                ),
                Course::Here | Course::Restarting | Course::Served => {}
            }
        }
        match course {
            Course::Served => {
                vm.agent()?.wait_ready(BOOT)?;
                return Ok(state);
            }
            Course::Here => match progress(vm) {
                Some(progress) => {
                    // It says why in its history.
                    ensure!(
                        progress.busy,
                        "the update was refused: {}",
                        history(vm)?["reason"]["what"]
                    );
                    if !written && progress.stage != "writing" {
                        written = true;
                        let text =
                            "the bundle is verified and written to the other slot, read back";
                        screen.say(Tone::Plain, text);
                    }
                    screen.wait(&progress.words, &progress.detail);
                }
                None => screen.wait("the machine is restarting", ""),
            },
            Course::Restarting => {
                if seen == Course::Here {
                    let text = "users are kept out, the data copied; the machine restarts";
                    screen.say(Tone::Plain, text);
                }
                screen.wait("the machine is restarting", "");
            }
            Course::Trial => screen.wait(&format!("{wanted} is on trial"), &ready(&state)),
            Course::Back => {
                screen.wait(&format!("{} starts", version(&state)), &ready(&state));
            }
        }
        seen = course;
        std::thread::sleep(PAUSE);
    }
}

/// Of those that are wanted.
fn ready(state: &Snapshot) -> String {
    let wanted = state
        .units
        .values()
        .filter(|unit| unit.state != UnitState::Stopped);
    let (ready, all) = wanted.fold((0, 0), |(ready, all), unit| {
        (ready + usize::from(unit.ready), all + 1)
    });
    match all {
        0 => String::new(),
        all => format!("{ready} of {all} services are ready"),
    }
}

/// What the machine itself says of an update that has not restarted it yet.
struct Progress {
    stage: String,
    words: String,
    detail: String,
    busy: bool,
}

/// Nothing while it does not answer.
fn progress(vm: &Vm) -> Option<Progress> {
    let ask = ["/usr/bin/atalaya", "--json", "update", "status"];
    let output = vm.agent().ok()?.exec_within(&ask, ANSWER).ok()?;
    let answer: Value = serde_json::from_str(&output.stdout).ok()?;
    let text = |key: &str| Some(answer[key].as_str()?.to_owned());
    let number = |key: &str| answer["progress"][key].as_u64();
    let detail = match (number("done"), number("total")) {
        (Some(done), Some(total)) if total > 0 => {
            let left =
                number("seconds_left").map(|left| format!(", {} left", duration(left * 1000)));
            format!(
                "{} % of {}{}",
                done * 100 / total,
                size(total),
                left.unwrap_or_default()
            )
        }
        _ => String::new(),
    };
    Some(Progress {
        stage: text("stage")?,
        words: text("words")?,
        detail,
        busy: answer["busy"].as_bool()?,
    })
}

/// The last update that has ended.
fn history(vm: &Vm) -> anyhow::Result<Value> {
    let text = run(vm, &["/usr/bin/atalaya", "--json", "update", "history"])?;
    let answer: Value = serde_json::from_str(&text).context("the history is no JSON")?;
    let last = answer["history"].as_array().and_then(|list| list.last());
    last.cloned().context("the history is empty")
}

fn kept_out(last: &Value) -> String {
    last["downtime"].as_u64().map_or(String::new(), |seconds| {
        format!("; users were kept out for {}", duration(seconds * 1000))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(boot: Option<(&str, &str)>, admit: bool) -> Snapshot {
        let boot = boot.map(|(version, id)| {
            serde_json::from_value(serde_json::json!({
                "version": version, "boot_id": id, "slot": "a", "build": "", "mattermost": "", "standin": true,
            }))
            .unwrap()
        });
        let ca = serde_json::from_value(serde_json::json!({"pem": "", "sha256": ""})).unwrap();
        Snapshot {
            boot,
            admit,
            ca: Some(ca),
            ..Snapshot::default()
        }
    }

    #[test]
    fn every_stretch_of_an_update_is_told_apart() {
        let before = state(Some(("1", "x")), true);
        let at = |boot, admit| course(&before, &state(boot, admit), "2");
        assert_eq!(at(Some(("1", "x")), true), Course::Here);
        assert_eq!(at(Some(("1", "x")), false), Course::Here);
        assert_eq!(at(None, false), Course::Restarting);
        assert_eq!(at(Some(("2", "y")), false), Course::Trial);
        assert_eq!(at(Some(("2", "y")), true), Course::Served);
        assert_eq!(at(Some(("1", "z")), false), Course::Back);
        assert_eq!(at(Some(("1", "z")), true), Course::Served);
    }
}

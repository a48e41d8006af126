//! Every way in which a bundle gets into a machine, and what may come between: a line that breaks, a second wish, the death of the
//! supervisor, a reboot, another mind. One machine; the last way in is left to run until the machine restarts into the new version.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{BOOT, run, wait_served};
use atalaya_suites::download::Download;
use atalaya_suites::inside::{AGENT, replace_supervisor};
use atalaya_suites::place::Image;
use atalaya_suites::story::eventually;
use atalaya_suites::updating::{last_update, log_in, version_of};
use atalaya_vm::{Disk, Vm};
use serde_json::Value;

use crate::forward::INSTALL;
use crate::{GIB, Update};

const ATALAYA: &str = "/usr/bin/atalaya";
/// Every answer of the server ends after so many bytes.
const PART: u64 = 1 << 20;
/// So many bytes and more are fetched whatever the other slot holds: the kernel image alone has 17 MiB.
const HELD: u64 = 6 << 20;
const LIMIT: Duration = Duration::from_secs(240);

pub fn ways(of: &mut Update) -> anyhow::Result<()> {
    let bundle = of.two.file("atalaya.bundle")?;
    let stick = make_stick(of, &bundle)?;
    let machine = of.appliance.machine();
    let vm = machine
        .boot_disk(Disk::thrown_away(&of.base))
        .extra_disk(Disk::read_only(padded(of, &bundle)?))
        .stick(stick)
        .start()?;
    wait_served(&vm, BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;

    let download = Download::start(&bundle)?;
    download.break_off_after(PART);
    download.hold_after(HELD);
    install(&vm, &download.address())?;
    a_broken_line_is_taken_up_where_it_ended(&vm, &download)?;
    a_second_wish_is_refused(&vm, &download)?;
    the_death_of_the_supervisor_costs_nothing(&vm)?;
    a_reboot_costs_nothing(&vm, &download)?;
    it_is_cancelled(of, &vm)?;
    drop(download);
    a_stick_asks_on_the_console(&vm, &of.two)?;
    a_file_is_sent(&vm, &bundle)
}

fn install(vm: &Vm, source: &str) -> anyhow::Result<()> {
    let argv = [ATALAYA, "update", "install", "--yes", "--no-wait", source];
    run(vm, &argv).map(drop)
}

fn update(vm: &Vm) -> anyhow::Result<Value> {
    let text = run(vm, &[ATALAYA, "--json", "update", "status"])?;
    serde_json::from_str(&text).context("the update's status is no JSON")
}

fn wait_update(
    vm: &Vm,
    what: &str,
    limit: Duration,
    is: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let found = eventually(what, limit, || {
        // A supervisor that is just being started anew does not answer.
        Ok(update(vm).ok().filter(|answer| is(answer)))
    });
    found.with_context(|| match update(vm) {
        Ok(answer) => format!("{answer:#}"),
        Err(error) => format!("{error:#}"),
    })
}

fn is_writing(answer: &Value) -> bool {
    answer["stage"] == "writing" && answer["busy"] == true
}

fn a_broken_line_is_taken_up_where_it_ended(vm: &Vm, download: &Download) -> anyhow::Result<()> {
    eventually(
        "what is fetched before the server holds it",
        INSTALL,
        || Ok((download.sent() >= HELD).then_some(())),
    )?;
    let begins: Vec<u64> = (download.asked().iter().flatten())
        .filter_map(|range| {
            range
                .strip_prefix("bytes=")?
                .split('-')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    let goes_on = |pair: &[u64]| pair[1] == pair[0] + PART;
    ensure!(
        begins.windows(2).any(goes_on),
        "nothing was taken up {PART} bytes later, where the line broke: {begins:?}"
    );
    let answer = update(vm)?;
    ensure!(is_writing(&answer), "it does not go on: {answer:#}");
    Ok(())
}

fn a_second_wish_is_refused(vm: &Vm, download: &Download) -> anyhow::Result<()> {
    let address = download.address();
    let second = [ATALAYA, "update", "install", "--yes", "--no-wait", &address];
    let output = vm.agent()?.exec(&second)?;
    ensure!(
        output.code != Some(0) && output.stderr.contains("one thing is done at a time"),
        "a second update: {output:?}"
    );
    ensure!(is_writing(&update(vm)?), "the first one was ended by it");
    Ok(())
}

fn the_death_of_the_supervisor_costs_nothing(vm: &Vm) -> anyhow::Result<()> {
    let writer = || -> anyhow::Result<i32> {
        let processes = vm.agent()?.processes()?;
        let found = (processes.iter()).find(|process| process.cgroup.contains("/update-install."));
        Ok(found.context("nobody writes the update")?.pid)
    };
    let before = writer()?;
    replace_supervisor(vm, LIMIT)?;
    wait_update(vm, "the update to be known to it", LIMIT, is_writing)?;
    let after = writer()?;
    ensure!(after == before, "{before} wrote, then {after}");
    Ok(())
}

fn a_reboot_costs_nothing(vm: &Vm, download: &Download) -> anyhow::Result<()> {
    let mark = vm.qmp().mark();
    vm.agent()?.launch(&[ATALAYA, "reboot"])?;
    vm.wait_reset("the reboot", mark, LIMIT)?;
    let asked = download.asked().len();
    download.hold_after(download.sent() + HELD);
    wait_served(vm, BOOT)?;
    vm.agent()?.wait_ready(BOOT)?;
    eventually("the bundle to be fetched on", INSTALL, || {
        Ok((download.asked().len() > asked).then_some(()))
    })?;
    wait_update(vm, "the update to go on by itself", LIMIT, is_writing).map(drop)
}

fn it_is_cancelled(of: &Update, vm: &Vm) -> anyhow::Result<()> {
    run(vm, &[ATALAYA, "update", "cancel"])?;
    let answer = wait_update(vm, "its end", LIMIT, |answer| answer["busy"] == false)?;
    let last = last_update(vm)?;
    ensure!(
        answer["stage"] == "failed" && last["reason"]["what"] == "it was cancelled",
        "it was cancelled, and is told as {} and {last}",
        answer["stage"]
    );
    let state = vm.status().snapshot();
    ensure!(state.admit, "users are kept out: {}", state.summary());
    of.check_kept(&log_in(&of.appliance, &state)?)
}

fn a_file_is_sent(vm: &Vm, bundle: &Path) -> anyhow::Result<()> {
    let bytes = bundle.metadata()?.len().to_string();
    let file = "/data/sent.bundle";
    run(vm, &[AGENT, "take", "/dev/vdb", &bytes, file])?;
    let mark = vm.qmp().mark();
    vm.agent()?
        .launch(&[ATALAYA, "update", "install", "--yes", file])?;
    vm.wait_reset("the machine to restart into the new version", mark, INSTALL)?;
    Ok(())
}

/// A disk has whole sectors.
fn padded(of: &Update, bundle: &Path) -> anyhow::Result<PathBuf> {
    let path = of.appliance.directory().join("bundle.raw");
    std::fs::copy(bundle, &path)?;
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(file.metadata()?.len().next_multiple_of(4096))?;
    Ok(path)
}

/// A stick as an administrator makes it: FAT, our label as far as it fits, the bundle.
fn make_stick(of: &Update, bundle: &Path) -> anyhow::Result<PathBuf> {
    let path = of.appliance.directory().join("stick.raw");
    std::fs::File::create(&path)?.set_len(GIB / 2)?;
    let tools = of.place.tools()?;
    let tool = |mut command: Command, words: &[&str]| -> anyhow::Result<()> {
        let output = command.args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {said}");
        Ok(())
    };
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .context("the path is no text")
    };
    let (stick, bundle) = (text(&path)?, text(&bundle.canonicalize()?)?);
    tool(
        tools.command("mformat")?,
        &["-i", &stick, "-F", "-v", "ATALAYA-UPD", "::"],
    )?;
    tool(
        tools.command("mcopy")?,
        &["-i", &stick, &bundle, "::/atalaya-0.2.0.bundle"],
    )?;
    Ok(path)
}

/// Whoever sits at the serial console: a terminal that answers where its cursor is.
struct Person {
    keys: UnixStream,
    shown: Arc<Mutex<vt100::Parser>>,
}

impl Person {
    fn sit_down(vm: &Vm) -> anyhow::Result<Person> {
        let keys = vm.open_terminal()?;
        let shown = Arc::new(Mutex::new(vt100::Parser::new(24, 80, 0)));
        let mut line = keys.try_clone()?;
        let parser = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A serial line brings a question in pieces.
            let mut heard = Vec::new();
            while let Ok(count @ 1..) = line.read(&mut buffer) {
                let part = &buffer[..count];
                let mut parser = parser.lock().unwrap_or_else(PoisonError::into_inner);
                parser.process(part);
                heard.extend_from_slice(part);
                let is_asked = heard.windows(4).any(|window| window == b"\x1b[6n");
                heard.drain(..heard.len() - if is_asked { 0 } else { heard.len().min(3) });
                if is_asked && line.write_all(b"\x1b[24;80R").is_err() {
                    return;
                }
            }
        });
        Ok(Person { keys, shown })
    }

    fn press(&self, keys: &[u8]) -> anyhow::Result<()> {
        (&self.keys).write_all(keys).context("failed to type")
    }

    fn picture(&self) -> String {
        let parser = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        parser.screen().contents()
    }

    fn wait(&self, part: &str) -> anyhow::Result<()> {
        let seen = eventually(&format!("{part:?} on the console"), LIMIT, || {
            Ok(self.picture().contains(part).then_some(()))
        });
        seen.with_context(|| self.picture())
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.keys.shutdown(std::net::Shutdown::Both).ok();
    }
}

/// It is put in, looked at, asked about; a word begins it; and it is cancelled, because others come after it.
fn a_stick_asks_on_the_console(vm: &Vm, image: &Image) -> anyhow::Result<()> {
    let two = version_of(image)?;
    let person = Person::sit_down(vm)?;
    eventually("the picture on the console", LIMIT, || {
        // Nobody hears a key before the console is there.
        person.press(b"\r")?;
        Ok(person.picture().contains("READY").then_some(()))
    })?;
    vm.plug_in()?;
    // Among the messages it is told before it can be chosen.
    person.wait("u update from the stick")?;
    person.press(b"u")?;
    person.wait(&format!("Install version {two}?"))?;
    show(&person);
    person.press(b"y\r")?;
    person.press(b"proceed")?;
    person.wait("proceed_")?;
    ensure!(update(vm)?["busy"] == false, "it began without a word");
    person.press(b"\r")?;
    let answer = wait_update(vm, "the stick's update", LIMIT, is_writing)?;
    let source = &answer["source"];
    ensure!(
        source == "a stick, at the console",
        "it comes from {source}"
    );
    person.wait("a version is being written")?;
    show(&person);
    run(vm, &[ATALAYA, "update", "cancel"])?;
    wait_update(vm, "its end", LIMIT, |answer| answer["busy"] == false)?;
    vm.pull_out()?;
    wait_update(vm, "the stick to be gone", LIMIT, |answer| {
        answer["usb"] == false
    })?;
    person.press(b"q")
}

/// For whoever wants to see it: a test's output is not looked at otherwise.
#[allow(clippy::print_stdout, reason = "a test program of its own")]
fn show(person: &Person) {
    if std::env::var_os("ATALAYA_SHOW").is_some() {
        println!("{}", person.picture());
    }
}

//! Machines that are not as they should be, and images looked at from outside.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{
    ADMINISTRATOR, Appliance, BOOT, FIRST_BOOT, PASSWORD, RECOVERY, run, served, wait_served,
};
use atalaya_suites::disk::{flip_byte, parse_extents, partitions, walk};
use atalaya_suites::place::{Image, Place};
use atalaya_suites::story::{self, Step, eventually};
use atalaya_suites::workshop::Workshop;
use atalaya_vm::Disk;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

/// From power-on to the panic (PID 1 starts atalayad), and the ten seconds of `panic=10`.
const PANIC: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let step = |name, run| Step { name, run };
    story::run(
        "strangers",
        || Ok(Place::from_environment()),
        &[
            step(
                "production_image_has_no_agent_shell_or_setuid_file",
                production_image,
            ),
            step(
                "test_image_is_the_production_image_and_the_agent",
                test_image,
            ),
            step("changed_block_is_never_served", changed_block),
            step("invalid_seed_leaves_the_defaults", invalid_seed),
            step(
                "made_up_release_shows_its_version_and_a_seed_disk_is_read",
                made_up_release,
            ),
        ],
    )
}

/// The files of an image's root, unpacked.
fn unpack(place: &Place, image: &Image) -> anyhow::Result<tempfile::TempDir> {
    let directory = tempfile::Builder::new().prefix("atalaya-root-").tempdir()?;
    let mut command = place.tools()?.command("fsck.erofs")?;
    // Only root may see some of the directories; the tests run as root, and the modes are part of what is checked.
    command
        .arg(format!(
            "--extract={}",
            directory.path().join("root").display()
        ))
        .arg("--preserve");
    let output = command
        .arg(image.root()?)
        .output()
        .context("failed to run fsck.erofs")?;
    ensure!(
        output.status.success(),
        "fsck.erofs failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(directory)
}

fn production_image(place: &mut Place) -> anyhow::Result<()> {
    let image = place.production_image()?;
    ensure!(
        !image.manifest().to_string().contains("atalaya-agent"),
        "the manifest names the agent"
    );
    let unpacked = unpack(place, &image)?;
    let root = unpacked.path().join("root");
    let mut seen = 0;
    for path in walk(&root)? {
        let about = fs::symlink_metadata(&path)?;
        let (name, mode) = (
            path.strip_prefix(&root)?.display().to_string(),
            about.permissions().mode(),
        );
        seen += 1;
        ensure!(
            !name.contains("atalaya-agent") && name != "usr/lib/atalaya/units/agent.toml",
            "/{name} is there"
        );
        ensure!(
            !about.is_file() || mode & 0o6000 == 0,
            "/{name} is setuid or setgid ({mode:o})"
        );
        let executable = about.is_file() && mode & 0o111 != 0;
        ensure!(
            !(executable && is_shell(&path) && !name.starts_with("usr/lib/atalaya/private/")),
            "/{name} is a shell"
        );
    }
    ensure!(seen > 1000, "the root has only {seen} files");
    // It is there for the units that need one, where only root can look.
    let private = fs::metadata(root.join("usr/lib/atalaya/private"))
        .context("there is no private directory")?;
    ensure!(
        private.permissions().mode() & 0o777 == 0o700 && private.uid() == 0,
        "the private directory is open"
    );
    for gone in [
        "usr/bin/apt",
        "usr/bin/dpkg",
        "usr/sbin/sshd",
        "usr/bin/su",
        "usr/bin/login",
        "usr/bin/perl",
    ] {
        ensure!(
            fs::symlink_metadata(root.join(gone)).is_err(),
            "/{gone} is there"
        );
    }
    Ok(())
}

fn is_shell(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    [
        "sh", "bash", "dash", "zsh", "ksh", "ash", "busybox", "rbash",
    ]
    .contains(&name.as_str())
}

fn test_image(place: &mut Place) -> anyhow::Result<()> {
    let list = |image: &Image| -> anyhow::Result<Vec<String>> {
        let unpacked = unpack(place, image)?;
        let root = unpacked.path().join("root");
        let paths = walk(&root)?.into_iter();
        paths
            .map(|path| Ok(path.strip_prefix(&root)?.display().to_string()))
            .collect()
    };
    let production = list(&place.production_image()?)?;
    let test = list(&place.test_image()?)?;
    let mut added: Vec<&String> = test
        .iter()
        .filter(|path| !production.contains(path))
        .collect();
    added.sort();
    ensure!(
        added
            == [
                "usr/lib/atalaya/atalaya-agent",
                "usr/lib/atalaya/units/agent.toml"
            ],
        "the test image has more than the agent: {added:?}"
    );
    let missing: Vec<&String> = production
        .iter()
        .filter(|path| !test.contains(path))
        .collect();
    ensure!(missing.is_empty(), "the test image lacks {missing:?}");
    Ok(())
}

fn changed_block(place: &mut Place) -> anyhow::Result<()> {
    let image = place.test_image()?;
    let appliance = Appliance::new(place, &image, 16, false)?.seeded()?;
    let root = partitions(&appliance.disk())?;
    let root = root
        .iter()
        .find(|partition| partition.name.starts_with("root"))
        .context("no root partition")?;
    let mut dump = place.tools()?.command("dump.erofs")?;
    let dump = dump
        .args(["--path=/usr/lib/atalaya/atalayad", "-e"])
        .arg(image.root()?)
        .output()?;
    let extents = parse_extents(&String::from_utf8_lossy(&dump.stdout))?;
    let &(offset, _) = extents.first().context("atalayad has no block")?;
    flip_byte(&appliance.disk(), root.start + offset)?;

    let vm = appliance.start()?;
    let mark = vm.qmp().mark();
    let reset = vm.wait_reset("the machine to restart after a panic", mark, PANIC)?;
    ensure!(
        vm.console().text().contains("Kernel panic"),
        "no panic on the console:\n{}",
        vm.console().tail(40)
    );
    // It starts again, and again there is nothing to serve: to the next reset.
    let mark = vm.qmp().mark();
    vm.wait_reset(
        "the machine to restart once more",
        mark,
        PANIC + reset.elapsed(),
    )?;
    ensure!(
        vm.status().events().is_empty(),
        "atalayad reported {:?}",
        vm.status().events()
    );
    Ok(())
}

fn invalid_seed(place: &mut Place) -> anyhow::Result<()> {
    let seed =
        BASE64.encode("hostname = \"eve\"\n[site]\naddress = \"http://plain.example.com\"\n");
    let appliance = Appliance::new(place, &place.test_image()?, 16, true)?;
    let appliance =
        appliance.change(|machine| machine.smbios_string(format!("atalaya.appliance={seed}")));
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    let agent = vm.agent()?;
    agent.wait_ready(BOOT)?;
    let host_name = String::from_utf8(agent.read_file("/proc/sys/kernel/hostname")?)?;
    ensure!(
        host_name.trim() == "atalaya",
        "the host name is {host_name}"
    );
    let address = state.addresses.first().context("no address was reported")?;
    ensure!(
        state.site == Some(format!("https://{address}")),
        "the site is {:?}",
        state.site
    );

    let console = vm.console().text();
    let refusal = console.lines().find(|line| line.contains("site.address"));
    let refusal = refusal.context("the console does not name the key that is wrong")?;
    ensure!(
        refusal.contains("line 3"),
        "the console does not name the line: {refusal}"
    );

    let password = eventually("the random password on the console", RECOVERY, || {
        Ok(password_on(&vm.console().text()))
    })?;
    for entry in agent.list("/data/logs", true)? {
        if entry.mode & 0o170_000 == 0o100_000 {
            let log = agent.read_file(&entry.path)?;
            let found = log
                .windows(password.len())
                .any(|part| part == password.as_bytes());
            ensure!(!found, "{} holds the random password", entry.path);
        }
    }
    let mut client = appliance.client(&state)?;
    client.log_in("admin", &password)?;
    vm.wait_status("the password to be forgotten", BOOT, |state| {
        served(state)
            && state
                .units
                .get("first-login")
                .is_some_and(|unit| unit.ready)
    })?;
    Ok(())
}

/// A release with another version than the pinned one, given by its tarball and checksum. Its first boot is also the
/// one that takes its seed from a disk.
fn made_up_release(place: &mut Place) -> anyhow::Result<()> {
    const VERSION: &str = "12.34.5";
    let image = Workshop::new(place)?.build_with_release(VERSION)?;
    ensure!(
        image.manifest()["mattermost"]["version"] == VERSION,
        "the manifest says {}",
        image.manifest()["mattermost"]
    );
    let appliance = Appliance::new(place, &image, 16, true)?;
    let seed = seed_disk(place, &appliance)?;
    let appliance = appliance.change(|machine| machine.extra_disk(Disk::read_only(seed)));
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    let boot = state.boot.as_ref().context("no boot was reported")?;
    ensure!(
        boot.mattermost == VERSION,
        "the status port says {}",
        boot.mattermost
    );
    vm.agent()?.wait_ready(BOOT)?;
    let status = run(&vm, &["/usr/bin/atalaya", "status"])?;
    ensure!(
        status.contains(VERSION),
        "`atalaya status` does not say {VERSION}:\n{status}"
    );
    appliance.client(&state)?.log_in(ADMINISTRATOR, PASSWORD)
}

/// A disk with the label ATALAYA-SEED (too long for FAT) and an appliance.toml.
fn seed_disk(place: &Place, appliance: &Appliance) -> anyhow::Result<PathBuf> {
    let (disk, content) = (
        appliance.directory().join("seed.raw"),
        appliance.directory().join("seed"),
    );
    fs::create_dir(&content)?;
    File::create_new(content.join("appliance.toml"))?.write_all(appliance.seed().as_bytes())?;
    File::create_new(&disk)?.set_len(8 << 20)?;
    let mut make = place.tools()?.command("mke2fs")?;
    let make = make
        .args(["-q", "-t", "ext4", "-L", "ATALAYA-SEED", "-d"])
        .args([&content, &disk]);
    let output = make.output().context("failed to run mke2fs")?;
    ensure!(
        output.status.success(),
        "mke2fs failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(disk)
}

/// The console's row for the first log-in: a name and the random password.
fn password_on(console: &str) -> Option<String> {
    let mut rows = console
        .lines()
        .filter_map(|line| line.trim().strip_prefix("First log-in"));
    let words: Vec<&str> = rows.next_back()?.split_whitespace().collect();
    match words.as_slice() {
        ["admin", password] => Some((*password).to_owned()),
        _ => None,
    }
}

//! What all units stand on: /data absent or full, a panic in atalayad, the wall clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::{Ground, put};

#[test]
fn unit_program() {
    support::play();
}

const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";
const WRITES: &str =
    "[sandbox]\ndata = [{ source = \"data:own\", path = \"/mnt\", create = true }]\n";
const MIB: u64 = 1 << 20;

/// A file system of its own size for the ground's data.
struct Disk(PathBuf);

impl Disk {
    fn mount(ground: &Ground, size: u64) -> Self {
        let path = ground.path("data");
        let options = format!("size={size}");
        mount(
            Some("none"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        Self(path)
    }

    /// Writes until only so much is left.
    fn fill(&self, left: u64) {
        let mut file = std::fs::File::create(self.0.join("fill")).unwrap();
        let block = vec![0; 64 * 1024];
        while atalayad::space::look(&self.0).unwrap().free > left {
            file.write_all(&block).unwrap();
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

fn room(ground: &Ground) -> String {
    let (_, body) = ground.request("GET", "/v1/status").unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    status["room"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_full_disk_stops_the_database_in_order_and_it_returns_by_itself() {
    let ground = Ground::new();
    let disk = Disk::mount(&ground, 64 * MIB);
    let on_full = |word: &str| format!("{SLEEPER}on_full_disk = \"{word}\"\n{WRITES}");
    ground.unit("postgres", &on_full("stop"));
    ground.unit("edge", &on_full("run"));
    ground.unit("patient", &format!("{SLEEPER}{WRITES}"));
    let atalayad = ground.start();
    let before = ground.wait_ready("postgres");
    ground.wait_ready("edge");
    let reserve = ground.path("data/reserve");
    let reserved = || reserve.metadata().map_or(0, |file| file.len());
    ground.until("the reserve is made", || reserved() == 2 * MIB);
    disk.fill(5 * MIB);
    ground.until("little room is noticed", || room(&ground) == "low");
    assert_eq!(ground.view("postgres").unwrap()["pid"], before["pid"]);
    disk.fill(MIB);
    ground.until("no room is noticed", || room(&ground) == "out");
    let waiting = ground.wait_state("postgres", "Waiting");
    assert_eq!(waiting["words"], "there is no room on /data");
    // It was asked to stop, not killed, and with room for its last checkpoint.
    assert_eq!(waiting["last_exit"], "killed by signal 15");
    assert!(!reserve.exists());
    for unit in ["edge", "patient"] {
        assert_eq!(ground.view(unit).unwrap()["run"], 1, "{unit}");
        ground.request("POST", &format!("/v1/units/{unit}/restart"));
    }
    ground.wait_state("patient", "Waiting");
    ground.until("what needs no room starts", || {
        let view = ground.view("edge").unwrap();
        view["run"] == 2 && view["ready"] == true
    });
    disk.empty();
    for unit in ["postgres", "patient"] {
        assert_eq!(ground.wait_ready(unit)["run"], 2, "{unit}");
    }
    assert_eq!(room(&ground), "enough");
    ground.until("the reserve is made again", || reserved() == 2 * MIB);
    atalayad.stop();
}

#[test]
fn without_data_only_what_needs_it_waits_and_says_why() {
    let ground = Ground::new();
    put(
        &ground.path("run/data.json"),
        "{\"version\":1,\"state\":\"absent\",\"stage\":\"disk\",\"reason\":\"no data partition\"}",
    );
    ground.unit("postgres", &format!("{SLEEPER}{WRITES}"));
    ground.unit("edge", SLEEPER);
    let atalayad = ground.start_with(&[("ATALAYA_DATA", "absent")]);
    ground.wait_ready("edge");
    let waiting = ground.wait_state("postgres", "Waiting");
    assert_eq!(waiting["words"], "/data is not there: no data partition");
    assert!(waiting["pid"].is_null());
    atalayad.stop();
}

#[test]
fn a_panic_in_any_task_ends_the_process() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "unit_program", "--nocapture"])
        .env("ROLE", "panicking")
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("half done") && said.contains("services run on"),
        "{said}"
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains("it went on"));
}

/// Decisions go by CLOCK_BOOTTIME and tokio's timers by CLOCK_MONOTONIC: nobody can set either. The wall clock is for
/// people, and read in one place only, so that a jump of it can change nothing but what they read.
#[test]
fn the_wall_clock_is_read_in_one_place() {
    fn visit(directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if std::fs::read_to_string(&path).is_ok_and(|text| {
                text.contains("SystemTime::now") || text.contains("CLOCK_REALTIME")
            }) {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    visit(&here.join("src"), &mut found);
    visit(&here.join("../core/src"), &mut found);
    assert_eq!(found, ["clock.rs"]);
}

//! The end: what it leaves behind, and what must not prevent it.

use crate::machine::{Machine, Outcome, STANDIN};
use crate::silent_disk::SilentDisk;
use nix::pty::openpty;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::process::Stdio;

#[test]
fn an_orderly_end_is_noted_before_data_are_unmounted() {
    let mut machine =
        Machine::start_prepared(STANDIN, r#"mkdir -m 700 "$1/data/state""#, Stdio::null());
    machine.connect_and_greet();
    let boot_id = machine.read("/proc/sys/kernel/random/boot_id");
    let witness = machine.witness_of("/data/state");
    machine.shutdown("reboot");
    assert_eq!(machine.outcome(), Outcome::Restarted);
    let text = witness.read("last-end.json");
    let record: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text:?}\n{}", machine.console()));
    assert_eq!(
        (&record["version"], &record["action"], &record["reason"]),
        (&json!(1), &json!("reboot"), &json!("the test"))
    );
    assert_eq!(record["boot_id"], boot_id.trim());
    assert!(record["time"].as_i64().unwrap() > 1_700_000_000);
}

#[test]
fn the_watchdogs_cause_is_in_the_boot_record() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let record: Value = serde_json::from_str(&machine.read("/run/atalaya/boot.json")).unwrap();
    assert_eq!(record["watchdog_reset"], false);
    let data: Value = serde_json::from_str(&machine.read("/run/atalaya/data.json")).unwrap();
    assert_eq!(data["state"], "absent");
    assert!(!data["reason"].as_str().unwrap().is_empty());
}

#[test]
fn a_terminal_stopped_by_ctrl_s_stops_nothing_else() {
    let pty = openpty(None, None).unwrap();
    let name = nix::unistd::ttyname(&pty.slave).unwrap();
    let preparation = format!(
        r#"rm "$1/dev/console"
touch "$1/dev/console"
mount --bind {} "$1/dev/console""#,
        name.display()
    );
    let mut master = File::from(pty.master);
    // Ctrl-S, and then nobody reads either.
    master.write_all(&[0x13]).unwrap();
    let mut machine = Machine::start_prepared(STANDIN, &preparation, Stdio::null());
    machine.connect_and_greet();
    machine.command(json!({"babble": 1000}));
    let pid = machine.start_unit("proof.1", "exit 4");
    let exited = machine.heard_of("proof.1", &json!(pid));
    assert_eq!(exited["status"], json!({"code": 4}));
    machine.shutdown("reboot");
    assert_eq!(machine.outcome(), Outcome::Restarted);
    drop(master);
}

#[test]
fn an_unkillable_process_and_a_disk_that_does_not_answer_delay_the_end_by_their_limits() {
    let (disk, file) = SilentDisk::open();
    let preparation = r#"umount "$1/data"
mount -i -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0 fuse "$1/data"
exec < /dev/null"#;
    let mut machine = Machine::start_prepared(STANDIN, preparation, Stdio::from(file));
    machine.connect_and_greet();
    machine.start_unit("stuck.1", "read line < /data/anything");
    disk.wait_for_a_request();
    machine.shutdown("reboot");
    // The kernel cannot take the namespace down before its last process has gone.
    machine.wait_for_console("] end: restarting\n");
    let console = machine.console();
    for line in [
        "still running after 5 s: ",
        "(2, D)",
        "gave up after 10 s: write /data/state/last-end.json",
        "last-end.json could not be written",
        "/data is still in use: made read-only",
    ] {
        let line = line.replace("(2, D)", ", D)");
        assert!(console.contains(&line), "{line} in\n{console}");
    }
    disk.release();
    assert_eq!(machine.outcome(), Outcome::Restarted);
}

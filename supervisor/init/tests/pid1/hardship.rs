//! What must not bring PID 1 down: storms of exits, no room, no descriptors, hostile signals, a broken atalayad.

use crate::machine::{Machine, Outcome, STANDIN};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

fn expect_healthy(machine: &mut Machine) {
    let pid = machine.start_unit("proof.1", "exit 4");
    let exited = machine.heard_of("proof.1", &json!(pid));
    assert_eq!(exited["status"], json!({"code": 4}));
    machine.shutdown("poweroff");
    assert_eq!(machine.outcome(), Outcome::PoweredOff);
}

#[test]
fn a_thousand_orphans_leave_no_zombie_and_no_wrong_status() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    // Double-forked: each has PID 1 as its parent by the time it ends.
    let script = "i=0; while [ $i -lt 1000 ]; do ( (exit 3) & ); i=$((i+1)); done; exit 7";
    let main = machine.start_unit("storm.1", script);
    let (mut orphans, mut main_status) = (0, Value::Null);
    while orphans < 1000 || main_status.is_null() {
        let exited = machine.heard("exited");
        assert_eq!(exited["cgroup"], "storm.1");
        machine.send(json!({"type": "ack", "seq": exited["seq"]}));
        if exited["pid"] == main {
            main_status = exited["status"].clone();
        } else {
            assert_eq!(exited["status"], json!({"code": 3}));
            orphans += 1;
        }
    }
    assert_eq!(main_status, json!({"code": 7}));
    assert_eq!(machine.command(json!({"zombies": true}))["zombies"], 0);
    expect_healthy(&mut machine);
}

#[test]
fn five_hundred_that_end_together_are_told_apart() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let mut expected = BTreeMap::new();
    for number in 0..500 {
        let script = format!(
            "echo up >> /t/up; read line < /t/gate; exit {}",
            number % 256
        );
        let name = format!("many.{number}");
        machine.start_unit(&name, &script);
        expected.insert(name, number % 256);
    }
    machine.until("all of them", |machine| {
        (machine.root_file("/t/up").lines().count() == 500).then_some(())
    });
    while !expected.is_empty() {
        // One opening of the gate lets all through that wait at it by then.
        machine.try_open_gate("gate");
        while let Some(exited) = machine.heard_already("exited") {
            let code = expected.remove(exited["cgroup"].as_str().unwrap());
            assert_eq!(exited["status"]["code"].as_i64(), code, "{exited}");
        }
        machine.command(json!({}));
    }
    assert_eq!(machine.command(json!({"zombies": true}))["zombies"], 0);
    expect_healthy(&mut machine);
}

#[test]
fn no_room_for_a_process_delays_atalayad_and_no_more() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    machine.allow_processes(false);
    machine.kill_daemon();
    machine.wait_for_console("it could not be started: failed to start");
    machine.wait_for_console("Resource temporarily unavailable");
    machine.allow_processes(true);
    machine.connect_and_greet();
    expect_healthy(&mut machine);
}

#[test]
fn without_a_free_descriptor_statuses_stay_right_and_atalayad_comes_back() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let waiting = machine.start_unit("waiting.1", "read line < /t/gate; exit 8");
    let pid = machine.pid();
    // No number below the limit is free.
    let free = (0..)
        .find(|number| !std::path::Path::new(&format!("/proc/{pid}/fd/{number}")).exists())
        .unwrap();
    let limit = Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--nofile={free}:{free}")])
        .status()
        .unwrap();
    assert!(limit.success());
    machine.open_gate();
    let exited = machine.heard_of("waiting.1", &json!(waiting));
    assert_eq!(exited["status"], json!({"code": 8}));
    machine.kill_daemon();
    machine.connect_and_greet();
    let console = machine.console();
    assert!(!console.contains("is not known"), "{console}");
    expect_healthy(&mut machine);
    let console = machine.console();
    assert!(!console.contains("gave up"), "{console}");
}

#[test]
fn init_raises_its_own_limit_of_open_files() {
    let mut machine = Machine::start_prepared(STANDIN, "ulimit -S -n 1024", Stdio::null());
    machine.connect_and_greet();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", machine.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let values: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // Where a container does not allow more, what it does allow.
    let allowed = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .unwrap()
        .1;
    assert!(values == [524_288; 2] || values == [allowed; 2], "{line}");
}

#[test]
fn pid_1_needs_no_disk_for_its_own_program() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let program = std::fs::read_link(format!("/proc/{}/exe", machine.pid())).unwrap();
    assert!(
        program.to_string_lossy().starts_with("/memfd:atalaya-init"),
        "{program:?}"
    );
}

#[test]
fn closed_standard_streams_at_the_start_harm_nothing() {
    let closed = "exec <&- >&- 2>&-";
    let mut machine = Machine::start_prepared(STANDIN, closed, Stdio::null());
    machine.connect_and_greet();
    machine.wait_for_console("atalayad is started");
    for number in 0..3 {
        let target = std::fs::read_link(format!("/proc/{}/fd/{number}", machine.pid())).unwrap();
        assert!(target.ends_with("dev/null"), "{number}: {target:?}");
    }
    expect_healthy(&mut machine);
}

#[test]
fn signals_of_users_without_rights_change_nothing() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let answer = machine.command(json!({"as_nobody": "signals"}));
    assert_eq!(answer["answer"], "ok");
    assert!(machine.heard_already("request").is_none());
    expect_healthy(&mut machine);
}

#[test]
fn signals_that_mean_nothing_to_pid_1_change_nothing() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let meant = [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGPWR,
        37,
        38,
        39,
        // From outside of a PID namespace these two do work, as they do not from inside.
        libc::SIGKILL,
        libc::SIGSTOP,
    ];
    for signal in (1..=64).filter(|signal| !meant.contains(signal)) {
        let script = format!("kill -{signal} 1");
        machine.start_unit(&format!("sender.{signal}"), &script);
        let exited = machine.heard("exited");
        machine.send(json!({"type": "ack", "seq": exited["seq"]}));
    }
    assert!(machine.heard_already("request").is_none());
    expect_healthy(&mut machine);
}

#[test]
fn an_atalayad_that_panics_or_aborts_is_started_again() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    for (command, words) in [
        (json!({"abort": true}), "it was ended by signal 6"),
        (json!({"exit": 101}), "it ended with status 101"),
    ] {
        machine.end_daemon(command);
        machine.wait_for_console(words);
        machine.connect_and_greet();
    }
    expect_healthy(&mut machine);
}

#[test]
fn an_atalayad_that_hangs_is_killed_and_its_units_notice_nothing() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let ending = machine.start_unit("ending.1", "read line < /t/gate; exit 6");
    let living = machine.start_unit("living.1", "read line < /t/never");
    // From here on it says nothing: no heartbeat, as if it hung.
    machine.wait_for_console("atalayad was silent for 30 s: killed");
    machine.open_gate();
    machine.connect();
    assert_eq!(machine.greet()[0]["heard"]["deaths"], 1);
    let exited = machine.heard_of("ending.1", &json!(ending));
    assert_eq!(exited["status"], json!({"code": 6}));
    assert_eq!(machine.command(json!({"alive": living}))["alive"], true);
}

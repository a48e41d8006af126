//! PID 1 as a process: in namespaces of its own, with a stand-in for atalayad that this same program plays.
//!
//! Needs root. In a PID namespace reboot(2) ends PID 1 by SIGHUP (restart) or SIGINT (power off): that is how the tests
//! see how the machine ended.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of it is test code

mod actor;
mod hardship;
mod machine;
mod safe_mode;
mod silent_disk;
mod standin;
mod way_out;

use machine::{Machine, Outcome};
use serde_json::{Value, json};

fn kinds(messages: &[Value]) -> Vec<&str> {
    messages
        .iter()
        .map(|message| message["heard"]["type"].as_str().unwrap())
        .collect()
}

#[test]
fn deaths_by_signal_are_told_as_such() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    for (script, status) in [
        ("kill -9 $$", json!({"signal": 9})),
        ("kill -40 $$", json!({"signal": 40})),
        ("exit 255", json!({"code": 255})),
    ] {
        let pid = machine.start_unit("mortal.12", script);
        let exited = machine.heard("exited");
        assert_eq!((&exited["pid"], &exited["status"]), (&json!(pid), &status));
        assert_eq!(exited["cgroup"], "mortal.12");
    }
}

#[test]
fn a_killed_atalayad_gets_back_records_descriptors_and_statuses_until_it_acknowledges() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    machine.command(json!({"keep": "unit:a", "record": "{\"run\":1}", "pipes": ["log", "notify"]}));
    machine.command(json!({"keep": "unit:b", "record": "replaced", "pipes": []}));
    machine.command(json!({"keep": "unit:b", "record": "two", "pipes": ["other"]}));
    machine.command(json!({"keep": "unit:c", "record": "dropped", "pipes": ["x"]}));
    machine.send(json!({"type": "drop", "name": "unit:c"}));
    let survivor = machine.start_unit("survivor.1", "read line < /t/never");
    let unit = machine.start_unit("postgres.3", "read line < /t/gate; exit 9");

    machine.kill_daemon();
    // The unit ends while nobody listens.
    machine.open_gate();
    machine.connect();
    let told = machine.greet();
    assert_eq!(kinds(&told[..4]), ["welcome", "kept", "kept", "kept_end"]);
    assert_eq!(told[0]["heard"]["deaths"], 1);
    assert_eq!(told[0]["heard"]["boot_id"].as_str().unwrap().len(), 36);
    assert_eq!(told[1]["heard"]["name"], "unit:a");
    assert_eq!(told[1]["heard"]["record"], "{\"run\":1}");
    assert_eq!(told[1]["fds"], json!(["log", "notify"]));
    assert_eq!(told[2]["heard"]["record"], "two");
    let exited = machine.heard("exited");
    assert_eq!(
        (&exited["pid"], &exited["status"]),
        (&json!(unit), &json!({"code": 9}))
    );
    assert_eq!(exited["cgroup"], "postgres.3");

    // Not acknowledged: told again to the next one.
    machine.kill_daemon();
    machine.connect();
    machine.greet();
    let again = machine.heard("exited");
    assert_eq!(again["seq"], exited["seq"]);
    machine.send(json!({"type": "ack", "seq": again["seq"]}));

    // Acknowledged: the next thing told is the death of the other unit.
    machine.kill_daemon();
    machine.connect();
    let told = machine.greet();
    assert_eq!(told[0]["heard"]["deaths"], 3);
    assert_eq!(machine.command(json!({"alive": survivor}))["alive"], true);
    machine.command(json!({"kill": survivor}));
    assert_eq!(machine.heard("exited")["pid"], survivor);
}

#[test]
fn the_poweroff_program_asks_atalayad_first_and_a_stubborn_process_does_not_hinder_the_end() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    machine.start_unit(
        "stubborn.1",
        "trap '' TERM INT HUP; read line < /t/never; read line < /t/never",
    );
    machine.command(json!({"run": "/usr/sbin/poweroff"}));
    let request = machine.heard("request");
    assert_eq!(
        (&request["action"], &request["source"]),
        (&json!("poweroff"), &json!("signal"))
    );
    machine.shutdown("poweroff");
    assert_eq!(machine.outcome(), Outcome::PoweredOff);
    let console = machine.console();
    assert!(console.contains("end: powering off: the test"), "{console}");
    assert!(
        !console.contains("still in use") && !console.contains("gave up"),
        "{console}"
    );
}

#[test]
fn ctrl_alt_del_restarts() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    machine.signal(libc::SIGINT);
    let request = machine.heard("request");
    assert_eq!(
        (&request["action"], &request["source"]),
        (&json!("reboot"), &json!("ctrl-alt-del"))
    );
    machine.shutdown("reboot");
    assert_eq!(machine.outcome(), Outcome::Restarted);
}

#[test]
fn a_request_outlives_the_death_of_atalayad() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    machine.command(json!({"run": "/usr/sbin/reboot"}));
    machine.heard("request");
    machine.kill_daemon();
    machine.connect();
    machine.greet();
    assert_eq!(machine.heard("request")["action"], "reboot");
    machine.shutdown("reboot");
    assert_eq!(machine.outcome(), Outcome::Restarted);
}

#[test]
fn without_an_atalayad_that_starts_init_ends_the_machine_itself() {
    let mut machine = Machine::start_with("#!/bin/sh\necho no luck\nexit 1\n");
    machine.wait_for_console("safe mode");
    machine.signal(libc::SIGTERM);
    assert_eq!(machine.outcome(), Outcome::PoweredOff);
    let console = machine.console();
    assert!(
        console.contains("no luck"),
        "what it printed is shown: {console}"
    );
    assert!(console.contains("ended with status 1"), "{console}");
}

#[test]
fn another_version_of_the_link_is_refused_by_name() {
    let mut machine = Machine::start();
    machine.connect();
    machine.send(json!({"type": "hello", "version": 99}));
    assert_eq!(machine.heard("welcome")["version"], 2);
    machine.send(json!({"type": "nonsense"}));
    machine.wait_for_console("version 99");
    machine.wait_for_console("not understood");
}

#[test]
fn stage_1_says_at_which_stage_it_failed_and_restarts() {
    let mut machine = Machine::start_stage_1();
    assert_eq!(machine.outcome(), Outcome::Restarted);
    let console = machine.console();
    assert!(
        console.contains("failed at stage \"command line\": no roothash="),
        "{console}"
    );
    assert!(console.contains("were not touched"), "{console}");
}

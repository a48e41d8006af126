//! The contract suite against the stand-in: passes on a good one, again and again, and sees every kind of broken one.

use crate::machine::{Machine, PASSWORD};
use atalaya_contract::{Target, run};
use std::time::Duration;

fn target(machine: &Machine) -> Target {
    Target {
        strict: true,
        timeout: Duration::from_secs(10),
        ..Target::new(machine.address(), "admin", PASSWORD)
    }
}

#[test]
fn the_stand_in_keeps_the_contract_and_nothing_is_left_behind() {
    let machine = Machine::new();
    let server = machine.start_ready();
    machine.admin();
    let with_socket = Target {
        local_socket: Some(machine.socket()),
        ..target(&machine)
    };
    for target in [with_socket.clone(), with_socket] {
        let report = run(&target).unwrap();
        assert!(report.all_passed(), "{:#?}", report.failures());
        assert!(report.checks.len() >= 50, "{}", report.checks.len());
    }
    assert_eq!(machine.postgres.sql("SELECT count(*) FROM users"), "1");
    assert_eq!(machine.postgres.sql("SELECT count(*) FROM posts"), "0");
    // From another machine, without the socket, teams and users can only be archived.
    let report = run(&target(&machine)).unwrap();
    assert!(report.all_passed(), "{:#?}", report.failures());
    server.stop();
}

#[test]
fn the_suite_fails_where_a_fault_is_switched_on() {
    let machine = Machine::new();
    let server = machine.start_ready();
    machine.admin();
    let target = Target {
        timeout: Duration::from_secs(2),
        ..target(&machine)
    };
    for (fault, check) in [
        ("fail-login", "log-in"),
        ("fail-post", "post"),
        ("lose-post", "the post can be read"),
        ("lose-websocket", "WebSocket: a post arrives"),
        ("fail-upload", "upload by form"),
        ("corrupt-download", "download"),
        ("deny-search", "search finds the post"),
        ("fail-search", "search finds the post"),
        ("unhealthy", "ping with server status"),
    ] {
        machine.set_faults(fault);
        let report = run(&target).unwrap();
        let failed = report.checks.iter().any(|c| c.name == check && !c.passed);
        assert!(failed, "{fault} was not seen: {:#?}", report.failures());
    }
    machine.set_faults("");
    let report = run(&target).unwrap();
    assert!(report.all_passed(), "{:#?}", report.failures());
    server.stop();
}

#[test]
fn a_server_that_is_not_there_fails_every_check_and_hangs_none() {
    let machine = Machine::new();
    let report = run(&target(&machine)).unwrap();
    assert_eq!(report.passed(), 0, "{:#?}", report.checks);
    assert!(report.failed() >= 45, "{}", report.failed());
}

//! Faults of a start and of a stop. Those of answers are in `contract`.

use crate::machine::Machine;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

#[test]
fn a_start_can_be_made_to_fail_in_every_way() {
    let mut machine = Machine::new();
    for fault in ["exit-at-start", "exit-after-ready", "fail-migration"] {
        machine.faults = fault.to_owned();
        let mut server = machine.start();
        let ready = fault == "exit-after-ready";
        assert_eq!(
            server.wait_ready(Duration::from_millis(2_000)),
            ready,
            "{fault}"
        );
        let status = server.wait(Duration::from_secs(20)).expect(fault);
        assert_eq!(status.code(), Some(1), "{fault}");
        assert!(server.log().contains("Error: "), "{}", server.log());
        if fault == "fail-migration" {
            continue;
        }
        // The last one has to meet a database that is not migrated yet.
        machine
            .postgres
            .sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    }
    assert_eq!(
        machine.postgres.sql("SELECT count(*) FROM db_migrations"),
        "0"
    );
    machine.faults.clear();
    machine.start_ready().stop();
}

/// As in an update: the release brings a migration, and the fault is laid beside the files.
#[test]
fn a_later_releases_migration_can_be_made_to_fail_and_to_hang() {
    let machine = Machine::new();
    machine.start_ready().stop();
    let migrations = |machine: &Machine| {
        machine
            .postgres
            .sql("SELECT max(version) FROM db_migrations")
    };
    assert_eq!(migrations(&machine), "10");
    let later = include_str!("../../later/000011_count_replies.sql");
    machine.install("11.8.0", &[("000011_count_replies.sql", later)]);

    machine.set_faults("fail-migration");
    let mut server = machine.start();
    let status = server.wait(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(
        server
            .log()
            .contains("failed to apply database migrations: migration 11"),
        "{}",
        server.log()
    );
    assert_eq!(migrations(&machine), "10");

    machine.set_faults("hang-migration");
    let server = machine.start();
    let begun = Instant::now();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    while machine.postgres.sql(waits) != "1" {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            server.log()
        );
    }
    assert_eq!(migrations(&machine), "10");
    machine.set_faults("");
    assert!(
        server.wait_ready(Duration::from_secs(60)),
        "{}",
        server.log()
    );
    assert_eq!(migrations(&machine), "11");
    server.stop();
}

#[test]
fn ready_can_be_late_or_never() {
    let mut machine = Machine::new();
    machine.faults = "slow-start=2".to_owned();
    let start = Instant::now();
    machine.start_ready().stop();
    assert!(start.elapsed() >= Duration::from_secs(2));
    machine.faults = "no-ready".to_owned();
    let server = machine.start();
    assert!(!server.wait_ready(Duration::from_secs(2)));
    assert_eq!(
        machine.get("", "/system/ping").0,
        200,
        "it works all the same"
    );
    server.stop();
}

#[test]
fn a_stop_can_be_ignored_and_an_answer_withheld() {
    let mut machine = Machine::new();
    machine.faults = "ignore-term".to_owned();
    let mut server = machine.start_ready();
    server.signal(Signal::SIGTERM);
    assert!(server.wait(Duration::from_millis(500)).is_none());
    machine.set_faults("hang");
    let address = format!("{}/api/v4/system/ping", machine.address());
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_millis(500)))
        .build()
        .new_agent();
    assert!(agent.get(&address).call().is_err());
    machine.set_faults("");
    assert!(agent.get(&address).call().is_ok());
}

#[test]
fn words_that_are_no_fault_are_told() {
    let mut machine = Machine::new();
    machine.faults = "fail-lgin".to_owned();
    let server = machine.start_ready();
    assert!(
        server.log().contains("\"unknown\":[\"fail-lgin\"]"),
        "{}",
        server.log()
    );
    server.stop();
}

//! What units say by sd_notify, and what follows: atalayad with real processes, without init.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::time::Instant;

use support::{Alone, Ground, MNT, pid_of, program, signal};

#[test]
fn unit_program() {
    support::play();
}

/// A unit of the role, with `keys` before its tables and `tables` behind.
fn role(ground: &Ground, role: &str, keys: &str, tables: &str) {
    ground.put_own("here", b"");
    ground.unit(
        "unit",
        &format!(
            "type = \"service\"\n{}environment = {{ ROLE = \"{role}\" }}\n{keys}[ready]\nkind = \"notify\"\n{tables}[restart]\nmin_ms = 10\n{MNT}",
            program()
        ),
    );
}

fn descriptors_of(atalayad: &Alone<'_>) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", atalayad.pid()))
        .unwrap()
        .count()
}

/// Has the parrot say it with `fds` descriptors, and waits until atalayad has processed it.
fn say(ground: &Ground, bytes: &[u8], fds: usize) {
    let said = format!("said {}", bytes.escape_ascii());
    let count = || {
        ground
            .log("unit")
            .iter()
            .filter(|line| **line == said)
            .count()
    };
    let before = count();
    ground.put_own("fds", &vec![b'.'; fds]);
    ground.put_own("say", bytes);
    ground.until(&said, || count() > before);
}

#[test]
fn malformed_messages_change_nothing_and_leave_no_descriptor() {
    let ground = Ground::new();
    role(&ground, "parrot", "", "");
    let atalayad = ground.start();
    ground.wait("unit", |view| view["pid"].is_i64());
    say(&ground, b"STATUS=before", 0);
    let before = ground.wait("unit", |view| view["says"] == "before");
    let descriptors = descriptors_of(&atalayad);
    let long = format!("READY=1\nSTATUS={}", "x".repeat(5000));
    for wrong in [
        &b"READY=1\nSTATUS=bad\0"[..],
        b"READY=1\nSTATUS=\xff",
        b"READY=1\nSTATUS=bad\nnonsense",
        b"READY=yes\nSTATUS=bad",
        b"READY=1\nMAINPID=1\nSTATUS=bad",
        b"READY=1\nBARRIER=1\nSTATUS=bad",
        long.as_bytes(),
    ] {
        say(&ground, wrong, 7);
        let after = ground.view("unit").unwrap();
        for key in ["ready", "says", "pid", "run", "state", "stored"] {
            assert_eq!(before[key], after[key], "{key}: {}", wrong.escape_ascii());
        }
    }
    // Believed, but with descriptors that nobody asked for.
    say(&ground, b"STATUS=after", 7);
    ground.wait("unit", |view| view["says"] == "after");
    // Requests of this test come and go.
    ground.until("all are closed", || {
        descriptors_of(&atalayad) <= descriptors
    });
    atalayad.stop();
}

#[test]
fn readiness_comes_and_goes_with_the_units_words() {
    let ground = Ground::new();
    role(&ground, "parrot", "", "");
    let atalayad = ground.start();
    ground.wait("unit", |view| view["pid"].is_i64());
    say(&ground, b"READY=1\nSTATUS=up", 0);
    let ready = ground.wait_ready("unit");
    say(&ground, b"STOPPING=1\nERRNO=2", 0);
    let view = ground.wait("unit", |view| view["ready"] == false);
    assert_eq!(view["reason"], "it says that it is stopping");
    assert!(
        ground
            .log("unit")
            .iter()
            .any(|line| line.contains("error 2"))
    );
    // Not for the first time: it was away meanwhile.
    say(&ground, b"READY=1", 0);
    let again = ground.wait_ready("unit");
    assert!(again["ready_since_ms"].as_u64() > ready["ready_since_ms"].as_u64());
    assert_eq!(again["run"], 1);
    atalayad.stop();
}

#[test]
fn the_store_is_bounded_and_its_descriptors_can_be_removed() {
    let ground = Ground::new();
    role(&ground, "parrot", "", "");
    let atalayad = ground.start();
    ground.wait("unit", |view| view["pid"].is_i64());
    say(&ground, b"FDSTORE=1\nFDNAME=one", 5);
    assert_eq!(ground.view("unit").unwrap()["stored"], 5);
    say(&ground, b"FDSTORE=1\nFDNAME=two", 4);
    assert_eq!(ground.view("unit").unwrap()["stored"], 5);
    say(&ground, b"FDSTORE=1\nFDNAME=three", 3);
    assert_eq!(ground.view("unit").unwrap()["stored"], 8);
    say(&ground, b"FDSTOREREMOVE=1\nFDNAME=one", 0);
    assert_eq!(ground.view("unit").unwrap()["stored"], 3);
    atalayad.stop();
}

#[test]
fn another_main_process_takes_over_and_its_end_is_the_units() {
    let ground = Ground::new();
    role(&ground, "handing-over", "", "");
    let atalayad = ground.start();
    let ready = ground.wait("unit", |view| {
        let name = view["pid"]
            .as_i64()
            .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        view["ready"] == true && name.is_some_and(|name| name.trim() == "sleep")
    });
    // The first one has ended long ago, and nothing followed from that.
    assert_eq!(ready["run"], 1);
    signal(pid_of(&ready), 9);
    ground.wait("unit", |view| view["run"] == 2 && view["ready"] == true);
    atalayad.stop();
}

#[test]
fn a_main_process_of_another_cgroup_is_not_believed() {
    let ground = Ground::new();
    role(&ground, "parrot", "", "");
    let atalayad = ground.start();
    let before = ground.wait("unit", |view| view["pid"].is_i64());
    say(
        &ground,
        format!("READY=1\nMAINPID={}", std::process::id()).as_bytes(),
        0,
    );
    let after = ground.wait_ready("unit");
    assert_eq!(pid_of(&before), pid_of(&after));
    // A stop reaches the unit, and not this test.
    atalayad.stop();
}

#[test]
fn a_watchdog_that_is_not_fed_restarts_the_unit_and_one_that_is_does_not() {
    let ground = Ground::new();
    let liveness = "[liveness]\nkind = \"watchdog\"\ntimeout_ms = 1000\n";
    role(&ground, "petting", "", liveness);
    ground.put_own("pet", b"");
    let atalayad = ground.start();
    let ready = ground.wait("unit", |view| view["says"] == "limit 1000000");
    let begin = Instant::now();
    ground.until("three times its limit", || {
        begin.elapsed().as_millis() > 3000
    });
    assert_eq!(ground.view("unit").unwrap()["pid"], ready["pid"]);
    ground.remove_own("pet");
    let after = ground.wait("unit", |view| view["run"] == 2);
    assert_ne!(after["pid"], ready["pid"]);
    let log = ground.log("unit");
    assert!(
        log.iter().any(|line| line.contains("no WATCHDOG=1")),
        "{log:#?}"
    );
    atalayad.stop();
}

#[test]
fn a_unit_that_says_itself_that_it_is_stuck_is_restarted() {
    let ground = Ground::new();
    let liveness = "[liveness]\nkind = \"watchdog\"\ntimeout_ms = 600000\n";
    role(&ground, "parrot", "", liveness);
    let atalayad = ground.start();
    ground.wait("unit", |view| view["pid"].is_i64());
    say(&ground, b"READY=1", 0);
    ground.wait_ready("unit");
    ground.put_own("say", b"WATCHDOG=trigger");
    ground.wait("unit", |view| view["run"].as_u64() >= Some(2));
    atalayad.stop();
}

#[test]
fn a_start_may_take_longer_when_the_unit_says_so() {
    let ground = Ground::new();
    role(&ground, "late", "", "timeout_s = 1\n");
    let atalayad = ground.start();
    let ready = ground.wait_ready("unit");
    assert_eq!(ready["run"], 1);
    atalayad.stop();
}

#[test]
fn a_reload_by_signal_ends_with_ready() {
    let ground = Ground::new();
    role(
        &ground,
        "reloading notify",
        "",
        "[reload]\nsignal = \"HUP\"\ntimeout_s = 60\n",
    );
    ground.put_own("reloading", b"");
    let atalayad = ground.start();
    let ready = ground.wait("unit", |view| view["says"] == "first");
    assert_eq!(ground.post("/v1/units/unit/reload"), 200);
    ground.wait("unit", |view| view["reloading"] == true);
    ground.remove_own("reloading");
    let done = ground.wait("unit", |view| {
        view["reloading"] == false && view["says"] == "reloaded 1"
    });
    assert_eq!(
        (done["pid"].clone(), done["ready"].as_bool()),
        (ready["pid"].clone(), Some(true))
    );
    atalayad.stop();
}

#[test]
fn a_successor_takes_over_before_the_old_process_ends() {
    let ground = Ground::new();
    role(
        &ground,
        "succeeding",
        "",
        "[handover]\nsignal = \"USR2\"\ntimeout_s = 60\n",
    );
    let atalayad = ground.start();
    let old = pid_of(&ground.wait_ready("unit"));
    ground.put_own("barren", b"");
    assert_eq!(ground.post("/v1/units/unit/restart"), 200);
    let kept = ground.wait("unit", |view| view["reason"].is_string());
    let reason = kept["reason"].as_str().unwrap();
    assert!(reason.contains("its successor did not start"), "{reason}");
    assert_eq!((pid_of(&kept), kept["ready"].as_bool()), (old, Some(true)));
    ground.remove_own("barren");
    assert_eq!(ground.post("/v1/units/unit/restart"), 200);
    let after = ground.wait("unit", |view| {
        pid_of(view) != old && view["handing_over"] == false
    });
    assert_eq!(
        (&after["state"], &after["ready"], &after["run"]),
        (&"Running".into(), &true.into(), &1.into()),
        "{after:#}"
    );
    assert!(after["reason"].is_null(), "{after:#}");
    // It still has something to finish; its end is not the unit's.
    let process = std::path::PathBuf::from(format!("/proc/{old}"));
    assert!(process.exists());
    ground.put_own("enough", b"");
    ground.until("the old process has ended", || !process.exists());
    let later = ground.view("unit").unwrap();
    assert_eq!(
        (&later["pid"], &later["state"]),
        (&after["pid"], &after["state"])
    );
    atalayad.stop();
}

#[test]
fn a_reload_by_command_that_fails_is_told_and_the_unit_runs_on() {
    let ground = Ground::new();
    let command = "[reload]\ncommand = [\"/bin/sh\", \"-c\", \"test -e /mnt/good || { echo no such setting; exit 1; }\"]\n";
    ground.put_own("here", b"");
    ground.unit(
        "unit",
        &format!("type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n{command}{MNT}"),
    );
    let atalayad = ground.start();
    let before = ground.wait_ready("unit");
    assert_eq!(ground.post("/v1/units/unit/reload"), 200);
    let failed = ground.wait("unit", |view| view["reason"].is_string());
    assert!(
        failed["reason"]
            .as_str()
            .unwrap()
            .contains("reload failed: no such setting"),
        "{failed:#}"
    );
    assert_eq!(
        (pid_of(&before), failed["ready"].as_bool()),
        (pid_of(&failed), Some(true))
    );
    ground.put_own("good", b"");
    assert_eq!(ground.post("/v1/units/unit/reload"), 200);
    ground.wait("unit", |view| {
        view["reason"].is_null() && view["reloading"] == false
    });
    atalayad.stop();
}

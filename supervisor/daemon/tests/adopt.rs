//! atalayad under an init: this process plays it. It keeps records and descriptors, reaps, tells exits, and kills
//! atalayad in the middle of its work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::time::{Duration, Instant};

use atalaya_core::link::{Action, FromInit, Source};
use support::init::Init;
use support::{Ground, pid_of, program, signal};

#[test]
fn unit_program() {
    support::play();
}

const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";

#[test]
fn units_keep_their_process_when_atalayad_is_killed() {
    let ground = Ground::new();
    ground.unit(
        "first",
        "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"echo once\"]\n",
    );
    ground.unit(
        "unit",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"while read line; do echo got $line; done </mnt/pipe\"]\nrequires = [\"first\"]\n[sandbox]\ndata = [{ source = \"data:own\", path = \"/mnt\" }]\n",
    );
    std::fs::create_dir(ground.path("data/own")).unwrap();
    nix::unistd::mkfifo(
        &ground.path("data/own/pipe"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["ready"] == true);
    // Opening waits for the unit to open its end.
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(ground.path("data/own/pipe"))
        .unwrap();
    init.kill_daemon();
    // What it says while nobody listens waits in the pipe.
    std::io::Write::write_all(&mut pipe, b"meanwhile\n").unwrap();
    let after = init.until_unit("unit", |view| view["ready"] == true);
    assert_eq!(pid_of(&before), pid_of(&after));
    assert_eq!(before["run"], after["run"]);
    assert_eq!(before["ready_since_ms"], after["ready_since_ms"]);
    init.until("its words arrive", |init| {
        init.ground
            .log("unit")
            .contains(&"got meanwhile".to_owned())
    });
    // A one-shot that was done is not done again.
    assert_eq!(ground.view("first").unwrap()["run"], 1);
    init.end();
}

#[test]
fn an_exit_that_happened_meanwhile_is_applied() {
    let ground = Ground::new();
    ground.unit("unit", &format!("{SLEEPER}[restart]\nmin_ms = 10\n"));
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["ready"] == true);
    // Both at once: whoever comes first, the exit is told to the new one.
    signal(init.daemon, 19);
    signal(pid_of(&before), 9);
    init.until("the exit is seen", |init| !init.exits.is_empty());
    init.kill_daemon();
    let after = init.until_unit("unit", |view| view["run"] == 2 && view["ready"] == true);
    assert_eq!(after["last_exit"], "killed by signal 9");
    init.until("the exit is acknowledged", |init| init.exits.is_empty());
    init.end();
}

#[test]
fn ready_that_was_said_meanwhile_is_heard() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        &format!("type = \"service\"\n{}environment = {{ ROLE = \"notify\" }}\n[ready]\nkind = \"notify\"\n", program()),
    );
    let mut init = Init::new(&ground);
    init.until("the run is kept with its process", |init| {
        init.kept
            .get("run/unit.1")
            .is_some_and(|(_, fds)| fds.len() == 3)
    });
    init.kill_daemon();
    let view = init.until_unit("unit", |view| view["ready"] == true);
    assert_eq!(view["run"], 1);
    init.end();
}

/// After every single message that atalayad sends on the way up.
#[test]
fn atalayad_may_die_at_every_step_of_a_start() {
    for fuse in 1..16 {
        let ground = Ground::new();
        ground.unit("first", "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"echo once\"]\n[restart]\nmin_ms = 10\n");
        ground.unit(
            "unit",
            &format!("{SLEEPER}requires = [\"first\"]\n[restart]\nmin_ms = 10\n"),
        );
        let mut init = Init::new(&ground);
        init.fuse = Some(fuse);
        // With many messages, only after the unit was ready: a heartbeat is one too.
        init.until("the death", |init| init.deaths == 1);
        let view = init.until_unit("unit", |view| view["ready"] == true);
        assert_eq!(init.deaths, 1, "{fuse}");
        let pids = atalaya_sys::cgroup::Cgroup::at(ground.cgroup.join("units"))
            .pids()
            .unwrap_or_default();
        assert!(pids.is_empty());
        let run = format!("units/unit.{}", view["run"]);
        assert_eq!(
            atalaya_sys::cgroup::Cgroup::at(ground.cgroup.join(run))
                .pids()
                .unwrap(),
            [pid_of(&view)],
            "{fuse}"
        );
        init.end();
    }
}

#[test]
fn a_shutdown_goes_on_when_atalayad_dies_in_it() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 1000; done\"]\n[stop]\ntimeout_s = 1\n",
    );
    let mut init = Init::new(&ground);
    init.until_unit("unit", |view| view["ready"] == true);
    init.send(
        &FromInit::Request {
            action: Action::Reboot,
            source: Source::CtrlAltDel,
        },
        &[],
    );
    init.until_unit("unit", |view| view["state"] == "Stopping");
    init.kill_daemon();
    init.until("the shutdown", |init| init.shutdown.is_some());
    assert_eq!(init.shutdown, Some(Action::Reboot));
}

#[test]
fn a_hanging_atalayad_is_killed_and_its_successor_takes_over() {
    let ground = Ground::new();
    ground.unit("unit", &format!("{SLEEPER}[restart]\nmin_ms = 10\n"));
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["ready"] == true);
    init.silence = Some(Duration::from_secs(5));
    signal(init.daemon, 19);
    init.until("the hanging one is replaced", |init| init.deaths == 1);
    let after = init.until_unit("unit", |view| view["ready"] == true);
    assert_eq!(
        (pid_of(&before), &before["run"]),
        (pid_of(&after), &after["run"])
    );
    init.end();
}

#[test]
fn what_was_said_while_there_was_no_atalayad_is_told_by_init() {
    let ground = Ground::new();
    ground.unit("unit", &format!("{SLEEPER}[ready]\nkind = \"notify\"\n"));
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["pid"].is_i64());
    let memory =
        nix::sys::memfd::memfd_create(c"drained", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::write(&memory, b"in between\n").unwrap();
    let name = || "run/unit.1".to_owned();
    init.meanwhile = vec![
        (
            FromInit::Drained {
                name: name(),
                dropped: 7,
            },
            vec![memory],
        ),
        (
            FromInit::Notified {
                name: name(),
                pid: pid_of(&before),
                text: "READY=1\nSTATUS=while you were out".into(),
            },
            vec![],
        ),
    ];
    init.kill_daemon();
    let view = init.until_unit("unit", |view| view["ready"] == true);
    assert_eq!(view["says"], "while you were out");
    let log = ground.log("unit");
    assert!(log.contains(&"in between".to_owned()), "{log:#?}");
    assert!(
        log.iter().any(|line| line.starts_with("7 bytes")),
        "{log:#?}"
    );
    init.end();
}

#[test]
fn what_another_version_has_written_is_neither_used_nor_deleted() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        &format!("{SLEEPER}[restart]\nmin_ms = 10\nlimit = 2\n"),
    );
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["ready"] == true);
    let newer = "{\"version\":99,\"machine\":{\"state\":\"Dreaming\"}}".to_owned();
    init.kept.get_mut("unit/unit").unwrap().0 = newer.clone();
    init.kept.get_mut("system").unwrap().0 = "{\"version\":99}".to_owned();
    init.kill_daemon();
    let view = init.until_unit("unit", |view| view["state"] == "Stopped");
    assert!(view["pid"].is_null());
    assert_eq!(init.kept["unit/unit"].0, newer);
    // It is not started a second time beside the process that is there.
    init.post("/v1/units/unit/start");
    let failed = init.until_unit("unit", |view| view["state"] == "Failed");
    let words = failed["words"].as_str().unwrap();
    assert!(
        words.contains("another version") && words.contains("unit.1"),
        "{words}"
    );
    let pids = atalaya_sys::cgroup::Cgroup::at(ground.cgroup.join("units/unit.1")).pids();
    assert_eq!(pids.unwrap(), [pid_of(&before)]);
    let said = ground.log("atalayad").join("\n");
    assert!(
        said.contains("version 99") && said.contains("version 3"),
        "{said}"
    );
}

#[test]
fn the_deadline_of_a_start_begins_anew_at_adoption() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        &format!(
            "{SLEEPER}[ready]\nkind = \"notify\"\ntimeout_s = 4\n[restart]\npolicy = \"never\"\n"
        ),
    );
    let mut init = Init::new(&ground);
    init.until_unit("unit", |view| view["pid"].is_i64());
    // Longer without a supervisor than the start may take.
    signal(init.daemon, 19);
    let begin = Instant::now();
    init.until("longer than its limit", |_| {
        begin.elapsed() > Duration::from_millis(4_500)
    });
    init.kill_daemon();
    let adopted = Instant::now();
    init.until_unit("unit", |view| view["state"] == "Starting");
    init.until_unit("unit", |view| view["state"] == "Failed");
    assert!(adopted.elapsed() > Duration::from_secs(3));
    init.end();
}

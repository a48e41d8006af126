//! atalayad with real processes, without init: order, readiness, restarts, stops, logs, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::time::Instant;

use support::{Ground, free_port, pid_of, program, put, signal};

#[test]
fn unit_program() {
    support::play();
}

const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";

#[test]
fn a_chain_of_every_kind_comes_up_in_order_and_goes_down_in_reverse() {
    let ground = Ground::new();
    let (tcp, http) = (free_port(), free_port());
    let program = program();
    put(&ground.path("data/flag"), "");
    ground.unit(
        "first",
        "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"echo one; echo two >&2\"]\n",
    );
    ground.unit(
        "notifies",
        &format!("type = \"service\"\n{program}requires = [\"first\"]\nenvironment = {{ ROLE = \"notify\" }}\n[ready]\nkind = \"notify\"\n"),
    );
    ground.unit(
        "listens",
        &format!("type = \"service\"\n{program}requires = [\"notifies\"]\nenvironment = {{ ROLE = \"tcp {tcp}\" }}\n[ready]\nkind = \"tcp\"\naddress = \"127.0.0.1:{tcp}\"\ninterval_ms = 20\n"),
    );
    ground.unit(
        "answers",
        &format!("type = \"service\"\n{program}requires = [\"listens\"]\nenvironment = {{ ROLE = \"http {http} /data/flag\" }}\n[ready]\nkind = \"http\"\nurl = \"http://127.0.0.1:{http}/\"\ninterval_ms = 20\n[sandbox]\ndata_read = [{{ source = \"data:\u{2e}flags\", path = \"/mnt\", create = true }}]\n").replace("data:.flags", "data:flags").replace("/data/flag", "/mnt/flag"),
    );
    std::fs::create_dir(ground.path("data/flags")).unwrap();
    put(&ground.path("data/flags/flag"), "");
    ground.unit(
        "checked",
        &format!("{SLEEPER}requires = [\"answers\"]\n[ready]\nkind = \"exec\"\ncommand = [\"/bin/test\", \"-d\", \"/\"]\ninterval_ms = 20\n"),
    );
    let atalayad = ground.start();
    ground.wait_ready("checked");
    let since = |unit: &str| {
        ground.view(unit).unwrap()["ready_since_ms"]
            .as_u64()
            .unwrap()
    };
    let times: Vec<u64> = ["first", "notifies", "listens", "answers", "checked"]
        .map(since)
        .into();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(ground.view("first").unwrap()["result"], "two");
    assert_eq!(
        ground.wait("notifies", |view| !view["says"].is_null())["says"],
        "at work"
    );
    atalayad.stop();
    let stored = ground.stored();
    let place = |line: &str| {
        stored
            .iter()
            .rposition(|stored| stored == line)
            .unwrap_or_else(|| panic!("{line} is not in {stored:#?}"))
    };
    assert!(place("first: one") < place("first: done"));
    let ends = ["checked", "answers", "listens", "notifies"]
        .map(|unit| place(&format!("{unit}: stopped")));
    assert!(ends.is_sorted(), "{stored:#?}");
}

#[test]
fn a_killed_unit_comes_back_with_another_process() {
    let ground = Ground::new();
    ground.unit("sleeper", &format!("{SLEEPER}[restart]\nmin_ms = 10\n"));
    let atalayad = ground.start();
    let before = ground.wait_ready("sleeper");
    signal(pid_of(&before), 9);
    let after = ground.wait("sleeper", |view| view["run"] == 2 && view["ready"] == true);
    assert_ne!(before["pid"], after["pid"]);
    assert_eq!(after["last_exit"], "killed by signal 9");
    atalayad.stop();
}

#[test]
fn a_crash_loop_pauses_longer_and_longer_and_ends_in_failed_with_a_reason() {
    let ground = Ground::new();
    ground.unit(
        "crasher",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"echo last words; exit 3\"]\n[ready]\nkind = \"notify\"\n[restart]\nmin_ms = 20\nlimit = 4\n",
    );
    ground.unit("above", &format!("{SLEEPER}requires = [\"crasher\"]\n"));
    let begin = Instant::now();
    let atalayad = ground.start();
    let failed = ground.wait_state("crasher", "Failed");
    // Three pauses of at least 15, 30 and 60 ms.
    assert!(begin.elapsed().as_millis() >= 105);
    assert_eq!(failed["run"], 4);
    let words = failed["words"].as_str().unwrap();
    assert!(
        words.contains("4 starts") && words.contains("exit status 3"),
        "{words}"
    );
    assert!(ground.log("crasher").contains(&"last words".to_owned()));
    assert_eq!(
        ground.view("above").unwrap()["words"],
        "waiting for crasher"
    );
    // A person may try again.
    assert_eq!(ground.post("/v1/units/crasher/start"), 200);
    ground.wait("crasher", |view| {
        view["run"] == 8 && view["state"] == "Failed"
    });
    atalayad.stop();
}

#[test]
fn readiness_is_watched_lost_and_found_without_a_restart() {
    let ground = Ground::new();
    let port = free_port();
    std::fs::create_dir(ground.path("data/flags")).unwrap();
    let flag = ground.path("data/flags/up");
    put(&flag, "");
    ground.unit(
        "answers",
        &format!("type = \"service\"\n{}environment = {{ ROLE = \"http {port} /mnt/up\" }}\n[ready]\nkind = \"http\"\nurl = \"http://127.0.0.1:{port}/\"\ninterval_ms = 20\nwatch_interval_ms = 20\n[sandbox]\ndata_read = [{{ source = \"data:flags\", path = \"/mnt\" }}]\n", program()),
    );
    let atalayad = ground.start();
    let pid = pid_of(&ground.wait_ready("answers"));
    std::fs::remove_file(&flag).unwrap();
    let lost = ground.wait("answers", |view| view["ready"] == false);
    assert_eq!(
        (lost["state"].as_str(), lost["reason"].as_str()),
        (Some("Running"), Some("HTTP status 500"))
    );
    put(&flag, "");
    let found = ground.wait_ready("answers");
    assert_eq!((pid_of(&found), found["run"].as_u64()), (pid, Some(1)));
    atalayad.stop();
}

#[test]
fn a_stop_ends_the_deaf_and_all_that_a_unit_has_left_behind() {
    let ground = Ground::new();
    ground.unit(
        "deaf",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"trap '' TERM; setsid sleep 1001 & while :; do sleep 1002; done\"]\n[stop]\ntimeout_s = 1\n",
    );
    let atalayad = ground.start();
    ground.wait_ready("deaf");
    let cgroup = atalaya_sys::cgroup::Cgroup::at(ground.cgroup.join("units/deaf.1"));
    while cgroup.pids().unwrap().len() < 3 {
        std::thread::yield_now();
    }
    assert_eq!(ground.post("/v1/units/deaf/stop"), 200);
    let stopped = ground.wait_state("deaf", "Stopped");
    assert_eq!(stopped["last_exit"], "killed by signal 9");
    assert!(!cgroup.path().exists());
    atalayad.stop();
}

#[test]
fn what_a_one_shot_leaves_behind_ends_before_it_is_done() {
    let ground = Ground::new();
    ground.unit(
        "leaver",
        "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"setsid sleep 1003 & exit 0\"]\n",
    );
    let atalayad = ground.start();
    ground.wait_state("leaver", "Done");
    assert!(!ground.cgroup.join("units/leaver.1").exists());
    atalayad.stop();
}

#[test]
fn a_start_that_cannot_be_names_the_stage() {
    let ground = Ground::new();
    let never = "[restart]\npolicy = \"never\"\n";
    ground.unit(
        "nowhere",
        &format!(
            "type = \"service\"\nexec = [\"/nowhere/at/all\"]\n[ready]\nkind = \"notify\"\n{never}"
        ),
    );
    ground.unit(
        "nobodys",
        &format!("{SLEEPER}user = \"no-such-user\"\n{never}"),
    );
    ground.unit(
        "unmounted",
        &format!("{SLEEPER}[ready]\nkind = \"notify\"\n{never}[sandbox]\ndata = [{{ source = \"data:missing\", path = \"/mnt\" }}]\n"),
    );
    let atalayad = ground.start();
    for (unit, stage, text) in [
        ("nowhere", "failed at exec", "/nowhere/at/all"),
        ("nobodys", "failed at sandbox", "no-such-user"),
        ("unmounted", "failed at sandbox", "data/missing"),
    ] {
        let words = ground.wait_state(unit, "Failed")["words"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(words.starts_with(stage) && words.contains(text), "{words}");
    }
    atalayad.stop();
}

#[test]
fn a_start_that_takes_too_long_is_ended() {
    let ground = Ground::new();
    ground.unit(
        "slow",
        &format!(
            "{SLEEPER}[ready]\nkind = \"notify\"\ntimeout_s = 1\n[restart]\npolicy = \"never\"\n"
        ),
    );
    let atalayad = ground.start();
    let words = ground.wait_state("slow", "Failed")["words"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(words, "failed at readiness: not ready within 1 s");
    atalayad.stop();
}

#[test]
fn ready_by_somebody_else_is_not_believed() {
    let ground = Ground::new();
    ground.unit("quiet", &format!("{SLEEPER}[ready]\nkind = \"notify\"\n"));
    let atalayad = ground.start();
    ground.wait("quiet", |view| view["pid"].is_i64());
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    // More than its queue holds: when the last is in, the first was read.
    for _ in 0..30 {
        socket
            .send_to(b"READY=1\nSTATUS=liar", ground.path("run/notify/quiet.1"))
            .unwrap();
    }
    let view = ground.view("quiet").unwrap();
    assert_eq!(
        (view["ready"].as_bool(), view["says"].as_str()),
        (Some(false), None),
        "{view:#}"
    );
    atalayad.stop();
}

#[test]
fn a_set_of_units_that_cannot_be_is_refused_with_file_and_line() {
    let ground = Ground::new();
    ground.unit("a", &format!("{SLEEPER}colour = \"red\"\n"));
    let said = ground.refused();
    assert!(
        said.contains("units/a.toml:4:") && said.contains("colour"),
        "{said}"
    );
    ground.unit("a", &format!("{SLEEPER}requires = [\"b\"]\n"));
    ground.unit("b", &format!("{SLEEPER}after = [\"a\"]\n"));
    let said = ground.refused();
    assert!(said.contains("a -> b -> a"), "{said}");
}

#[test]
fn the_edge_is_told_who_is_ready_and_since_when() {
    let ground = Ground::new();
    ground.unit("postgres", &format!("{SLEEPER}[restart]\nmin_ms = 10\n"));
    ground.unit(
        "mattermost",
        &format!("{SLEEPER}requires = [\"postgres\"]\n"),
    );
    ground.unit(
        "first-administrator",
        "type = \"oneshot\"\nexec = [\"/bin/true\"]\nrequires = [\"mattermost\"]\n",
    );
    let atalayad = ground.start();
    ground.wait_ready("first-administrator");
    let first = ground.upstream();
    assert_eq!(
        (first["admit"].as_bool(), first["waiting_for"].is_null()),
        (Some(true), true),
        "{first:#}"
    );
    signal(pid_of(&ground.view("postgres").unwrap()), 9);
    ground.wait("postgres", |view| view["run"] == 2 && view["ready"] == true);
    let second = ground.upstream();
    assert!(second["postgres_ready_since_ms"].as_u64() > first["postgres_ready_since_ms"].as_u64());
    assert_eq!(
        second["mattermost_ready_since_ms"],
        first["mattermost_ready_since_ms"]
    );
    atalayad.stop();
    assert_eq!(ground.upstream()["admit"], false);
}

#[test]
fn a_flood_of_output_is_neither_lost_nor_in_the_way() {
    let ground = Ground::new();
    ground.unit(
        "talker",
        "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; printf 'no newline \\\\377'\"]\n",
    );
    let atalayad = ground.start();
    ground.wait_state("talker", "Done");
    atalayad.stop();
    let stored = ground.stored();
    let of_talker = stored
        .iter()
        .filter(|line| line.starts_with("talker: line "))
        .count();
    assert_eq!(of_talker, 20_000);
    assert!(stored.contains(&"talker: no newline \u{fffd}".to_owned()));
}

#[test]
fn the_control_socket_refuses_in_three_sentences_and_is_roots_alone() {
    use std::os::unix::fs::MetadataExt;
    let ground = Ground::new();
    ground.unit("sleeper", SLEEPER);
    let atalayad = ground.start();
    ground.wait_ready("sleeper");
    for (method, path, expected) in [
        ("GET", "/v1/units/nobody", 404),
        ("POST", "/v1/units/nobody/stop", 404),
        ("POST", "/v1/units/sleeper/explode", 404),
        ("GET", "/v2/status", 404),
    ] {
        let (status, body) = ground.request(method, path).unwrap();
        assert_eq!(status, expected, "{method} {path}: {body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        for sentence in ["error", "data", "next"] {
            assert!(
                body[sentence].as_str().is_some_and(|text| !text.is_empty()),
                "{path}: {body}"
            );
        }
    }
    let mode = ground.path("run/control.sock").metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    atalayad.stop();
}

#[test]
fn logs_are_found_by_unit_boot_and_time() {
    let ground = Ground::new();
    for name in ["one", "two"] {
        ground.unit(
            name,
            &format!("type = \"oneshot\"\nexec = [\"/bin/echo\", \"words of {name}\"]\n"),
        );
    }
    // A boot that was before this one.
    let old = ground.path("data/logs/000001-0ld");
    std::fs::create_dir_all(&old).unwrap();
    put(
        &old.join("000001.jsonl"),
        "{\"t\":\"2001-01-01T00:00:00.000Z\",\"unit\":\"one\",\"boot\":\"0ld\",\"line\":\"long ago\"}\n{\"torn",
    );
    let atalayad = ground.start();
    ground.wait_state("one", "Done");
    ground.wait_state("two", "Done");
    let ask = |query: &str| {
        ground
            .request("GET", &format!("/v1/logs?{query}"))
            .unwrap()
            .1
    };
    assert!(ask("unit=one").contains("words of one") && ask("unit=one").contains("long ago"));
    assert!(!ask("unit=one").contains("words of two"));
    assert!(ask("boot=-1").contains("long ago") && !ask("boot=-1").contains("words"));
    // What the boot before has said last may be repeated there, but not as a line of that unit.
    let long_ago = "\"line\":\"long ago\"";
    assert!(!ask("boot=0").contains(long_ago) && ask("boot=0").contains("words of two"));
    assert!(ask("boot=0ld").contains("long ago"));
    assert!(!ask("since=2002-01-01T00:00:00Z").contains(long_ago));
    atalayad.stop();
}

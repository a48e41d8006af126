//! Readiness that is lost and found, liveness, listening sockets, new unit files: atalayad with real processes, without
//! init.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::net::TcpStream;

use support::{Ground, MNT, free_port, pid_of, program, put, signal};

#[test]
fn unit_program() {
    support::play();
}

const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";

/// A unit that answers HTTP with 200 while it sees /mnt/up.
fn answering(port: u16) -> String {
    format!(
        "type = \"service\"\n{}environment = {{ ROLE = \"http {port} /mnt/up\" }}\n",
        program()
    )
}

#[test]
fn a_unit_that_notifies_is_asked_from_then_on_and_its_last_line_is_the_reason() {
    let ground = Ground::new();
    ground.put_own("accepting", b"");
    ground.unit(
        "postgres",
        &format!(
            "type = \"service\"\n{}environment = {{ ROLE = \"notify\" }}\n[ready]\nkind = \"notify\"\nwatch_interval_ms = 20\ninterval_ms = 20\n\
             command = [\"/bin/sh\", \"-c\", \"echo looking; test -e /mnt/accepting || {{ echo socket:5432 - rejecting connections; exit 1; }}\"]\n{MNT}",
            program()
        ),
    );
    let atalayad = ground.start();
    let before = ground.wait_ready("postgres");
    ground.remove_own("accepting");
    let lost = ground.wait("postgres", |view| view["ready"] == false);
    assert_eq!(
        (lost["state"].as_str(), lost["reason"].as_str()),
        (Some("Running"), Some("socket:5432 - rejecting connections"))
    );
    assert_eq!(
        lost["words"],
        "recovering (socket:5432 - rejecting connections)"
    );
    assert_eq!(ground.upstream()["postgres_ready"], false);
    ground.put_own("accepting", b"");
    let found = ground.wait_ready("postgres");
    assert_eq!(
        (pid_of(&found), found["run"].as_u64()),
        (pid_of(&before), Some(1))
    );
    atalayad.stop();
}

#[test]
fn a_check_that_hangs_is_killed_and_is_no_answer() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        &format!(
            "{SLEEPER}[liveness]\nkind = \"exec\"\ncommand = [\"/bin/sleep\", \"1005\"]\ninterval_ms = 100\ntimeout_ms = 200\nthreshold = 2\n[restart]\nmin_ms = 10\n"
        ),
    );
    let atalayad = ground.start();
    ground.wait("unit", |view| view["run"].as_u64() >= Some(2));
    let log = ground.log("unit");
    assert!(
        log.iter()
            .any(|line| line.contains("no answer within 200 ms")),
        "{log:#?}"
    );
    atalayad.stop();
}

#[test]
fn a_unit_that_fails_its_checks_is_restarted_at_the_threshold() {
    let ground = Ground::new();
    let port = free_port();
    ground.put_own("up", b"");
    ground.unit(
        "unit",
        &format!(
            "{}[ready]\nkind = \"tcp\"\naddress = \"127.0.0.1:{port}\"\ninterval_ms = 20\n[liveness]\nkind = \"http\"\nurl = \"http://127.0.0.1:{port}/\"\n\
             interval_ms = 100\nthreshold = 3\n[restart]\nmin_ms = 10\n{MNT}",
            answering(port)
        ),
    );
    let atalayad = ground.start();
    let before = ground.wait_ready("unit");
    ground.remove_own("up");
    let after = ground.wait("unit", |view| view["run"] == 2);
    assert_ne!(before["pid"], after["pid"]);
    let log = ground.log("unit");
    let cause = "3 checks in a row failed: HTTP status 500";
    assert!(log.iter().any(|line| line.contains(cause)), "{log:#?}");
    atalayad.stop();
}

/// As Mattermost and PostgreSQL: it answers badly while the database is away, and finds its way back by itself or not.
#[test]
fn while_what_it_requires_is_away_nobody_is_called_stuck() {
    let ground = Ground::new();
    let port = free_port();
    ground.put_own("up", b"");
    ground.put_own("accepting", b"");
    ground.unit(
        "postgres",
        &format!("{SLEEPER}[ready]\nkind = \"exec\"\ncommand = [\"/bin/test\", \"-e\", \"/mnt/accepting\"]\ninterval_ms = 20\nwatch_interval_ms = 20\n{MNT}"),
    );
    let checks = format!("url = \"http://127.0.0.1:{port}/\"\ninterval_ms = 100\n");
    ground.unit(
        "mattermost",
        &format!(
            "requires = [\"postgres\"]\n{}[ready]\nkind = \"http\"\nwatch_interval_ms = 50\n{checks}[liveness]\nkind = \"http\"\nthreshold = 3\n{checks}[restart]\nmin_ms = 10\n{MNT}",
            answering(port)
        ),
    );
    let atalayad = ground.start();
    let before = ground.wait_ready("mattermost");
    ground.remove_own("accepting");
    ground.wait("postgres", |view| view["ready"] == false);
    ground.remove_own("up");
    ground.wait("mattermost", |view| view["ready"] == false);
    // Many checks more than the threshold.
    let begin = std::time::Instant::now();
    ground.until("twenty checks", || begin.elapsed().as_millis() > 1000);
    let meanwhile = ground.view("mattermost").unwrap();
    assert_eq!(
        (&meanwhile["pid"], meanwhile["run"].as_u64()),
        (&before["pid"], Some(1))
    );
    // The database is back, and this one with it.
    ground.put_own("up", b"");
    ground.put_own("accepting", b"");
    let back = ground.wait_ready("mattermost");
    assert_eq!(back["run"], 1);
    // The database is there, and this one does not answer: now it is stuck.
    ground.remove_own("up");
    ground.wait("mattermost", |view| view["run"] == 2);
    atalayad.stop();
}

fn listening(ground: &Ground, keys: &str) {
    ground.unit(
        "unit",
        &format!(
            "type = \"service\"\n{}environment = {{ ROLE = \"listening\" }}\nlisten = [{{ name = \"web\", file = \"GROUND/web.toml\", key = \"listen\" }}]\n\
             [ready]\nkind = \"notify\"\n{keys}",
            program()
        ),
    );
}

fn set_address(ground: &Ground, port: u16) {
    put(
        &ground.path("web.toml"),
        &format!("listen = \"127.0.0.1:{port}\"\n"),
    );
}

#[test]
fn a_stopped_or_failed_unit_listens_no_more_and_a_changed_address_is_taken_up() {
    let ground = Ground::new();
    let (first, second) = (free_port(), free_port());
    set_address(&ground, first);
    listening(&ground, "[restart]\nmin_ms = 10\nlimit = 3\n");
    let atalayad = ground.start();
    let ready = ground.wait("unit", |view| view["says"].is_string());
    assert_eq!(ready["says"], format!("on web 127.0.0.1:{first}"));
    let is_open = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
    assert!(is_open(first));
    assert_eq!(ground.post("/v1/units/unit/stop"), 200);
    ground.wait_state("unit", "Stopped");
    assert!(!is_open(first));
    assert_eq!(ground.post("/v1/units/unit/start"), 200);
    ground.wait_ready("unit");
    assert!(is_open(first));
    set_address(&ground, second);
    assert_eq!(ground.post("/v1/units/unit/restart"), 200);
    ground.wait("unit", |view| view["run"] == 3 && view["ready"] == true);
    assert_eq!((is_open(first), is_open(second)), (false, true));
    // Given up.
    put(&ground.path("web.toml"), "listen = \"somewhere\"\n");
    signal(pid_of(&ground.view("unit").unwrap()), 9);
    let failed = ground.wait_state("unit", "Failed");
    let words = failed["words"].as_str().unwrap();
    assert!(
        words.contains("web.toml is \"somewhere\", not an IP address and a port"),
        "{words}"
    );
    assert!(!is_open(second));
    atalayad.stop();
}

#[test]
fn new_unit_files_are_taken_as_a_whole_or_not_at_all() {
    let ground = Ground::new();
    ground.unit("old", SLEEPER);
    ground.unit("stays", SLEEPER);
    let atalayad = ground.start();
    let before = ground.wait_ready("stays");
    ground.wait_ready("old");
    ground.unit("stays", &format!("{SLEEPER}colour = \"red\"\n"));
    ground.unit("new", SLEEPER);
    let (status, body) = ground.request("POST", "/v1/reload").unwrap();
    assert_eq!(status, 409, "{body}");
    assert!(
        body.contains("units/stays.toml:4") && body.contains("colour"),
        "{body}"
    );
    assert_eq!(ground.request("GET", "/v1/units/new").unwrap().0, 404);
    ground.unit("stays", &format!("{SLEEPER}umask = \"0027\"\n"));
    std::fs::remove_file(ground.path("units/old.toml")).unwrap();
    let (status, body) = ground.request("POST", "/v1/reload").unwrap();
    assert_eq!(status, 200, "{body}");
    // First what is gone is stopped, then the new ones count.
    ground.until("the new one is there", || {
        ground.request("GET", "/v1/units/new").unwrap().0 == 200
    });
    ground.wait_ready("new");
    let after = ground.view("stays").unwrap();
    assert_eq!(
        (&before["pid"], &before["run"]),
        (&after["pid"], &after["run"])
    );
    ground.until("the old one is gone", || {
        ground.request("GET", "/v1/units/old").unwrap().0 == 404
    });
    atalayad.stop();
}

#[test]
fn a_crash_loop_shows_the_last_lines() {
    let ground = Ground::new();
    ground.unit(
        "crasher",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"echo cannot find the moon; exit 3\"]\n[ready]\nkind = \"notify\"\n[restart]\nmin_ms = 10\nlimit = 2\n",
    );
    let atalayad = ground.start();
    ground.wait_state("crasher", "Failed");
    let failed = ground.wait("crasher", |view| !view["last_lines"].is_null());
    let lines = failed["last_lines"].to_string();
    assert!(lines.contains("cannot find the moon"), "{lines}");
    atalayad.stop();
}

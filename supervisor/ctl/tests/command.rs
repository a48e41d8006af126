//! The command against a socket that answers from a list: what is asked, what is shown, and the exit status.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};

static COUNTER: AtomicU32 = AtomicU32::new(0);

fn fresh_path() -> PathBuf {
    let name = format!(
        "atalaya-ctl-{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    );
    std::env::temp_dir().join(name)
}

/// Runs the command while the answers last; returns its output and what was asked.
fn run(arguments: &[&str], answers: Vec<(u16, Value)>) -> (Output, Vec<String>) {
    let path = fresh_path();
    let server = serve(&path, answers.into());
    let output = Command::new(env!("CARGO_BIN_EXE_atalaya"))
        .arg("--socket")
        .arg(&path)
        .args(arguments)
        .output()
        .unwrap();
    // Wakes the server if it still waits for a request.
    drop(std::os::unix::net::UnixStream::connect(&path));
    let asked = server.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    (output, asked)
}

#[test]
fn maintenance_says_what_users_read_and_how_to_end_it() {
    let on = json!({ "on": true, "message": "Back at 6.", "since": "2026-11-22T22:00:00.000Z", "kept": true,
                     "admit": false, "state": "closed for maintenance: Back at 6." });
    let arguments = ["maintenance", "on", "--message", "Back at 6."];
    let (output, asked) = run(&arguments, vec![(200, on)]);
    assert!(output.status.success());
    assert_eq!(asked, ["POST /v1/maintenance/on"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said,
        "Users see the maintenance page, since 2026-11-22 22:00:00 UTC.\nThey read: Back at 6.\n\
         To let them in again: atalaya maintenance off\n"
    );
    let off = json!({ "on": false, "admit": true, "state": "ready" });
    let (output, asked) = run(&["maintenance", "off"], vec![(200, off)]);
    assert_eq!(asked, ["POST /v1/maintenance/off"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "There is no maintenance. Users are let in.\n");
}

/// An init that answers one request with one line; tells what was asked.
fn serve_init(path: &Path, answer: Value) -> JoinHandle<String> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        reader
            .into_inner()
            .write_all(format!("{answer}\n").as_bytes())
            .unwrap();
        line.trim_end().to_owned()
    })
}

/// Runs the command with no supervisor and an init that answers so.
fn run_without_supervisor(arguments: &[&str], answer: Value) -> (Output, String) {
    let path = fresh_path();
    let init = serve_init(&path, answer);
    let output = Command::new(env!("CARGO_BIN_EXE_atalaya"))
        .args(["--socket", "/nowhere/at/all", "--init-socket"])
        .arg(&path)
        .args(arguments)
        .output()
        .unwrap();
    let asked = init.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    (output, asked)
}

fn serve(path: &PathBuf, mut answers: VecDeque<(u16, Value)>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        loop {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap() == 0 {
                return asked;
            }
            asked.push(line.trim_end_matches(" HTTP/1.0\r\n").to_owned());
            let (status, body) = answers
                .pop_front()
                .unwrap_or_else(|| panic!("one question too many: {asked:?}"));
            let answer =
                format!("HTTP/1.0 {status} X\r\ncontent-type: application/json\r\n\r\n{body}");
            reader.into_inner().write_all(answer.as_bytes()).unwrap();
        }
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn unit(state: &str, ready: bool, run: u32) -> Value {
    json!({ "name": "app", "state": state, "ready": ready, "run": run, "words": state.to_lowercase(), "result": "{\"ok\":true}" })
}

#[test]
fn a_refusal_is_shown_in_three_sentences_and_fails() {
    let refusal = json!({ "error": "there is no service named app", "data": "Nothing was changed.", "next": "Choose one of: x." });
    let (output, _) = run(&["unit", "show", "app"], vec![(404, refusal)]);
    assert!(!output.status.success());
    assert_eq!(
        text(&output.stderr),
        "There is no service named app. Nothing was changed. Choose one of: x.\n"
    );
}

#[test]
fn json_is_passed_through() {
    let (output, asked) = run(
        &["--json", "status"],
        vec![(200, json!({ "state": "ready" }))],
    );
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "{\"state\":\"ready\"}\n");
    assert_eq!(asked, ["GET /v1/status"]);
}

#[test]
fn a_restart_waits_for_the_new_run() {
    let answers = [
        unit("Running", true, 3),
        unit("Stopping", false, 3),
        unit("Stopping", false, 3),
        unit("Starting", false, 4),
        unit("Running", true, 4),
    ];
    let (output, asked) = run(
        &["unit", "restart", "app"],
        answers.map(|answer| (200, answer)).into(),
    );
    assert!(output.status.success());
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[1], "POST /v1/units/app/restart");
}

/// A unit with a successor never stops: its main process is another, in the same run.
#[test]
fn a_restart_by_handing_over_waits_for_the_successor() {
    let handing_over = |is: bool, pid: u32| {
        let mut unit = unit("Running", true, 3);
        unit["handing_over"] = json!(is);
        unit["pid"] = json!(pid);
        (200, unit)
    };
    for (last, succeeds) in [
        (handing_over(false, 8), true),
        (handing_over(false, 7), false),
    ] {
        let answers = vec![
            handing_over(false, 7),
            handing_over(true, 7),
            handing_over(true, 7),
            handing_over(true, 8),
            last,
        ];
        let (output, asked) = run(&["unit", "restart", "app"], answers);
        assert_eq!(output.status.success(), succeeds);
        assert_eq!(asked.len(), 5);
    }
}

#[test]
fn a_start_that_fails_and_a_probe_that_fails_end_so() {
    let answers = [
        unit("Stopped", false, 3),
        unit("Starting", false, 4),
        unit("Failed", false, 4),
    ];
    let (output, _) = run(
        &["unit", "start", "app"],
        answers.map(|answer| (200, answer)).into(),
    );
    assert!(!output.status.success());
    let answers = [
        unit("Done", true, 1),
        unit("Starting", false, 2),
        unit("Failed", false, 2),
        unit("Stopped", false, 0),
        json!({}),
        unit("Done", true, 1),
    ];
    let (output, _) = run(
        &["--json", "probe"],
        answers.map(|answer| (200, answer)).into(),
    );
    assert!(!output.status.success());
    assert_eq!(text(&output.stdout), "{\"ok\":true}\n");
}

#[test]
fn what_the_probe_has_posted_is_removed_and_that_is_a_step_of_it() {
    let report = r#"{"ok":true,"steps":[{"step":"post","ok":true,"ms":3,"error":null}]}"#;
    for (state, succeeds, shown) in [
        ("Done", true, "delete       ok"),
        ("Failed", false, "delete       FAILED"),
    ] {
        let mut probed = unit("Done", true, 2);
        probed["result"] = report.into();
        let answers = [
            unit("Done", true, 1),
            json!({}),
            probed,
            unit("Stopped", false, 0),
            json!({}),
            unit(state, succeeds, 1),
        ];
        let (output, asked) = run(&["probe"], answers.map(|answer| (200, answer)).into());
        assert_eq!(output.status.success(), succeeds);
        let text = text(&output.stdout);
        assert!(text.lines().any(|line| line.starts_with(shown)), "{text}");
        assert_eq!(asked[4], "POST /v1/units/probe-clean/restart");
    }
}

#[test]
fn a_stop_says_first_what_stops_too() {
    let deps = json!({ "name": "app", "stops_too": [{ "name": "web" }, { "name": "mail" }] });
    let answers = vec![
        (200, deps),
        (200, unit("Running", true, 3)),
        (200, unit("Stopping", false, 3)),
        (200, unit("Stopped", false, 3)),
    ];
    let (output, asked) = run(&["unit", "stop", "app"], answers);
    assert!(output.status.success());
    assert!(
        text(&output.stdout).starts_with("web, mail need app: they are stopped first"),
        "{}",
        text(&output.stdout)
    );
    assert_eq!(asked[0], "GET /v1/units/app/deps");
    assert_eq!(asked[2], "POST /v1/units/app/stop");
}

#[test]
fn a_start_does_not_wait_for_what_was_given_up() {
    let why = json!({ "cause": "base", "wrong": true });
    let answers = vec![
        (200, unit("Stopped", false, 0)),
        (200, unit("Waiting", false, 0)),
        (200, unit("Waiting", false, 0)),
        (200, why),
        (200, unit("Failed", false, 8)),
    ];
    let (output, asked) = run(&["unit", "start", "app"], answers);
    assert!(!output.status.success());
    assert_eq!(asked[3..], ["GET /v1/units/app/why", "GET /v1/units/base"]);
}

#[test]
fn a_reload_that_fails_ends_so_and_says_why() {
    let mut under_way = unit("Running", true, 3);
    under_way["reloading"] = json!(true);
    let mut failed = unit("Running", true, 3);
    failed["reason"] = json!("its reload failed: exit status 1");
    let answers = [
        unit("Running", true, 3),
        under_way.clone(),
        under_way,
        failed,
    ];
    let (output, asked) = run(
        &["unit", "reload", "app"],
        answers.map(|answer| (200, answer)).into(),
    );
    assert!(!output.status.success());
    assert_eq!(asked[1], "POST /v1/units/app/reload");
    assert!(text(&output.stdout).contains("atalaya unit why app"));
}

#[test]
fn the_chain_of_causes_is_shown_and_an_unknown_service_fails() {
    let why = json!({ "unit": "app", "chain": ["App is waiting for Base, which it requires."], "cause": "base",
                      "wrong": false, "next": "Wait: this has a limit.", "last_words": [] });
    let (output, asked) = run(&["unit", "why", "app"], vec![(200, why)]);
    assert!(output.status.success());
    assert_eq!(asked, ["GET /v1/units/app/why"]);
    assert_eq!(
        text(&output.stdout),
        "App is waiting for Base, which it requires.\nNext: Wait: this has a limit.\n"
    );
}

#[test]
fn only_what_has_failed_is_listed() {
    let answer = json!({ "units": [unit("Running", true, 1), unit("Failed", false, 2)] });
    let (output, _) = run(&["unit", "list", "--failed", "--json"], vec![(200, answer)]);
    assert!(output.status.success());
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["units"].as_array().unwrap().len(), 1);
    assert_eq!(shown["units"][0]["state"], "Failed");
}

#[test]
fn a_restart_of_the_supervisor_waits_for_the_new_one() {
    let init_path = fresh_path();
    let init = serve_init(&init_path, json!({ "ok": true }));
    let of = |pid: u32| (200, json!({ "supervisor": { "pid": pid } }));
    let path = init_path.to_string_lossy().into_owned();
    let (output, asked) = run(
        &["--init-socket", &path, "supervisor", "restart"],
        vec![of(10), of(10), of(11)],
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(init.join().unwrap(), r#"{"request":"supervisor-restart"}"#);
    assert_eq!(asked.len(), 3);
    assert_eq!(
        text(&output.stdout),
        "The supervisor runs again, as process 11. No service was touched.\n"
    );
    std::fs::remove_file(&init_path).unwrap();
}

#[test]
fn in_safe_mode_init_answers_and_ends_the_machine() {
    let safe = json!({ "ok": true, "safe_mode": true, "reason": "it ended with status 1", "deaths": 5, "next_try_s": 60 });
    let (output, asked) = run_without_supervisor(&["status"], safe);
    assert!(!output.status.success(), "the supervisor is not there");
    assert_eq!(asked, r#"{"request":"status"}"#);
    let shown = text(&output.stdout);
    assert!(shown.starts_with("Safe mode:"), "{shown}");
    assert!(shown.contains("it ended with status 1"), "{shown}");
    for action in ["reboot", "poweroff"] {
        let (output, asked) = run_without_supervisor(&[action], json!({ "ok": true }));
        assert!(output.status.success());
        assert_eq!(asked, format!(r#"{{"request":"{action}"}}"#));
    }
    let refusal = json!({ "ok": false, "error": "only root may ask" });
    let (output, _) = run_without_supervisor(&["poweroff"], refusal);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("only root may ask. Nothing was changed."));
}

#[test]
fn without_a_supervisor_it_says_what_that_means() {
    let output = Command::new(env!("CARGO_BIN_EXE_atalaya"))
        .args(["--init-socket", "/nowhere/either", "--socket"])
        .arg(Path::new("/nowhere/at/all"))
        .arg("status")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("no data is touched"),
        "{}",
        text(&output.stderr)
    );
}

fn update_answer(busy: bool, settling: bool) -> Value {
    json!({
        "stage": "opened", "words": "none is under way", "busy": busy, "settling": settling, "receiving": false,
        "good": { "version": "0.2.0", "slot": "b" }, "progress": null, "error": null, "quarantine": [],
        "rollback": { "version": "0.1.0", "until": "2026-11-22T19:05:12.000Z" },
    })
}

#[test]
fn an_update_is_asked_for_when_the_boot_partition_was_compared() {
    let arguments = [
        "update",
        "install",
        "https://updates.example.org/a.bundle",
        "--yes",
        "--no-wait",
    ];
    let answers = vec![
        (200, update_answer(false, true)),
        (200, update_answer(false, false)),
        (202, update_answer(true, false)),
    ];
    let (output, asked) = run(&arguments, answers);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        asked,
        ["GET /v1/update", "GET /v1/update", "POST /v1/update"]
    );
}

#[test]
fn without_a_terminal_somebody_must_have_said_yes() {
    let (output, asked) = run(&["update", "install", "http://example.org/a"], vec![]);
    assert!(!output.status.success() && asked.is_empty());
    assert!(text(&output.stderr).contains("Nothing was changed. Say --yes"));
    // Going back says first what is lost.
    let (output, asked) = run(
        &["update", "rollback"],
        vec![(200, update_answer(false, false))],
    );
    assert!(!output.status.success());
    assert_eq!(asked, ["GET /v1/update"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("version 0.1.0 with the data of 2026-11-22 19:05:12 UTC. What was written since then is lost"),
        "{said}"
    );
}

#[test]
fn a_file_is_sent_and_an_update_that_ends_badly_is_no_success() {
    let bundle = fresh_path();
    // More than a socket holds: the answer comes before it is read.
    std::fs::File::create(&bundle)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let refusal = json!({ "error": "the bundle is cut short", "data": "Nothing was changed.", "next": "Fetch it again." });
    let path = bundle.display().to_string();
    let socket = fresh_path();
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let mut asked = Vec::new();
        // Sent and followed at once: in which order the two are heard is open.
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap() == 0 {
                return asked;
            }
            let (status, body) = if line.starts_with("POST") {
                (409, refusal.clone())
            } else {
                (
                    200,
                    update_answer(line.starts_with("GET") && !asked.is_empty(), false),
                )
            };
            asked.push(line.trim_end_matches(" HTTP/1.0\r\n").to_owned());
            let answer = format!("HTTP/1.0 {status} X\r\n\r\n{body}");
            reader.into_inner().write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    let output = Command::new(env!("CARGO_BIN_EXE_atalaya"))
        .arg("--socket")
        .arg(&socket)
        .args(["update", "install", &path, "--yes"])
        .output()
        .unwrap();
    drop(std::os::unix::net::UnixStream::connect(&socket));
    let asked = server.join().unwrap();
    std::fs::remove_file(&socket).unwrap();
    std::fs::remove_file(&bundle).unwrap();
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("The bundle is cut short. Nothing was changed. Fetch it again."),
        "{said}"
    );
    let name = bundle.file_name().unwrap().to_string_lossy().into_owned();
    assert!(
        asked.contains(&format!("POST /v1/update?name={name}")),
        "{asked:?}"
    );
}

#[test]
fn what_cannot_be_rolled_back_to_is_refused_before_anybody_is_asked() {
    let mut answer = update_answer(false, false);
    answer["rollback"] =
        json!({ "refused": "No former version is kept.", "next": "Install the wanted version." });
    let (output, asked) = run(&["update", "rollback", "--yes"], vec![(200, answer)]);
    assert!(!output.status.success());
    assert_eq!(asked, ["GET /v1/update"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("No former version is kept. Install the wanted version."),
        "{said}"
    );
}

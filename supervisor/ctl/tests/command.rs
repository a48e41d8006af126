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

/// Runs the command while the answers last; returns its output and what was asked.
fn run(arguments: &[&str], answers: Vec<(u16, Value)>) -> (Output, Vec<String>) {
    let name = format!(
        "atalaya-ctl-{}-{}",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
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
        unit("Running", true, 3),
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
    ];
    let (output, _) = run(
        &["--json", "probe"],
        answers.map(|answer| (200, answer)).into(),
    );
    assert!(!output.status.success());
    assert_eq!(text(&output.stdout), "{\"ok\":true}\n");
}

#[test]
fn without_a_supervisor_it_says_what_that_means() {
    let output = Command::new(env!("CARGO_BIN_EXE_atalaya"))
        .arg("--socket")
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

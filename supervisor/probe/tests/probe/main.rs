//! The probe against a server of the test's own, which fails at one step at a time. The real answers are the contract suite's business.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at its first surprise"
)]

mod server;

use std::process::Command;
use std::time::Duration;

use atalaya_probe::{Client, Credentials, ProbeReport, Target, run_probe};
use serde_json::{Value, json};

use crate::server::{SITE, Server};

fn target(server: &Server) -> Target {
    let mut target = Target::new(SITE, server.ca_pem.clone());
    target.connect = Some(server.address.to_string());
    target
}

fn credentials() -> Credentials {
    Credentials {
        username: "probe-user".to_owned(),
        password: "secret".to_owned(),
        bot_token: "bot-token".to_owned(),
        team: "main".to_owned(),
        channel: "probe".to_owned(),
    }
}

fn failed(report: &ProbeReport) -> Vec<&str> {
    report
        .steps
        .iter()
        .filter(|step| !step.ok)
        .map(|step| step.step.as_str())
        .collect()
}

#[test]
fn a_good_server_passes_every_step_and_keeps_one_post() {
    let server = Server::start("");
    let report = run_probe(&target(&server), &credentials());
    assert!(report.ok, "{report:#?}");
    let steps: Vec<&str> = report.steps.iter().map(|step| step.step.as_str()).collect();
    let expected = [
        "log-in",
        "log-out",
        "channel",
        "websocket",
        "upload",
        "post",
        "receive",
        "download",
        "search",
    ];
    assert_eq!(steps, expected);
    assert_eq!(server.state.posts.lock().unwrap().len(), 1);
    assert_eq!(*server.state.sessions.lock().unwrap(), 0);
}

#[test]
fn each_fault_shows_at_its_step_and_at_those_that_need_it() {
    for (fault, expected) in [
        ("log-out", &["log-out"][..]),
        (
            "team",
            &[
                "channel",
                "websocket",
                "upload",
                "post",
                "receive",
                "download",
                "search",
            ],
        ),
        (
            "channel",
            &[
                "channel",
                "websocket",
                "upload",
                "post",
                "receive",
                "download",
                "search",
            ],
        ),
        ("websocket", &["websocket", "receive"]),
        ("upload", &["upload", "download"]),
        ("post", &["post", "receive", "search"]),
        ("receive", &["receive"]),
        ("download", &["download"]),
        ("search", &["search"]),
    ] {
        let server = Server::start(fault);
        let mut target = target(&server);
        if fault == "receive" {
            target.timeout = Duration::from_secs(2);
        }
        let report = run_probe(&target, &credentials());
        assert_eq!(failed(&report), expected, "{fault}: {report:#?}");
        assert!(!report.ok);
        assert!(
            report
                .steps
                .iter()
                .all(|step| step.ok == step.error.is_none())
        );
    }
}

#[test]
fn what_the_configuration_rules_out_is_skipped_and_named_and_no_failure() {
    for (key, steps) in [
        ("EnableSignInWithUsername", ["log-in", "log-out"]),
        ("EnableFileAttachments", ["upload", "download"]),
    ] {
        let server = Server::start(key);
        let report = run_probe(&target(&server), &credentials());
        assert!(report.ok, "{report:#?}");
        let skipped = report.steps.iter().filter(|step| step.skipped.is_some());
        let skipped: Vec<&str> = skipped.map(|step| step.step.as_str()).collect();
        assert_eq!(skipped, steps, "{key}");
        assert_eq!(*server.state.sessions.lock().unwrap(), 0);
    }
}

#[test]
fn a_wrong_password_is_told_in_the_servers_words() {
    let server = Server::start("");
    let wrong = Credentials {
        password: "wrong".to_owned(),
        ..credentials()
    };
    let report = run_probe(&target(&server), &wrong);
    assert_eq!(failed(&report), ["log-in", "log-out"]);
    let error = report.steps[0].error.as_deref().unwrap();
    assert!(
        error.contains("failed to log in: the server answered 401: refused with 401"),
        "{error}"
    );
}

#[test]
fn another_authority_is_not_trusted() {
    let (server, stranger) = (Server::start(""), Server::start(""));
    let mut target = target(&server);
    target.ca_pem = stranger.ca_pem.clone();
    let report = run_probe(&target, &credentials());
    assert_eq!(failed(&report).len(), report.steps.len());
    let mut client = Client::new(&target).unwrap();
    client.set_token("bot-token");
    assert!(
        client
            .open_socket()
            .err()
            .unwrap()
            .chain()
            .contains("certificate")
    );
    assert!(client.me().err().unwrap().chain().contains("certificate"));
}

#[test]
fn the_program_prints_its_report_last_and_its_exit_status_is_the_verdict() {
    for (fault, code) in [("", 0), ("search", 1)] {
        let server = Server::start(fault);
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            let mut file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            path
        };
        let ca = put("ca.crt", &server.ca_pem);
        let credentials = json!({
            "username": "probe-user", "password": "secret", "bot_token": "bot-token", "team": "main", "channel": "probe",
            "site": SITE, "connect": server.address.to_string(), "ca": ca,
        });
        let file = put("credentials.json", &credentials.to_string());
        let output = Command::new(env!("CARGO_BIN_EXE_atalaya-probe"))
            .arg("--credentials")
            .arg(file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let report: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(report["ok"], code == 0);
        assert!(!text.contains("secret") && !text.contains("bot-token"));
    }
}

/// Inside the appliance the edge has a door of its own for the probe.
#[test]
fn a_local_socket_leads_to_the_server_as_well() {
    let server = Server::start("");
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("probe.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let address = server.address;
    std::thread::spawn(move || {
        for here in listener.incoming().map_while(Result::ok) {
            let there = std::net::TcpStream::connect(address).unwrap();
            let (mut from, mut to) = (here.try_clone().unwrap(), there.try_clone().unwrap());
            std::thread::spawn(move || {
                std::io::copy(&mut from, &mut to).ok();
                to.shutdown(std::net::Shutdown::Write).ok();
            });
            std::thread::spawn(move || {
                let (mut from, mut to) = (there, here);
                std::io::copy(&mut from, &mut to).ok();
                to.shutdown(std::net::Shutdown::Write).ok();
            });
        }
    });
    let mut target = target(&server);
    target.connect = Some(socket.display().to_string());
    let report = run_probe(&target, &credentials());
    assert!(report.ok, "{report:#?}");
}

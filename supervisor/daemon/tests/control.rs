//! The control API of a real atalayad: why, needs, the start, resets, reloads, and who may ask for what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use atalayad::api::{self, Viewer};
use atalayad::logs::Hub;
use atalayad::supervisor::{Answer, Message};
use serde_json::{Value, json};
use support::Ground;

const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";
const BROKEN: &str = "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"echo no such file >&2; exit 3\"]\n\
                      [ready]\nkind = \"notify\"\n[restart]\nlimit = 2\nmin_ms = 10\nmax_ms = 10\n";

#[test]
fn unit_program() {
    support::play();
}

fn get(ground: &Ground, path: &str) -> Value {
    let (status, body) = ground.request("GET", path).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn close(ground: &Ground, body: &str) -> (u16, Value) {
    let limit = std::time::Duration::from_secs(60);
    let path = "/v1/maintenance/on";
    let (status, answer) = ground.request_with(limit, "POST", path, body).unwrap();
    (status, serde_json::from_str(&answer).unwrap())
}

#[test]
fn maintenance_keeps_users_out_until_it_is_over_and_outlives_the_supervisor() {
    let ground = Ground::new();
    for unit in ["postgres", "mattermost", "first-administrator"] {
        ground.unit(unit, SLEEPER);
    }
    let atalayad = ground.start();
    ground.until("users are admitted", || ground.upstream()["admit"] == true);
    // What cannot be kept is not done either.
    let state = ground.path("data/state");
    std::fs::remove_dir_all(&state).ok();
    support::put(&state, "in the way");
    let (status, refusal) = close(&ground, "{}");
    assert_eq!(status, 500, "{refusal}");
    assert_eq!(refusal["data"], "Nothing was changed.");
    assert_eq!(ground.upstream()["admit"], true);
    std::fs::remove_file(&state).unwrap();

    let (status, answer) = close(&ground, r#"{"message":"Back at 6."}"#);
    assert_eq!((status, &answer["on"]), (200, &json!(true)), "{answer}");
    let is_closed = || {
        let told = ground.upstream();
        told["admit"] == false && told["maintenance"]["message"] == "Back at 6."
    };
    assert!(is_closed(), "{}", ground.upstream());
    let status = get(&ground, "/v1/status");
    assert_eq!(status["state"], "closed for maintenance: Back at 6.");
    assert_eq!(status["admit"], false);
    atalayad.stop();
    let _next = ground.start();
    for unit in ["postgres", "mattermost", "first-administrator"] {
        ground.wait_ready(unit);
    }
    ground.until("it is still closed", is_closed);
    let maintenance = get(&ground, "/v1/maintenance");
    assert_eq!(maintenance["message"], "Back at 6.");
    assert_eq!(ground.post("/v1/maintenance/off"), 200);
    assert_eq!(ground.upstream()["admit"], true);
    assert_eq!(ground.upstream()["maintenance"], Value::Null);
}

#[test]
fn the_cause_is_told_from_above_with_its_last_words_and_a_reset_forgets_it() {
    let ground = Ground::new();
    ground.unit("base", BROKEN);
    ground.unit("app", &format!("{SLEEPER}requires = [\"base\"]\n"));
    let atalayad = ground.start();
    ground.wait_state("base", "Failed");
    let why = get(&ground, "/v1/units/app/why");
    assert_eq!(why["cause"], "base");
    assert_eq!(why["wrong"], true);
    assert_eq!(
        why["chain"][0],
        "app is waiting for base, which it requires."
    );
    assert!(
        why["chain"][1].as_str().unwrap().contains("exit status 3"),
        "{why}"
    );
    assert_eq!(
        why["last_words"].as_array().unwrap().first().unwrap(),
        "no such file"
    );
    let status = get(&ground, "/v1/status");
    assert!(
        status["wrong"][0]
            .as_str()
            .unwrap()
            .starts_with("base has failed"),
        "{status}"
    );
    assert_eq!(ground.post("/v1/units/base/reset"), 200);
    ground.wait("base", |view| view["state"] != "Failed");
    assert_eq!(
        ground.request("GET", "/v1/units/nobody/why").unwrap().0,
        404
    );
    // It cannot read its configuration anew, and is told so.
    assert_eq!(ground.post("/v1/units/app/reload"), 409);
    atalayad.stop();
}

#[test]
fn needs_the_start_and_what_is_used_are_told() {
    let ground = Ground::new();
    ground.unit("base", SLEEPER);
    ground.unit("app", &format!("{SLEEPER}requires = [\"base\"]\n"));
    ground.unit("top", &format!("{SLEEPER}requires = [\"app\"]\n"));
    ground.unit("late", &format!("{SLEEPER}after = [\"base\"]\n"));
    let atalayad = ground.start();
    ground.wait_ready("top");
    ground.wait_ready("late");
    let deps = get(&ground, "/v1/units/base/deps");
    let names = |key: &str| -> Vec<String> {
        let units = deps[key].as_array().unwrap();
        units
            .iter()
            .map(|unit| unit["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("required_by"), ["app"]);
    assert_eq!(names("before"), ["late"]);
    assert_eq!(names("stops_too"), ["app", "top"]);
    let boot = get(&ground, "/v1/boot");
    let chain: Vec<&str> = boot["chain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["unit"].as_str().unwrap())
        .collect();
    assert_eq!(chain.first(), Some(&"base"), "{boot}");
    assert!(
        chain.len() >= 2 && boot["units"].as_array().unwrap().len() == 4,
        "{boot}"
    );
    let view = get(&ground, "/v1/units/base");
    assert!(
        view["sandbox"].is_object() && view["definition"]["exec"].is_array(),
        "{view}"
    );
    assert!(view["usage"].is_object(), "{view}");
    let screen = get(&ground, "/v1/screen");
    assert!(screen["figures"]["memory_total"].as_u64().unwrap() > 0);
    let messages = screen["messages"].as_array().unwrap();
    assert!(
        messages
            .iter()
            .any(|message| message["text"] == "base: ready"),
        "{screen}"
    );
    atalayad.stop();
}

/// The same program as another user; does nothing in an ordinary run.
#[test]
fn viewer_asks() {
    let Ok(socket) = std::env::var("VIEWER_SOCKET") else {
        return;
    };
    for request in [
        "GET /v1/screen",
        "POST /v1/reboot",
        "POST /v1/units/app/stop",
    ] {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream
            .write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes())
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        println!("status {request} {}", text.split(' ').nth(1).unwrap());
    }
}

#[tokio::test]
async fn the_screens_user_may_look_and_change_nothing_and_others_do_not_get_in() {
    let viewer = Viewer {
        uid: 60_207,
        gid: 60_207,
    };
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let open_to_all = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open_to_all(directory.path());
    let (socket, program) = (
        directory.path().join("control.sock"),
        directory.path().join("program"),
    );
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    open_to_all(&program);
    let listener = api::bind(&socket, Some(viewer)).unwrap();
    let (owner, mut requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(api::serve(
        listener,
        owner,
        Hub::new("boot", None),
        Some(viewer),
        api::Places {
            maintenance: None,
            bundle: directory.path().join("bundle"),
        },
    ));
    tokio::spawn(async move {
        while let Some(message) = requests.recv().await {
            if let Message::Request { reply, .. } = message {
                let answer = Answer {
                    status: 200,
                    body: json!({}),
                };
                drop(reply.send(answer));
            }
        }
    });
    let ask = move |uid: u32, gid: u32| {
        let (socket, program) = (socket.clone(), program.clone());
        tokio::task::spawn_blocking(move || {
            let output = Command::new(program)
                .args(["--exact", "viewer_asks", "--nocapture"])
                .env("VIEWER_SOCKET", socket)
                .uid(uid)
                .gid(gid)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    };
    let said = ask(viewer.uid, viewer.gid).await.unwrap();
    for line in [
        "status GET /v1/screen 200",
        "status POST /v1/reboot 403",
        "status POST /v1/units/app/stop 403",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    // The right group alone opens the socket and nothing more.
    let said = ask(60_208, viewer.gid).await.unwrap();
    assert!(said.contains("status GET /v1/screen 403"), "{said}");
    // All others do not even reach it.
    let said = ask(60_208, 60_208).await.unwrap();
    assert!(!said.contains("status GET"), "{said}");
}

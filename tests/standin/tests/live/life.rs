//! Start, stop, crash: what was acknowledged is still there.

use crate::machine::{Machine, agent};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn a_restart_keeps_sessions_posts_and_files() {
    let machine = Machine::new();
    let server = machine.start_ready();
    let mode = std::fs::metadata(machine.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let token = machine.admin();
    let channel = machine.channel(&token);
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let mut answer = agent()
        .post(format!(
            "{}/api/v4/files?channel_id={channel}&filename=a.bin",
            machine.address()
        ))
        .header("authorization", format!("Bearer {token}"))
        .send(&bytes[..])
        .unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    let infos: Value = answer.body_mut().read_json().unwrap();
    let file = infos["file_infos"][0]["id"].clone();
    let body = json!({"channel_id": channel, "message": "kept", "file_ids": [file]});
    let (status, post) = machine.send(&token, "/posts", &body);
    assert_eq!(status, 201);
    server.stop();
    assert!(!machine.socket().exists(), "the socket is left behind");
    let mut server = machine.start_ready();
    let path = format!("/posts/{}", post["id"].as_str().unwrap());
    assert_eq!(machine.get(&token, &path).1["message"], "kept");
    // kill -9, too, is only a restart; the socket that it leaves behind is replaced.
    server.signal(Signal::SIGKILL);
    server.wait(Duration::from_secs(5)).unwrap();
    let server = machine.start_ready();
    let (status, post) = machine.get(&token, &path);
    assert_eq!((status, &post["message"]), (200, &json!("kept")));
    assert_eq!(post["metadata"]["files"][0]["id"], file);
    let mut answer = agent()
        .get(format!(
            "{}/api/v4/files/{}",
            machine.address(),
            file.as_str().unwrap()
        ))
        .header("authorization", format!("Bearer {token}"))
        .call()
        .unwrap();
    assert_eq!(answer.body_mut().read_to_vec().unwrap(), bytes);
    let left = std::fs::read_dir(machine.path("files"))
        .unwrap()
        .flatten()
        .filter(|e| !e.file_type().unwrap().is_dir())
        .count();
    assert_eq!(left, 0, "half-written files are left");
    server.stop();
}

#[test]
fn no_acknowledged_post_is_lost_when_everything_dies() {
    let mut machine = Machine::new();
    let mut server = machine.start_ready();
    let token = machine.admin();
    let channel = machine.channel(&token);
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let posting = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (machine, server) = (&machine, &server);
                    let (token, channel) = (&token, &channel);
                    scope.spawn(move || {
                        let mut stored = Vec::new();
                        for n in 0..60 {
                            let message = format!("{round}-{writer}-{n}");
                            let body = json!({"channel_id": channel, "message": message});
                            match machine.try_send(token, "/posts", &body) {
                                Some((201, _)) => stored.push(message),
                                _ => break,
                            }
                            if n == 20 && writer == 0 {
                                server.signal(Signal::SIGKILL);
                            }
                        }
                        stored
                    })
                })
                .collect();
            writers
                .into_iter()
                .flat_map(|w| w.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(posting.len() >= 20, "{}", posting.len());
        acknowledged.extend(posting);
        machine.postgres.kill();
        machine.postgres.start();
        server.wait(Duration::from_secs(5)).unwrap();
        server = machine.start_ready();
    }
    let there: BTreeSet<String> = machine
        .postgres
        .sql("SELECT message FROM posts WHERE type = ''")
        .lines()
        .map(str::to_owned)
        .collect();
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    server.stop();
}

#[test]
fn without_translations_or_templates_it_does_not_start() {
    let machine = Machine::new();
    for folder in ["i18n", "templates"] {
        let place = machine.path("mattermost").join(folder);
        let aside = machine.path("aside");
        std::fs::rename(&place, &aside).unwrap();
        let mut server = machine.start();
        let status = server.wait(Duration::from_secs(20)).expect("it started");
        assert_eq!(status.code(), Some(1));
        assert!(server.log().contains(&format!("the {folder} directory")));
        std::fs::rename(&aside, &place).unwrap();
    }
}

#[test]
fn the_log_is_json_as_recorded_and_says_what_it_is() {
    let machine = Machine::new();
    let server = machine.start_ready();
    let log = server.log();
    server.stop();
    let lines: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).expect(l))
        .collect();
    for field in ["timestamp", "level", "msg", "caller"] {
        assert!(lines.iter().all(|l| l[field].is_string()), "{field}: {log}");
    }
    assert_eq!(lines[0]["msg"], "Server is initializing...");
    assert!(log.contains("NOT MATTERMOST"));
    assert!(log.contains(&format!(
        "Server is listening on 127.0.0.1:{}",
        machine.port
    )));
}

#[test]
fn the_page_says_that_it_is_a_stand_in() {
    let machine = Machine::new();
    let server = machine.start_ready();
    let read = |path: &str| {
        agent()
            .get(format!("{}{path}", machine.address()))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap()
    };
    let page = read("/");
    assert!(page.contains("not Mattermost"), "{page}");
    assert!(page.contains("script-src 'self'"));
    assert!(!page.contains("<style") && !page.contains("style=\""));
    assert_eq!(read("/some/team/channels/town-square"), page);
    assert!(read("/static/standin.js").contains("WebSocket"));
    assert!(read("/static/standin.css").contains("--tower: #0b5cad"));
    assert_eq!(read("/static/%2e%2e/STANDIN"), "404 page not found\n");
    server.stop();
}

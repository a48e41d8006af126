//! Schema versions, and PostgreSQL that is absent, dies, or comes back.

use crate::machine::Machine;
use serde_json::json;
use std::process::Output;
use std::time::{Duration, Instant};

fn stdout(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn db_commands_tell_and_make_the_schema() {
    let machine = Machine::new();
    let empty = machine.mattermost(&["db", "version"]);
    assert!(!empty.status.success(), "an empty database has no version");
    assert!(stderr(&empty).starts_with("Error: "), "{}", stderr(&empty));
    let plan = machine.mattermost(&["db", "migrate", "--dry-run"]);
    assert!(
        stdout(&plan).contains("1_create_users"),
        "{}",
        stdout(&plan)
    );
    let done = machine.mattermost(&["db", "migrate"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let version = machine.mattermost(&["db", "version"]);
    assert_eq!(stdout(&version), "Current database schema version is: 10\n");
    let all = stdout(&machine.mattermost(&["db", "version", "--all"]));
    assert_eq!(all.lines().next(), Some("Varsion: 1, Name: create_users"));
    assert_eq!(all.lines().count(), 10);
    let plan = machine.mattermost(&["db", "migrate", "--dry-run"]);
    assert_eq!(stdout(&plan), "No migrations to apply.\n");
}

#[test]
fn a_newer_schema_is_started_on_without_a_word() {
    let machine = Machine::new();
    machine.start_ready().stop();
    machine.postgres.sql(
        "INSERT INTO db_migrations (version, name) VALUES (998, 'later'), (999, 'later_still')",
    );
    let server = machine.start_ready();
    assert!(!server.log().contains("later"), "{}", server.log());
    let plan = machine.mattermost(&["db", "migrate", "--dry-run"]);
    assert_eq!(stdout(&plan), "No migrations to apply.\n");
    let version = machine.mattermost(&["db", "version"]);
    assert_eq!(
        stdout(&version),
        "Current database schema version is: 999\n"
    );
    server.stop();
}

#[test]
fn a_made_up_later_release_migrates_and_tells_its_version() {
    let machine = Machine::new();
    let server = machine.start_ready();
    let token = machine.admin();
    let channel = machine.channel(&token);
    let body = json!({"channel_id": channel, "message": "before"});
    assert_eq!(machine.send(&token, "/posts", &body).0, 201);
    server.stop();
    machine.install(
        "11.8.1",
        &[(
            "000011_add_colour.sql",
            "ALTER TABLE posts ADD COLUMN colour text DEFAULT ''",
        )],
    );
    let server = machine.start_ready();
    assert!(stdout(&machine.mattermost(&["version"])).starts_with("Version: 11.8.1\n"));
    let version = stdout(&machine.mattermost(&["db", "version"]));
    assert_eq!(version, "Current database schema version is: 11\n");
    let (status, posts) = machine.get(&token, &format!("/channels/{channel}/posts"));
    assert_eq!(status, 200);
    assert!(posts.to_string().contains("before"));
    server.stop();
}

#[test]
fn postgresql_absent_at_start_is_five_attempts_and_exit_1() {
    let mut machine = Machine::new();
    machine.postgres.kill();
    let start = Instant::now();
    let mut server = machine.start();
    let status = server
        .wait(Duration::from_secs(30))
        .expect("it does not give up");
    let took = start.elapsed();
    assert_eq!(status.code(), Some(1));
    assert!(took >= Duration::from_secs(8), "{took:?}");
    let log = server.log();
    assert_eq!(
        log.matches("\"msg\":\"Failed to ping DB\"").count(),
        4,
        "{log}"
    );
    let last = log.lines().last().unwrap();
    let wanted =
        "Error: failed to initialize platform: cannot create store: error setting up connections: ";
    assert!(last.starts_with(wanted), "{last}");
}

#[test]
fn postgresql_gone_under_a_running_server_and_back() {
    let mut machine = Machine::new();
    let server = machine.start_ready();
    let token = machine.admin();
    machine.postgres.kill();
    for _ in 0..3 {
        assert_eq!(machine.get("", "/system/ping").0, 200, "plain ping");
        let (status, body) = machine.get("", "/system/ping?get_server_status=true");
        assert_eq!(status, 500);
        assert_eq!(
            body,
            json!({
                "ActiveSearchBackend": "database", "AndroidLatestVersion": "", "AndroidMinVersion": "",
                "IosLatestVersion": "", "IosMinVersion": "", "database_status": "UNHEALTHY",
                "filestore_status": "OK", "status": "UNHEALTHY",
            })
        );
        assert_eq!(machine.get(&token, "/users/me").0, 500, "a session");
        let (status, _, body) = machine.login();
        assert_eq!(status, 401, "a right log-in");
        assert_eq!(
            body["id"],
            "api.user.login.invalid_credentials_email_username"
        );
    }
    machine.postgres.start();
    let start = Instant::now();
    while machine.get("", "/system/ping?get_server_status=true").0 != 200 {
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "it does not recover"
        );
    }
    assert_eq!(machine.get(&token, "/users/me").0, 200);
    assert_eq!(machine.login().0, 200);
    server.stop();
}

//! `mattermost` and `mmctl` as recorded: words, exit status, effects.

use crate::machine::{Machine, agent};
use serde_json::{Value, json};

fn ok(machine: &Machine, arguments: &[&str], printed: &str) {
    let (good, text) = machine.mmctl(arguments);
    assert!(good, "{arguments:?}: {text}");
    assert_eq!(text, printed, "{arguments:?}");
}

#[test]
fn mmctl_says_what_was_recorded() {
    let machine = Machine::new();
    let server = machine.start_ready();
    let create = [
        "--local",
        "user",
        "create",
        "--email",
        "admin@example.com",
        "--username",
        "admin",
        "--password",
        "Adm1n-Passw0rd!",
        "--system-admin",
    ];
    ok(&machine, &create, "Created user admin\n");
    let (good, text) = machine.mmctl(&create);
    assert!(!good);
    assert_eq!(
        text,
        "Error: Unable to create user. Error: An account with that username already exists.\n"
    );
    let recording = include_str!("../../contract/mmctl.txt");
    let wanted = recording
        .split_once("user create (second)\n")
        .and_then(|(_, rest)| rest.split_once("\nrc=0"))
        .unwrap()
        .0;
    let (good, text) = machine.mmctl(&[
        "--local",
        "--json",
        "user",
        "create",
        "--email",
        "bob@example.com",
        "--username",
        "bob",
        "--password",
        "Bob-Passw0rd-1",
    ]);
    assert!(good, "{text}");
    assert_eq!(without_own(&text), without_own(wanted));
    let status = recording
        .split_once("system status\n")
        .and_then(|(_, rest)| rest.split_once("rc=0"))
        .unwrap()
        .0;
    ok(&machine, &["--local", "system", "status"], status);
    let (good, text) = machine.mmctl(&["--local", "system", "version"]);
    assert!(
        good && text.starts_with("Server version 11.7.9.11.7.9."),
        "{text}"
    );
    let (good, text) = machine.mmctl(&["version"]);
    assert!(
        good && text.starts_with("mmctl:\nVersion:\t11.7.9\n"),
        "{text}"
    );
    assert!(
        !machine.mmctl(&["user", "list"]).0,
        "it works without --local"
    );
    server.stop();
}

/// JSON lines without what is different for each user.
fn without_own(json: &str) -> Vec<String> {
    json.lines()
        .map(|line| match line.split_once(": ") {
            Some((name, _)) if name.ends_with("_at\"") || name.ends_with("update\"") => {
                name.to_owned()
            }
            Some((name, _)) if name.trim() == "\"id\"" => name.to_owned(),
            _ => line.to_owned(),
        })
        .collect()
}

#[test]
fn mmctl_makes_a_bot_that_posts() {
    let machine = Machine::new();
    let server = machine.start_ready();
    let admin = machine.admin();
    ok(
        &machine,
        &[
            "--local",
            "user",
            "create",
            "--email",
            "probe@x.test",
            "--username",
            "atalaya-probe",
            "--password",
            "Probe-Passw0rd-1",
        ],
        "Created user atalaya-probe\n",
    );
    ok(
        &machine,
        &["--local", "user", "convert", "atalaya-probe", "--bot"],
        "atalaya-probe converted to bot.\n",
    );
    let (good, text) = machine.mmctl(&["--local", "token", "generate", "atalaya-probe", "probe"]);
    assert!(good, "{text}");
    let token = text.strip_suffix(": probe\n").unwrap();
    ok(
        &machine,
        &[
            "--local",
            "team",
            "create",
            "--name",
            "probe",
            "--display-name",
            "Probe",
            "--private",
        ],
        "New team probe successfully created\n",
    );
    ok(
        &machine,
        &[
            "--local",
            "team",
            "users",
            "add",
            "probe",
            "atalaya-probe",
            "admin",
        ],
        "",
    );
    ok(
        &machine,
        &[
            "--local",
            "channel",
            "create",
            "--team",
            "probe",
            "--name",
            "probe",
            "--display-name",
            "P",
            "--private",
        ],
        "New channel probe successfully created\n",
    );
    ok(
        &machine,
        &[
            "--local",
            "channel",
            "users",
            "add",
            "probe:probe",
            "atalaya-probe",
        ],
        "",
    );
    let (status, team) = machine.get(token, "/teams/name/probe");
    assert_eq!(status, 200, "{team}");
    let path = "/teams/name/probe/channels/name/probe";
    let (_, channel) = machine.get(token, path);
    let body = json!({"channel_id": channel["id"], "message": "from the bot"});
    let (status, post) = machine.send(token, "/posts", &body);
    assert_eq!(status, 201, "{post}");
    let id = post["id"].as_str().unwrap();
    ok(
        &machine,
        &["--local", "post", "delete", id, "--permanent", "--confirm"],
        &format!("{id} successfully deleted\n"),
    );
    let sql = format!("SELECT count(*) FROM posts WHERE id = '{id}'");
    assert_eq!(machine.postgres.sql(&sql), "0");
    let (_, bot) = machine.get(&admin, "/users/username/atalaya-probe");
    assert_eq!(bot["is_bot"], true);
    server.stop();
}

#[test]
fn settings_are_kept_and_the_environment_is_not_stored() {
    let machine = Machine::new();
    let server = machine.start_ready();
    let get = |key: &str| machine.mmctl(&["--local", "config", "get", key]).1;
    assert_eq!(
        get("ServiceSettings.SiteURL"),
        format!("\"{}\"\n", machine.address())
    );
    ok(
        &machine,
        &["--local", "config", "set", "TeamSettings.SiteName", "Foo"],
        "Value changed successfully\n",
    );
    assert_eq!(get("TeamSettings.SiteName"), "\"Foo\"\n");
    let key = get("SqlSettings.AtRestEncryptKey");
    assert_eq!(key.len(), 35, "{key}");
    server.stop();
    let server = machine.start_ready();
    assert_eq!(get("TeamSettings.SiteName"), "\"Foo\"\n");
    assert_eq!(get("SqlSettings.AtRestEncryptKey"), key);
    let stored = machine
        .postgres
        .sql("SELECT value FROM configurations WHERE active");
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["ServiceSettings"]["SiteURL"], "");
    assert_eq!(stored["TeamSettings"]["SiteName"], "Foo");
    let client: Value = agent()
        .get(format!(
            "{}/api/v4/config/client?format=old",
            machine.address()
        ))
        .call()
        .unwrap()
        .body_mut()
        .read_json()
        .unwrap();
    assert_eq!(client["SiteName"], "Foo");
    assert!(!client.to_string().contains(key.trim().trim_matches('"')));
    server.stop();
}

#[test]
fn version_needs_no_database() {
    let machine = Machine::new();
    let out = machine
        .program("mattermost")
        .env_remove("MM_CONFIG")
        .arg("version")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success());
    let names: Vec<&str> = text.lines().filter_map(|l| l.split(": ").next()).collect();
    assert_eq!(
        names,
        [
            "Version",
            "Build Number",
            "Build Date",
            "Build Hash",
            "Build Enterprise Ready"
        ]
    );
    assert!(text.starts_with("Version: 11.7.9\n"));
}

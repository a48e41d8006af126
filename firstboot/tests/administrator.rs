//! The first administrator and the probe's accounts, against a small server on a Unix socket that answers as local mode
//! does; cut off at every single request, before and after it took effect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use atalaya_firstboot::administrator;
use atalaya_firstboot::places::Places;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixListener;

#[derive(Default)]
struct Server {
    users: BTreeMap<String, Value>,
    passwords: BTreeMap<String, String>,
    teams: BTreeMap<String, Value>,
    channels: BTreeMap<(String, String), Value>,
    members: BTreeSet<(String, String)>,
    tokens: BTreeMap<String, Value>,
    posts: BTreeMap<String, Value>,
    /// Says that it does, and does not.
    keeps_posts: bool,
    requests: usize,
    /// Which request to break, and whether it still takes effect.
    cut: Option<(usize, bool)>,
    log: Vec<String>,
}

impl Server {
    fn id(&self, kind: &str) -> String {
        format!("{kind}{}", self.requests)
    }

    fn user_mut(&mut self, id: &str) -> &mut Value {
        self.users
            .values_mut()
            .find(|user| user["id"] == id)
            .unwrap()
    }

    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let parts: Vec<&str> = path.trim_start_matches("/api/v4/").split('/').collect();
        let found = |value: Option<&Value>| match value {
            Some(value) => (200, value.clone()),
            None => (404, json!({"message": "not found", "status_code": 404})),
        };
        match (method, parts.as_slice()) {
            ("GET", ["users", "username", name]) => found(self.users.get(*name)),
            ("POST", ["users"]) => {
                let name = text("username");
                if self.users.contains_key(&name) {
                    return (
                        400,
                        json!({"message": "An account with that username already exists."}),
                    );
                }
                assert_eq!(body["disable_welcome_email"], true);
                let id = self.id("user");
                // The first user of a server becomes its administrator.
                let roles = if self.users.is_empty() {
                    "system_user system_admin"
                } else {
                    "system_user"
                };
                let user =
                    json!({"id": id, "username": name, "email": text("email"), "roles": roles});
                self.passwords.insert(name.clone(), text("password"));
                self.users.insert(name, user.clone());
                (201, user)
            }
            ("PUT", ["users", id, "roles"]) => {
                self.user_mut(id)["roles"] = body["roles"].clone();
                (200, json!({"status": "OK"}))
            }
            ("PUT", ["users", id, "password"]) => {
                let name = self.user_mut(id)["username"].as_str().unwrap().to_owned();
                self.passwords.insert(name, text("new_password"));
                (200, json!({"status": "OK"}))
            }
            ("POST", ["users", id, "email", "verify", "member"]) => {
                self.user_mut(id)["email_verified"] = true.into();
                (200, self.user_mut(id).clone())
            }
            ("POST", ["users", id, "convert_to_bot"]) => {
                self.user_mut(id)["is_bot"] = true.into();
                (200, json!({"user_id": id}))
            }
            ("GET", ["users", id, "tokens"]) => {
                let list: Vec<Value> = self
                    .tokens
                    .values()
                    .filter(|t| t["user_id"] == *id)
                    .cloned()
                    .collect();
                (200, list.into())
            }
            ("POST", ["users", id, "tokens"]) => {
                let token_id = self.id("token");
                let listed =
                    json!({"id": token_id, "user_id": id, "description": text("description")});
                self.tokens.insert(token_id.clone(), listed.clone());
                let mut shown = listed;
                shown["token"] = format!("secret-of-{token_id}").into();
                (200, shown)
            }
            ("POST", ["users", "tokens", "revoke"]) => {
                self.tokens.remove(&text("token_id")).unwrap();
                (200, json!({"status": "OK"}))
            }
            ("GET", ["teams", "name", name]) => found(self.teams.get(*name)),
            ("POST", ["teams"]) => {
                let mut team = body.clone();
                team["id"] = self.id("team").into();
                assert!(self.teams.insert(text("name"), team.clone()).is_none());
                (201, team)
            }
            ("GET", ["teams", "name", team, "channels", "name", name]) => {
                let team = self.teams.get(*team).and_then(|team| team["id"].as_str());
                let place = team.map(|team| (team.to_owned(), (*name).to_owned()));
                found(place.and_then(|place| self.channels.get(&place)))
            }
            ("POST", ["channels"]) => {
                let mut channel = body.clone();
                channel["id"] = self.id("channel").into();
                assert!(
                    self.channels
                        .insert((text("team_id"), text("name")), channel.clone())
                        .is_none()
                );
                (201, channel)
            }
            ("GET", ["channels", id, query]) => {
                let page: usize = query.rsplit_once("&page=").unwrap().1.parse().unwrap();
                let posts = self
                    .posts
                    .iter()
                    .filter(|(_, post)| post["channel_id"] == *id);
                let posts: BTreeMap<_, _> = posts.skip(60 * page).take(60).collect();
                (
                    200,
                    json!({"order": posts.keys().collect::<Vec<_>>(), "posts": posts}),
                )
            }
            ("GET", ["posts", id]) => found(self.posts.get(*id)),
            ("DELETE", ["posts", id]) => {
                let id = id.strip_suffix("?permanent=true").unwrap();
                if !self.keeps_posts {
                    self.posts.remove(id).unwrap();
                }
                (200, json!({"status": "OK"}))
            }
            ("POST", ["teams" | "channels", id, "members"]) => {
                self.members.insert(((*id).to_owned(), text("user_id")));
                (201, body.clone())
            }
            (_, _) => panic!("unexpected {method} {path}"),
        }
    }
}

/// A directory that stands for the machine, with its Mattermost.
struct Machine {
    root: tempfile::TempDir,
    places: Places,
    server: Arc<Mutex<Server>>,
    said: Mutex<String>,
}

impl Machine {
    fn new(appliance: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let places = Places::at(root.path());
        let machine = Self {
            root,
            places,
            server: Arc::default(),
            said: Mutex::default(),
        };
        machine.put(&machine.places.appliance(), appliance, 0o644);
        machine.put(
            &machine.places.release_json(),
            r#"{"product":"atalaya","version":"0.1.0","build":"b","built":"2026-11-22T00:00:00Z",
                "mattermost":{"version":"11.7.9","kind":"standin"},"postgresql":"17.6"}"#,
            0o644,
        );
        let script = "#!/bin/sh\necho '{\"level\":\"warn\"}'\necho 'Current database schema version is: 159'\n";
        machine.put(&machine.places.mattermost_program(), script, 0o755);
        let edge = machine.places.rendered().join("edge.toml");
        machine.put(
            &edge,
            "site_address = \"https://localhost:8443\"\nnames = []\n",
            0o644,
        );
        for path in [
            machine.places.admin_password(),
            machine.places.mattermost_json(),
            machine.places.console_password(),
            machine.places.probe_credentials(),
            machine.places.local_socket(),
            machine.places.seed_password(),
        ] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        machine
    }

    fn put(&self, path: &Path, text: &str, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        atalaya_sys::durable::write(path, text.as_bytes(), mode, None).unwrap();
    }

    /// A line for each error of the chain.
    fn run(&self) -> Result<(), String> {
        self.talk(async |say| administrator::run(&self.places, say).await)
    }

    /// What the probe has posted goes.
    fn clean(&self) -> Result<(), String> {
        self.talk(async |say| administrator::clean(&self.places, say).await)
    }

    fn talk(
        &self,
        act: impl AsyncFnOnce(&dyn Fn(&str)) -> Result<(), administrator::AdministratorError>,
    ) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        drop(std::fs::remove_file(self.places.local_socket()));
        runtime.block_on(async {
            let listener = UnixListener::bind(self.places.local_socket()).unwrap();
            let server = tokio::spawn(serve(listener, self.server.clone()));
            let say = |line: &str| self.said.lock().unwrap().push_str(&format!("{line}\n"));
            let outcome = act(&say).await;
            server.abort();
            outcome.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
        })
    }

    /// A power cut: memory is empty afterwards, but the seed is read again.
    fn reboot(&self) {
        for path in [
            self.places.console_password(),
            self.places.probe_credentials(),
        ] {
            drop(std::fs::remove_file(path));
        }
    }

    fn read(&self, path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    fn assert_complete(&self, administrator: &str, password: &str) {
        let server = self.server.lock().unwrap();
        assert_eq!(server.users.len(), 3, "{:?}", server.log);
        let admin = &server.users[administrator];
        assert_eq!(admin["roles"], "system_user system_admin");
        assert_eq!(admin["email_verified"], true);
        assert_eq!(server.passwords[administrator], password);
        let bot = &server.users["atalaya-probe"];
        assert_eq!(bot["is_bot"], true);
        let probe = &server.users["atalaya-probe-user"];
        assert_eq!(probe["roles"], "system_user");

        let given: Value =
            serde_json::from_str(&self.read(self.places.probe_credentials())).unwrap();
        assert_eq!(given["username"], "atalaya-probe-user");
        assert_eq!(
            given["password"],
            server.passwords["atalaya-probe-user"].as_str()
        );
        assert_eq!(given["site"], "https://localhost:8443");
        assert_eq!(
            (&given["team"], &given["channel"]),
            (&json!("atalaya-probe"), &json!("probe"))
        );
        let valid: Vec<String> = server
            .tokens
            .keys()
            .map(|id| format!("secret-of-{id}"))
            .collect();
        assert_eq!(
            valid,
            [given["bot_token"].as_str().unwrap()],
            "one token, and it is the one that is known"
        );
        let keys: BTreeSet<&str> = given
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let expected = [
            "username",
            "password",
            "bot_token",
            "team",
            "channel",
            "site",
            "connect",
            "ca",
        ];
        assert_eq!(keys, BTreeSet::from(expected));
        let mode = std::fs::metadata(self.places.probe_credentials())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o400);
        let mode = std::fs::metadata(self.places.probe_json())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o400);

        assert_eq!((server.teams.len(), server.channels.len()), (2, 1));
        assert_eq!(server.teams["atalaya-probe"]["type"], "I");
        assert_eq!(server.teams["atalaya"]["type"], "O");
        let channel = server.channels.values().next().unwrap();
        assert_eq!(channel["type"], "P");
        let is_in = |place: &Value, user: &Value| {
            let pair = (
                place["id"].as_str().unwrap().to_owned(),
                user["id"].as_str().unwrap().to_owned(),
            );
            server.members.contains(&pair)
        };
        assert!(is_in(&server.teams["atalaya"], admin));
        for user in [bot, probe] {
            assert!(is_in(&server.teams["atalaya-probe"], user) && is_in(channel, user));
        }
        assert_eq!(server.members.len(), 5);

        assert!(self.places.first_boot().exists());
        assert_eq!(
            self.read(self.places.mattermost_json()),
            r#"{"format":1,"release":"11.7.9","schema":159,"kind":"standin"}"#
        );
        let said = self.said.lock().unwrap();
        let secrets = server.passwords.values().chain(&valid);
        for secret in secrets {
            assert!(!said.contains(secret.as_str()), "{said}");
        }
    }
}

async fn serve(listener: UnixListener, server: Arc<Mutex<Server>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(request, server.clone()));
            // A cut connection is an error here and is meant.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    server: Arc<Mutex<Server>>,
) -> Result<Response<Full<Bytes>>, &'static str> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let mut server = server.lock().unwrap();
    let number = server.requests;
    server.requests += 1;
    server.log.push(format!("{} {}", head.method, head.uri));
    let cut = server.cut.filter(|(at, _)| *at == number);
    if let Some((_, false)) = cut {
        return Err("cut before");
    }
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let (status, answer) = server.answer(head.method.as_str(), path, &body);
    if cut.is_some() {
        return Err("cut after");
    }
    Ok(Response::builder()
        .status(status)
        .body(Full::new(answer.to_string().into()))
        .unwrap())
}

const PASSWORD: &str = "Seeded-Words-1";

#[test]
fn the_seed_s_password_is_used_and_then_gone() {
    let machine = Machine::new("");
    machine.put(&machine.places.seed_password(), PASSWORD, 0o400);
    machine.run().unwrap();
    machine.assert_complete("admin", PASSWORD);
    assert!(!machine.places.seed_password().exists());
    assert!(!machine.places.admin_password().exists());
    assert!(!machine.places.console_password().exists());
}

#[test]
fn a_random_password_is_shown_at_every_boot_until_it_was_used() {
    let machine = Machine::new("");
    machine.run().unwrap();
    let shown = machine.read(machine.places.console_password());
    machine.assert_complete("admin", &shown);
    let mode = std::fs::metadata(machine.places.console_password())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o400);
    machine.reboot();
    let before = machine.server.lock().unwrap().requests;
    machine.run().unwrap();
    assert_eq!(machine.read(machine.places.console_password()), shown);
    machine.assert_complete("admin", &shown);
    assert_eq!(
        machine.server.lock().unwrap().requests,
        before,
        "accounts are made at the first boot only"
    );
    std::fs::remove_file(machine.places.admin_password()).unwrap();
    machine.run().unwrap();
    assert!(!machine.places.console_password().exists());
}

#[test]
fn name_and_address_come_from_the_configuration() {
    let machine =
        Machine::new("[administrator]\nusername = \"root1\"\nemail = \"root@example.com\"\n");
    machine.put(&machine.places.seed_password(), PASSWORD, 0o400);
    machine.run().unwrap();
    machine.assert_complete("root1", PASSWORD);
    assert_eq!(
        machine.server.lock().unwrap().users["root1"]["email"],
        "root@example.com"
    );
}

/// Every request is broken once, before and after Mattermost carried it out; the next boot finishes the work.
#[test]
fn a_power_cut_at_any_request_leaves_nothing_half_made() {
    for seeded in [true, false] {
        for takes_effect in [true, false] {
            let mut at = 0;
            loop {
                let machine = Machine::new("");
                machine.server.lock().unwrap().cut = Some((at, takes_effect));
                let seed = || {
                    if seeded {
                        machine.put(&machine.places.seed_password(), PASSWORD, 0o400);
                    }
                };
                seed();
                let first = machine.run();
                if first.is_ok() {
                    assert!(at > 20, "only {at} requests were made");
                    break;
                }
                assert!(!machine.places.first_boot().exists());
                assert!(!machine.places.mattermost_json().exists());
                machine.reboot();
                seed();
                machine.run().unwrap();
                let password = if seeded {
                    PASSWORD.to_owned()
                } else {
                    machine.read(machine.places.console_password())
                };
                machine.assert_complete("admin", &password);
                at += 1;
            }
        }
    }
}

#[test]
fn a_stranger_with_the_bot_s_name_is_not_taken_over() {
    let machine = Machine::new("");
    let stranger = json!({"id": "u", "username": "atalaya-probe", "email": "eve@example.com", "roles": "system_user"});
    machine
        .server
        .lock()
        .unwrap()
        .users
        .insert("atalaya-probe".into(), stranger);
    let error = machine.run().unwrap_err();
    assert!(error.contains("rename or remove it"), "{error}");
}

#[test]
fn a_new_release_is_recorded_after_its_first_complete_start() {
    let machine = Machine::new("");
    machine.run().unwrap();
    let release = machine
        .read(machine.places.release_json())
        .replace("11.7.9", "11.8.5");
    machine.put(&machine.places.release_json(), &release, 0o644);
    machine.put(
        &machine.places.mattermost_program(),
        "#!/bin/sh\necho Current database schema version is: 170\n",
        0o755,
    );
    machine.run().unwrap();
    assert_eq!(
        machine.read(machine.places.mattermost_json()),
        r#"{"format":1,"release":"11.8.5","schema":170,"kind":"standin"}"#
    );
}

#[test]
fn without_a_schema_number_the_first_boot_is_not_complete() {
    let machine = Machine::new("");
    machine.put(
        &machine.places.mattermost_program(),
        "#!/bin/sh\necho no database >&2\nexit 1\n",
        0o755,
    );
    let error = machine.run().unwrap_err();
    assert!(error.contains("no database"), "{error}");
    assert!(!machine.places.first_boot().exists());
    assert!(machine.root.path().exists());
}

#[test]
fn what_the_probe_has_posted_goes_for_good_and_nothing_else() {
    let machine = Machine::new("");
    machine.clean().unwrap(); // before there are any accounts
    machine.run().unwrap();
    let (bot, channel) = {
        let server = machine.server.lock().unwrap();
        let channel = server.channels.values().next().unwrap();
        (
            server.users["atalaya-probe"]["id"].clone(),
            channel["id"].clone(),
        )
    };
    let post = |id: &str, channel: &Value, user: &Value, kind: &str| {
        let post = json!({"id": id, "channel_id": channel, "user_id": user, "type": kind});
        machine
            .server
            .lock()
            .unwrap()
            .posts
            .insert(id.to_owned(), post);
    };
    post("joined", &channel, &bot, "system_join_channel");
    post("somebody", &channel, &json!("user9"), "");
    post("elsewhere", &json!("channel9"), &bot, "");
    for number in 0..130 {
        post(&format!("probe{number}"), &channel, &bot, "");
    }
    machine.server.lock().unwrap().keeps_posts = true;
    assert!(machine.clean().unwrap_err().contains("it is still there"));
    machine.server.lock().unwrap().keeps_posts = false;
    machine.clean().unwrap();
    let server = machine.server.lock().unwrap();
    let left: Vec<&str> = server.posts.keys().map(String::as_str).collect();
    assert_eq!(left, ["elsewhere", "joined", "somebody"]);
}

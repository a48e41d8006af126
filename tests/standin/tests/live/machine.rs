//! A release unpacked in a folder, its database, and the programs run from it.

use crate::postgres::Postgres;
use atalaya_standin::release;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PASSWORD: &str = "Adm1n-Passw0rd!";

pub struct Machine {
    pub postgres: Postgres,
    pub port: u16,
    pub faults: String,
    root: TempDir,
}

pub struct Server {
    pub child: Child,
    notify: UnixDatagram,
    log: PathBuf,
}

impl Machine {
    pub fn new() -> Self {
        Self::with_release("11.7.9", &[])
    }

    /// A release of this version with further migrations (file name, SQL).
    pub fn with_release(version: &str, migrations: &[(&str, &str)]) -> Self {
        let root = TempDir::new().unwrap();
        // PostgreSQL's user has to pass through.
        std::fs::set_permissions(
            root.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let machine = Self {
            postgres: Postgres::new(&root.path().join("pg")),
            port: TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port(),
            faults: String::new(),
            root,
        };
        machine.install(version, migrations);
        std::fs::create_dir(machine.path("files")).unwrap();
        machine
    }

    /// Packs a release and unpacks it in place of the one that is there.
    pub fn install(&self, version: &str, migrations: &[(&str, &str)]) {
        let extra = migrations
            .iter()
            .map(|(file, sql)| release::ExtraMigration {
                file: (*file).to_owned(),
                sql: (*sql).into(),
            })
            .collect();
        let programs = Path::new(env!("CARGO_BIN_EXE_mattermost"))
            .parent()
            .unwrap();
        let tarball = self.path("release.tar.gz");
        release::write(programs, version, extra, "", &tarball).unwrap();
        std::fs::remove_dir_all(self.path("mattermost")).ok();
        let done = Command::new("tar")
            .arg("-xzf")
            .arg(&tarball)
            .arg("-C")
            .arg(self.root.path())
            .status()
            .unwrap();
        assert!(done.success());
        std::fs::remove_file(tarball).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("local.socket")
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A program of the release with the environment that the appliance gives.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.path("mattermost/bin").join(name));
        command
            .env_clear()
            .env("MM_CONFIG", self.postgres.source())
            .env(
                "MM_CUSTOM_DEFAULTS_PATH",
                self.path("mattermost/config/config.json"),
            )
            .env(
                "MM_SERVICESETTINGS_LISTENADDRESS",
                format!("127.0.0.1:{}", self.port),
            )
            .env("MM_SERVICESETTINGS_SITEURL", self.address())
            .env("MM_SERVICESETTINGS_ENABLELOCALMODE", "true")
            .env("MM_SERVICESETTINGS_LOCALMODESOCKETLOCATION", self.socket())
            .env("MM_FILESETTINGS_DIRECTORY", self.path("files"))
            .env("MM_LOGSETTINGS_CONSOLELEVEL", "INFO")
            .env("MMCTL_LOCAL_SOCKET_PATH", self.socket())
            .env("MM_STANDIN_FAULTS", &self.faults)
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    pub fn mattermost(&self, arguments: &[&str]) -> Output {
        self.program("mattermost").args(arguments).output().unwrap()
    }

    /// What mmctl printed (standard output, or the error), and whether it succeeded.
    pub fn mmctl(&self, arguments: &[&str]) -> (bool, String) {
        let out = self.program("mmctl").args(arguments).output().unwrap();
        let text = if out.status.success() {
            out.stdout
        } else {
            out.stderr
        };
        (out.status.success(), String::from_utf8(text).unwrap())
    }

    /// Starts the server and does not wait.
    pub fn start(&self) -> Server {
        self.spawn(&[])
    }

    /// Starts the server with more settings and waits for READY=1.
    pub fn start_with(&self, settings: &[(&str, &str)]) -> Server {
        self.spawn(settings).ready()
    }

    fn spawn(&self, settings: &[(&str, &str)]) -> Server {
        let path = self.path("notify");
        std::fs::remove_file(&path).ok();
        let notify = UnixDatagram::bind(&path).unwrap();
        let log = self.path("server.log");
        let file = std::fs::File::create(&log).unwrap();
        let child = self
            .program("mattermost")
            .env("NOTIFY_SOCKET", &path)
            .envs(settings.iter().copied())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Server { child, notify, log }
    }

    /// Starts the server and waits for READY=1.
    pub fn start_ready(&self) -> Server {
        self.start().ready()
    }

    /// An administrator's token, the administrator being made first if need be.
    pub fn admin(&self) -> String {
        let arguments = [
            "--local",
            "user",
            "create",
            "--email",
            "admin@x.test",
            "--username",
            "admin",
            "--password",
            PASSWORD,
            "--system-admin",
            "--email-verified",
            "--disable-welcome-email",
        ];
        self.mmctl(&arguments);
        let (status, token, body) = self.login();
        assert_eq!(status, 200, "{body}");
        token
    }

    /// Logs the administrator in: status, token, body.
    pub fn login(&self) -> (u16, String, Value) {
        let body = json!({"login_id": "admin", "password": PASSWORD});
        let mut answer = agent()
            .post(format!("{}/api/v4/users/login", self.address()))
            .send_json(&body)
            .unwrap();
        let token = answer
            .headers()
            .get("token")
            .map(|t| t.to_str().unwrap().to_owned())
            .unwrap_or_default();
        (
            answer.status().as_u16(),
            token,
            answer.body_mut().read_json().unwrap(),
        )
    }

    pub fn get(&self, token: &str, path: &str) -> (u16, Value) {
        let mut answer = agent()
            .get(format!("{}/api/v4{path}", self.address()))
            .header("authorization", format!("Bearer {token}"))
            .call()
            .unwrap();
        (
            answer.status().as_u16(),
            answer.body_mut().read_json().unwrap_or_default(),
        )
    }

    pub fn send(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        match self.try_send(token, path, body) {
            Some(answer) => answer,
            None => panic!("no answer to POST {path}"),
        }
    }

    /// `None` if the connection broke.
    pub fn try_send(&self, token: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let mut answer = agent()
            .post(format!("{}/api/v4{path}", self.address()))
            .header("authorization", format!("Bearer {token}"))
            .send_json(body)
            .ok()?;
        Some((
            answer.status().as_u16(),
            answer.body_mut().read_json().unwrap_or_default(),
        ))
    }

    /// A team and a channel in it; the channel's identifier.
    pub fn channel(&self, token: &str) -> String {
        let (status, team) = self.send(
            token,
            "/teams",
            &json!({"name": "team", "display_name": "Team", "type": "O"}),
        );
        assert_eq!(status, 201, "{team}");
        let (status, channel) = self.send(
            token,
            "/channels",
            &json!({"team_id": team["id"], "name": "room", "display_name": "Room", "type": "O"}),
        );
        assert_eq!(status, 201, "{channel}");
        channel["id"].as_str().unwrap().to_owned()
    }

    /// Switches faults on (or, empty, off) under a running server.
    pub fn set_faults(&self, words: &str) {
        let file = self.path("files/standin-faults");
        #[allow(clippy::disallowed_methods)] // a test's throw-away file
        std::fs::write(file, words).unwrap();
    }
}

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .new_agent()
}

impl Server {
    fn ready(self) -> Self {
        assert!(self.wait_ready(Duration::from_secs(60)), "{}", self.log());
        self
    }

    /// Did READY=1 come in time?
    pub fn wait_ready(&self, limit: Duration) -> bool {
        self.notify.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 64];
        match self.notify.recv(&mut buffer) {
            Ok(n) => &buffer[..n] == b"READY=1\n" || &buffer[..n] == b"READY=1",
            Err(_) => false,
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Waits for the end, at most as long as asked.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// SIGTERM, and the orderly end.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self
            .wait(Duration::from_secs(15))
            .expect("it does not stop");
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

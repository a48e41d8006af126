//! When the random password is forgotten, with a real PostgreSQL that has the two tables that matter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use atalaya_firstboot::first_login;
use atalaya_firstboot::places::Places;
use atalaya_sys::durable;
use tokio_postgres::{Client, NoTls};

const NOBODY: u32 = 65534;

fn programs() -> PathBuf {
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL's server programs (package postgresql) are needed")
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    PathBuf::from(format!(
        "/usr/lib/postgresql/{}/bin",
        versions.last().unwrap()
    ))
}

/// A machine with a database server that lets anybody in as `mattermost`.
struct Machine {
    root: tempfile::TempDir,
    places: Places,
    server: Child,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let places = Places::at(root.path());
        let cluster = root.path().join("cluster");
        let sockets = places.postgres_socket_directory();
        for path in [cluster.as_path(), &sockets] {
            std::fs::create_dir_all(path).unwrap();
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let as_nobody = |program: &str| {
            let mut command = Command::new(programs().join(program));
            command
                .uid(NOBODY)
                .gid(NOBODY)
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        };
        let status = as_nobody("initdb")
            .args([
                "--username=mattermost",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "-D",
            ])
            .arg(&cluster)
            .status()
            .unwrap();
        assert!(status.success());
        let server = as_nobody("postgres")
            .args(["-F", "-c", "listen_addresses=", "-k"])
            .arg(&sockets)
            .arg("-D")
            .arg(&cluster)
            .spawn()
            .unwrap();
        let machine = Self {
            root,
            places,
            server,
        };
        for path in [
            machine.places.appliance(),
            machine.places.admin_password(),
            machine.places.console_password(),
        ] {
            machine.put(&path);
        }
        durable::write(&machine.places.appliance(), b"", 0o644, None).unwrap();
        machine
    }

    fn put(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        durable::write(path, b"secret", 0o400, None).unwrap();
    }

    async fn connect(&self, database: &str) -> Client {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let mut config = tokio_postgres::Config::new();
            config
                .host_path(self.places.postgres_socket_directory())
                .user("mattermost")
                .dbname(database);
            match config.connect(NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn with_tables(&self, users: &str) -> Client {
        self.connect("postgres")
            .await
            .batch_execute("CREATE DATABASE mattermost")
            .await
            .unwrap();
        let client = self.connect("mattermost").await;
        let tables =
            format!("CREATE TABLE users ({users}); CREATE TABLE sessions (userid varchar(26))");
        client.batch_execute(&tables).await.unwrap();
        client
    }

    fn is_forgotten(&self) -> bool {
        let (kept, shown) = (
            self.places.admin_password().exists(),
            self.places.console_password().exists(),
        );
        assert_eq!(kept, shown);
        !kept
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A killed one would leave its shared memory behind.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        drop(self.server.wait());
        assert!(self.root.path().exists());
    }
}

/// Runs beside `change`, which must end it.
async fn forgotten_by(machine: &Machine, client: &Client, change: &str) {
    let quiet = |_: &str| {};
    let waiting = first_login::run(&machine.places, &quiet);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err() && !machine.is_forgotten(), "{early:?}");
    client.batch_execute(change).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap();
    assert!(machine.is_forgotten());
    // Nothing to wait for any more.
    first_login::run(&machine.places, &quiet).await.unwrap();
}

#[tokio::test]
async fn a_log_in_of_the_administrator_and_of_nobody_else() {
    let machine = Machine::new();
    let client = machine
        .with_tables("id varchar(26), username varchar(64), lastlogin bigint DEFAULT 0")
        .await;
    client
        .batch_execute("INSERT INTO users VALUES ('a', 'admin', 0), ('b', 'other', 5); INSERT INTO sessions VALUES ('b')")
        .await
        .unwrap();
    forgotten_by(
        &machine,
        &client,
        "UPDATE users SET lastlogin = 1795347649551 WHERE id = 'a'",
    )
    .await;
}

#[tokio::test]
async fn a_session_where_the_server_does_not_record_the_last_log_in() {
    let machine = Machine::new();
    let client = machine
        .with_tables("id varchar(26), username varchar(64)")
        .await;
    client
        .batch_execute("INSERT INTO users VALUES ('a', 'admin')")
        .await
        .unwrap();
    forgotten_by(&machine, &client, "INSERT INTO sessions VALUES ('a')").await;
}

#[tokio::test]
async fn a_user_that_was_removed() {
    let machine = Machine::new();
    let client = machine
        .with_tables("id varchar(26), username varchar(64), lastlogin bigint DEFAULT 0")
        .await;
    client
        .batch_execute("INSERT INTO users VALUES ('a', 'admin', 0)")
        .await
        .unwrap();
    forgotten_by(&machine, &client, "DELETE FROM users").await;
}

//! A PostgreSQL cluster in a folder, reached by its Unix socket only, run as a user who is not root.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `nobody`: postgres refuses to run as root.
const NOBODY: u32 = 65_534;

pub struct Postgres {
    folder: PathBuf,
    programs: PathBuf,
    child: Option<Child>,
}

/// The newest of Debian's /usr/lib/postgresql/N/bin.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("no PostgreSQL here: install the package postgresql")
        .flatten()
        .filter_map(|e| {
            let version = e.file_name().to_str()?.parse().ok()?;
            Some((version, e.path().join("bin")))
        })
        .filter(|(_, p)| p.join("postgres").exists())
        .collect();
    found.sort();
    found
        .pop()
        .expect("no PostgreSQL here: install the package postgresql")
        .1
}

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if nix::unistd::Uid::effective().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

impl Postgres {
    /// A new cluster with an empty database `mattermost`, running.
    pub fn new(folder: &Path) -> Self {
        std::fs::create_dir(folder).unwrap();
        if nix::unistd::Uid::effective().is_root() {
            std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut this = Self {
            folder: folder.to_owned(),
            programs: programs(),
            child: None,
        };
        let made = as_nobody(&this.programs.join("initdb"))
            .args([
                "-A",
                "trust",
                "-U",
                "mattermost",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ])
            .args(["--no-sync", "-D"])
            .arg(folder.join("data"))
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        this.start();
        this.sql_in("postgres", "CREATE DATABASE mattermost TEMPLATE template0");
        this
    }

    pub fn start(&mut self) {
        let log = std::fs::File::create(self.folder.with_extension("log")).unwrap();
        let child = as_nobody(&self.programs.join("postgres"))
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-k"])
            .arg(&self.folder)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let start = Instant::now();
        loop {
            let ready = Command::new(self.programs.join("pg_isready"))
                .arg("-q")
                .arg("-h")
                .arg(&self.folder)
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "PostgreSQL does not come up"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// At once, as a crash: nothing is checkpointed and every connection breaks.
    pub fn kill(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGQUIT);
    }

    fn signal(&mut self, signal: nix::sys::signal::Signal) {
        if let Some(mut child) = self.child.take() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            nix::sys::signal::kill(pid, signal).unwrap();
            child.wait().unwrap();
        }
    }

    pub fn source(&self) -> String {
        format!(
            "postgres:///mattermost?host={}&user=mattermost&sslmode=disable",
            self.folder.display()
        )
    }

    /// Runs SQL and returns what it printed, without headings.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("mattermost", sql)
    }

    fn sql_in(&self, database: &str, sql: &str) -> String {
        let out = Command::new(self.programs.join("psql"))
            .args([
                "-X",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "mattermost",
                "-h",
            ])
            .arg(&self.folder)
            .args(["-c", sql, database])
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGQUIT);
    }
}

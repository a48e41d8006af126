//! What has to be known of the database before it is copied: that it was shut down, how large it is, and which table is the largest. Asks
//! PostgreSQL's own programs; never starts a server and writes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atalaya_sys::Context;

use super::CopyError;

/// What `pg_controldata` says of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    text: String,
}

impl Control {
    /// `shut down`, `in production`, ...
    pub fn state(&self) -> &str {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix("Database cluster state:"))
            .unwrap_or("unknown")
            .trim()
    }
}

/// The clusters of a generation: its PostgreSQL's major version names each. One that is half made has no `PG_VERSION`.
///
/// # Errors
/// The directory cannot be read.
pub fn clusters(generation: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(generation.join("postgres")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut clusters = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.parse::<u32>().is_ok()) && path.join("PG_VERSION").exists()
        {
            clusters.push(path);
        }
    }
    clusters.sort();
    Ok(clusters)
}

/// A cluster that was shut down, of which nothing lies elsewhere.
///
/// # Errors
/// It is not so, or that could not be found out.
pub fn verify_shut_down(programs: &Path, cluster: &Path) -> Result<Control, CopyError> {
    if cluster.join("postmaster.pid").exists() {
        return Err(CopyError::NotShutDown {
            cluster: cluster.to_owned(),
            state: "postmaster.pid is there, so a server runs on it or was killed".to_owned(),
        });
    }
    let links = std::fs::read_dir(cluster.join("pg_tblspc"))
        .context("list the tablespaces of", cluster.display())?;
    if links.count() > 0 || cluster.join("pg_wal").is_symlink() {
        return Err(CopyError::Elsewhere(cluster.to_owned()));
    }
    let control = control(programs, cluster)?;
    if control.state() != "shut down" {
        return Err(CopyError::NotShutDown {
            cluster: cluster.to_owned(),
            state: control.state().to_owned(),
        });
    }
    Ok(control)
}

fn control(programs: &Path, cluster: &Path) -> Result<Control, CopyError> {
    let version = cluster.file_name().unwrap_or_default();
    let program = programs.join(version).join("bin/pg_controldata");
    let output = Command::new(&program)
        .env_clear()
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .arg(cluster)
        .stdin(Stdio::null())
        .output()
        .context("run", program.display())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // A wrong checksum is a warning to it: in 17 on standard error, before in front of the rest.
    if output.status.success() && output.stderr.is_empty() && !text.contains("WARNING") {
        return Ok(Control { text });
    }
    let said = [output.stderr, output.stdout].concat();
    Err(CopyError::Unreadable {
        cluster: cluster.to_owned(),
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

/// Bytes of all files of a generation's database.
///
/// # Errors
/// A directory cannot be read.
pub fn size(generation: &Path) -> io::Result<u64> {
    fn below(directory: &Path) -> io::Result<u64> {
        let mut sum = 0;
        let entries = match std::fs::read_dir(directory) {
            // It may run: tables come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            sum += match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
                Ok(about) if about.is_dir() => below(&entry.path())?,
                Ok(about) => about.len(),
            };
        }
        Ok(sum)
    }
    below(&generation.join("postgres"))
}

/// Name and bytes of the largest table with its indexes, asked of the running server.
///
/// # Errors
/// What psql said.
pub fn largest_table(programs: &Path, socket: &Path) -> Result<(String, u64), String> {
    const QUERY: &str = "SELECT pg_total_relation_size(oid), relname FROM pg_class \
                         WHERE relkind IN ('r', 'm') ORDER BY 1 DESC LIMIT 1";
    let output = Command::new(programs.join("psql"))
        .env_clear()
        // A table that somebody holds is waited for, but not for ever.
        .env("PGOPTIONS", "-c lock_timeout=10s -c statement_timeout=60s")
        .env("PGCONNECT_TIMEOUT", "10")
        .args(["-X", "-A", "-t", "-w", "-U", "postgres", "-d", "mattermost"])
        .arg("-h")
        .arg(socket)
        .args(["-c", QUERY])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("psql cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.trim().split_once('|').and_then(|(size, name)| {
        let size = size.parse().ok()?;
        Some((name.to_owned(), size))
    });
    found.ok_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// `bin` of the newest PostgreSQL: its psql speaks to every older server.
pub fn newest_programs(installations: &Path) -> PathBuf {
    let versions = std::fs::read_dir(installations).into_iter().flatten();
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max();
    installations.join(format!("{}/bin", newest.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::fs;
    use std::os::unix::process::CommandExt;
    use std::process::Child;
    use std::time::{Duration, Instant};

    /// PostgreSQL refuses to run as root.
    const NOBODY: u32 = 65534;
    /// Nothing takes so long unless it hangs.
    const LIMIT: Duration = Duration::from_secs(120);

    /// A cluster of this machine's newest PostgreSQL, or of the one named by ATALAYA_TEST_POSTGRESQL (its `bin`).
    struct Place {
        root: tempfile::TempDir,
        installations: PathBuf,
        programs: PathBuf,
        cluster: PathBuf,
    }

    impl Place {
        fn new() -> Self {
            let root = tempfile::tempdir_in("/tmp").unwrap();
            let given = std::env::var_os("ATALAYA_TEST_POSTGRESQL").map(PathBuf::from);
            let programs =
                given.unwrap_or_else(|| newest_programs(Path::new("/usr/lib/postgresql")));
            let installations = root.path().join("installations");
            fs::create_dir_all(installations.join("17")).unwrap();
            std::os::unix::fs::symlink(&programs, installations.join("17/bin")).unwrap();
            let cluster = root.path().join("gen/postgres/17");
            fs::create_dir_all(cluster.parent().unwrap()).unwrap();
            for path in [root.path(), cluster.parent().unwrap()] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            let place = Self {
                root,
                installations,
                programs,
                cluster,
            };
            let mut initdb = place.program("initdb");
            initdb.args(["-U", "postgres", "--auth=trust", "--no-sync", "-D"]);
            let output = initdb.arg(&place.cluster).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            place
        }

        fn program(&self, name: &str) -> Command {
            let mut command = Command::new(self.programs.join(name));
            command
                .env_clear()
                .env("LC_ALL", "C.UTF-8")
                .env("PATH", "/usr/bin:/bin")
                .uid(NOBODY)
                .gid(NOBODY)
                .current_dir("/")
                .stdin(Stdio::null());
            command
        }

        fn start(&self) -> Child {
            let server = self
                .program("postgres")
                .args(["-c", "listen_addresses=", "-D"])
                .arg(&self.cluster)
                .arg("-k")
                .arg(self.root.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let begun = Instant::now();
            let ready = || {
                let lock = fs::read_to_string(self.cluster.join("postmaster.pid"));
                lock.is_ok_and(|text| text.lines().any(|line| line.trim() == "ready"))
            };
            while !ready() {
                assert!(begun.elapsed() < LIMIT, "the server does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
            server
        }

        fn sql(&self, database: &str, text: &str) {
            let output = self
                .program("psql")
                .args(["-X", "-U", "postgres", "-d", database, "-c", text, "-h"])
                .arg(self.root.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
        }

        fn refused(&self) -> String {
            verify_shut_down(&self.installations, &self.cluster)
                .unwrap_err()
                .to_string()
        }
    }

    #[test]
    fn only_a_database_that_was_shut_down_in_order_is_let_through() {
        let place = Place::new();
        let generation = place.root.path().join("gen");
        let found = clusters(&generation).unwrap();
        assert_eq!(found, std::slice::from_ref(&place.cluster));
        let before = verify_shut_down(&place.installations, &place.cluster).unwrap();
        assert_eq!(before.state(), "shut down");

        let mut server = place.start();
        assert!(place.refused().contains("a server runs on it"));
        place.sql("postgres", "CREATE DATABASE mattermost");
        place.sql(
            "mattermost",
            "CREATE TABLE posts AS SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 20000) AS n",
        );
        place.sql("mattermost", "CREATE INDEX ON posts (text, n)");
        let (name, bytes) = largest_table(&place.programs, place.root.path()).unwrap();
        assert_eq!(name, "posts");
        // The table alone is 20 MB.
        assert!(bytes > 20_000_000, "{bytes}");
        assert!(size(&generation).unwrap() > bytes);

        kill(
            Pid::from_raw(i32::try_from(server.id()).unwrap()),
            Signal::SIGINT,
        )
        .unwrap();
        server.wait().unwrap();
        let after = verify_shut_down(&place.installations, &place.cluster).unwrap();
        assert_ne!(after, before);
        let why = largest_table(&place.programs, place.root.path()).unwrap_err();
        assert!(why.contains("connect"), "{why}");

        // A server that was killed leaves its lock, and a database that has to be recovered.
        let mut server = place.start();
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(place.refused().contains("a server runs on it"));
        fs::remove_file(place.cluster.join("postmaster.pid")).unwrap();
        assert!(place.refused().ends_with("in production"));
    }

    #[test]
    fn a_damaged_control_file_is_not_believed() {
        let place = Place::new();
        let path = place.cluster.join("global/pg_control");
        let mut bytes = fs::read(&path).unwrap();
        // Somewhere behind the state.
        bytes[100] ^= 1;
        atalaya_sys::durable::write(&path, &bytes, 0o600, None).unwrap();
        let why = place.refused();
        assert!(why.contains("cannot be read"), "{why}");
    }
}

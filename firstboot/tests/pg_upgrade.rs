//! `pg-upgrade` with a real PostgreSQL, as its user: what is in the database afterwards, and what a failure leaves. This machine has one
//! major version, so it stands for the older one too (pg_upgrade takes equal ones); and its file system need not be able to clone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

mod postgresql;

use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use postgresql::{install, major, programs, provider};

const PROGRAM: &str = "atalaya-firstboot";

/// A generation's `postgres` with a database of the version before, and an image with both versions' programs.
struct Place {
    root: tempfile::TempDir,
    own: u32,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            root: tempfile::tempdir_in("/tmp").unwrap(),
            own: major(),
        };
        install(
            Path::new(env!("CARGO_BIN_EXE_atalaya-firstboot")),
            &place.at(PROGRAM),
        );
        for number in [place.own, place.old()] {
            let programs_of = place.bin(number);
            std::fs::create_dir_all(&programs_of).unwrap();
            for program in std::fs::read_dir(programs()).unwrap() {
                let program = program.unwrap();
                symlink(program.path(), programs_of.join(program.file_name())).unwrap();
            }
        }
        for name in ["data", "scratch"] {
            std::fs::create_dir(place.at(name)).unwrap();
        }
        let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        for path in [
            place.root.path().to_owned(),
            place.at("data"),
            place.at("scratch"),
        ] {
            std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .unwrap();
        }
        let made = place.step("initdb", place.old(), &[]);
        assert!(made.status.success(), "{made:?}");
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn old(&self) -> u32 {
        self.own - 1
    }

    fn bin(&self, number: u32) -> PathBuf {
        self.at(&format!("installations/{number}/bin"))
    }

    fn cluster(&self, number: u32) -> PathBuf {
        self.at(&format!("data/{number}"))
    }

    fn command(&self, program: &Path) -> Command {
        let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        let mut command = Command::new(program);
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    fn step(&self, step: &str, number: u32, more: &[&str]) -> Output {
        self.command(&self.at(PROGRAM))
            .args([step, "--locale-provider", provider(self.own), "--directory"])
            .arg(self.cluster(number))
            .arg("--programs")
            .arg(self.bin(number))
            .args(more)
            .output()
            .unwrap()
    }

    fn upgrade(&self) -> Output {
        let (scratch, trial) = (self.at("scratch"), self.at(PROGRAM));
        self.step(
            "pg-upgrade",
            self.own,
            &[
                "--transfer",
                "copy",
                "--scratch",
                scratch.to_str().unwrap(),
                "--trial",
                trial.to_str().unwrap(),
            ],
        )
    }

    /// What a statement gives, in a server that nobody else can reach.
    fn sql(&self, number: u32, text: &str) -> String {
        let socket = self.at("scratch");
        let control = |arguments: &[&str]| {
            let mut command = self.command(&self.bin(number).join("pg_ctl"));
            // A server that is left behind holds no pipe of ours.
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let done = command
                .args(["--wait", "--silent", "--timeout=120", "--pgdata"])
                .arg(self.cluster(number))
                .args(arguments)
                .status();
            assert!(done.unwrap().success(), "{arguments:?}");
        };
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}'",
            socket.display()
        );
        control(&["start", "--options", &options]);
        let output = self
            .command(&self.bin(number).join("psql"))
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-U",
                "postgres",
                "-d",
                "mattermost",
                "-h",
            ])
            .arg(&socket)
            .args(["-c", text])
            .output();
        control(&["stop", "--mode=fast"]);
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn clusters(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.at("data")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

const POSTS: &str =
    "CREATE TABLE posts AS SELECT n, 'Grüße ' || n AS message FROM generate_series(1, 2000) AS n;
    CREATE INDEX by_number ON posts (n);
    CREATE INDEX by_bytes ON posts (message COLLATE \"C\");
    CREATE INDEX by_icu ON posts (message COLLATE \"und-x-icu\");
    CREATE INDEX by_lower ON posts (lower(message));
    CREATE INDEX by_words ON posts USING gin (to_tsvector('english', message));
    CREATE INDEX \"Some of them\" ON posts (n) WHERE message ~ '^[[:upper:]]'";

#[test]
fn the_database_is_carried_over_with_its_statistics_and_doubtful_indexes_are_rebuilt() {
    let place = Place::new();
    place.sql(place.old(), POSTS);
    let done = place.upgrade();
    let text = said(&done);
    assert!(done.status.success(), "{text}");
    assert_eq!(
        place.clusters(),
        [place.own.to_string()],
        "the old one is gone, nothing is left over"
    );
    let rebuilt: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("REINDEX INDEX "))
        .collect();
    assert_eq!(
        rebuilt,
        [
            "public.by_icu",
            "public.by_lower",
            "public.by_words",
            "public.\"Some of them\""
        ]
    );
    let of_posts = "SELECT count(*) || ' ' || (SELECT count(*) FROM pg_stats WHERE tablename = 'posts') FROM posts";
    assert_eq!(place.sql(place.own, of_posts), "2000 2");

    let again = place.upgrade();
    assert!(again.status.success(), "{}", said(&again));
    let made = place.step("initdb", place.own, &[]);
    assert!(
        said(&made).contains("the database cluster is there"),
        "{}",
        said(&made)
    );
}

#[test]
fn what_stands_in_the_way_is_said_and_the_old_database_is_whole() {
    let place = Place::new();
    // pg_upgrade refuses a column whose content is the number of something in the old cluster.
    place.sql(place.old(), "CREATE TABLE odd (named regproc)");
    let done = place.upgrade();
    let text = said(&done);
    assert!(!done.status.success(), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.contains("could not be carried over"), "{text}");
    let listed = text.lines().rev().take(4).collect::<Vec<_>>().join("\n");
    assert!(
        listed.contains(".txt:") && listed.contains("public.odd.named"),
        "{text}"
    );
    assert!(!place.cluster(place.own).exists());
    assert!(place.cluster(place.old()).join("PG_VERSION").exists());

    place.sql(place.old(), "DROP TABLE odd");
    let done = place.upgrade();
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn outside_a_trial_nothing_is_changed() {
    let place = Place::new();
    let scratch = place.at("scratch");
    let done = place.step(
        "pg-upgrade",
        place.own,
        &[
            "--scratch",
            scratch.to_str().unwrap(),
            "--trial",
            "/nonexistent",
        ],
    );
    assert!(!done.status.success());
    assert!(
        said(&done).contains("only that can be taken back"),
        "{}",
        said(&done)
    );
    assert_eq!(place.clusters(), [place.old().to_string()]);
}

#[test]
fn a_server_that_is_in_the_middle_of_something_is_ended_with_the_failure() {
    let place = Place::new();
    let broken = place.bin(place.own).join("vacuumdb");
    std::fs::remove_file(&broken).unwrap();
    let script = format!(
        // pg_upgrade runs it too, to other ends.
        "#!/bin/sh\ncase \" $* \" in *--analyze-only*) exit 1;; esac\nexec {}/vacuumdb \"$@\"\n",
        programs().display()
    );
    let written = place.at("vacuumdb");
    atalaya_sys::durable::write(&written, script.as_bytes(), 0o644, None).unwrap();
    install(&written, &broken);
    let done = place.upgrade();
    assert!(!done.status.success());
    assert!(
        said(&done).contains("vacuumdb ended with"),
        "{}",
        said(&done)
    );
    let unfinished = place.at(&format!("data/{}.unfinished", place.own));
    assert!(unfinished.exists() && !unfinished.join("postmaster.pid").exists());
    assert!(!place.cluster(place.own).exists());
}

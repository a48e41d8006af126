//! `initdb` with a real PostgreSQL, as an ordinary user: what is in the cluster, and what a try that was cut off leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

mod postgresql;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use postgresql::{install, major, programs, provider};

/// PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;
const PROGRAM: &str = "atalaya-firstboot";

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        // Where it was built an ordinary user may not get to.
        let program = Path::new(env!("CARGO_BIN_EXE_atalaya-firstboot"));
        install(program, &root.path().join(PROGRAM));
        Self { root }
    }

    fn cluster(&self) -> PathBuf {
        self.root.path().join("17")
    }

    /// The program as the unit runs it; `programs` may be another directory.
    fn initdb(&self, programs: &Path) -> Output {
        Command::new(self.root.path().join(PROGRAM))
            .args([
                "initdb",
                "--locale-provider",
                provider(major()),
                "--programs",
            ])
            .arg(programs)
            .arg("--directory")
            .arg(self.cluster())
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a query gives, in a server without a socket; one line for each value.
    fn ask(&self, database: &str, query: &str) -> String {
        let script = format!(
            "printf '%s\\n' \"$1\" | {}/postgres --single -j -D {} {database}",
            programs().display(),
            self.cluster().display()
        );
        let output = Command::new("/bin/sh")
            .args(["-c", &script, "sh", &format!("{query};\n\n")])
            .uid(NOBODY)
            .gid(NOBODY)
            .current_dir("/")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("ERROR"),
            "{output:?}"
        );
        // Lines such as `	 1: datname = "mattermost"	(typeid = …)`.
        let value = |line: &str| Some(line.split_once(" = \"")?.1.split_once("\"\t")?.0.to_owned());
        text.lines().filter_map(value).collect::<Vec<_>>().join(" ")
    }

    /// Everything beside the program.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != PROGRAM).collect()
    }
}

/// A directory of programs in which one is replaced by a shell script.
fn programs_with(place: &Place, name: &str, script: &str) -> PathBuf {
    let directory = place.root.path().join("programs");
    std::fs::create_dir(&directory).unwrap();
    for program in ["initdb", "postgres"] {
        let path = directory.join(program);
        if program == name {
            atalaya_sys::durable::write(&path, script.as_bytes(), 0o755, None).unwrap();
        } else {
            std::os::unix::fs::symlink(programs().join(program), path).unwrap();
        }
    }
    directory
}

#[test]
fn the_cluster_is_what_mattermost_needs_and_is_made_once() {
    let place = Place::new();
    let first = place.initdb(&programs());
    assert!(first.status.success(), "{first:?}");
    assert_eq!(place.names(), ["17"]);
    assert_eq!(
        place.ask("postgres", "SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider FROM pg_database WHERE datname = 'mattermost'"),
        format!("mattermost mattermost UTF8 {}", &provider(major()).replace("builtin", "b").replace("libc", "c"))
    );
    assert_eq!(
        place.ask(
            "mattermost",
            "SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'"
        ),
        "public mattermost"
    );
    assert_eq!(
        place.ask("mattermost", "SELECT rolsuper, rolcreatedb, rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = 'mattermost'"),
        "f f f t"
    );
    assert_eq!(place.ask("mattermost", "SELECT current_setting('data_checksums'), current_setting('default_text_search_config')"), "on pg_catalog.english");
    let hba = std::fs::read_to_string(place.cluster().join("pg_hba.conf")).unwrap();
    let methods: Vec<&str> = hba
        .lines()
        .filter(|l| l.starts_with("local"))
        .filter_map(|l| l.split_whitespace().last())
        .collect();
    assert!(
        !methods.is_empty() && methods.iter().all(|m| *m == "peer"),
        "{methods:?}"
    );

    let control = place.cluster().join("global/pg_control");
    let before = std::fs::metadata(&control).unwrap().modified().unwrap();
    let second = place.initdb(&programs());
    assert!(second.status.success(), "{second:?}");
    assert_eq!(
        std::fs::metadata(&control).unwrap().modified().unwrap(),
        before
    );
}

#[test]
fn leftovers_of_a_try_that_was_cut_off_are_removed() {
    let place = Place::new();
    let unfinished = place.root.path().join("17.unfinished/base/1");
    std::fs::create_dir_all(&unfinished).unwrap();
    atalaya_sys::durable::write(&unfinished.join("1259"), b"half", 0o600, None).unwrap();
    for directory in [
        unfinished.as_path(),
        unfinished.parent().unwrap(),
        unfinished.parent().unwrap().parent().unwrap(),
    ] {
        std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let outcome = place.initdb(&programs());
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(place.names(), ["17"]);
}

#[test]
fn a_try_that_fails_publishes_nothing_and_the_next_one_succeeds() {
    for (name, script) in [
        ("initdb", "#!/bin/sh\necho no space >&2\nexit 1\n"),
        (
            "postgres",
            "#!/bin/sh\ncase \"$1\" in --single) exit 1;; esac\nexec REAL/postgres \"$@\"\n",
        ),
    ] {
        let place = Place::new();
        let broken = programs_with(
            &place,
            name,
            &script.replace("REAL", &programs().display().to_string()),
        );
        if name == "postgres" {
            // initdb runs the server that lies beside it: keep it a real one.
            let initdb = broken.join("initdb");
            std::fs::remove_file(&initdb).unwrap();
            let wrapper = format!("#!/bin/sh\nexec {}/initdb \"$@\"\n", programs().display());
            atalaya_sys::durable::write(&initdb, wrapper.as_bytes(), 0o755, None).unwrap();
        }
        let outcome = place.initdb(&broken);
        assert!(!outcome.status.success());
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert!(
            said.contains("no database was made, the next start tries again"),
            "{said}"
        );
        assert!(!place.cluster().exists());
        let outcome = place.initdb(&programs());
        assert!(outcome.status.success(), "{outcome:?}");
        assert!(place.cluster().join("PG_VERSION").exists());
    }
}

#[test]
fn a_statement_that_fails_is_not_overlooked() {
    let place = Place::new();
    // The role is there already: CREATE ROLE fails, and so must the whole.
    let script = "#!/bin/sh\nREAL/initdb \"$@\" || exit 1\nfor a; do case \"$last\" in --pgdata) d=$a;; esac; last=$a; done\n\
                  echo 'CREATE ROLE mattermost;' | REAL/postgres --single -D \"$d\" template1 >/dev/null\n";
    let broken = programs_with(
        &place,
        "initdb",
        &script.replace("REAL", &programs().display().to_string()),
    );
    let outcome = place.initdb(&broken);
    assert!(!outcome.status.success(), "{outcome:?}");
    assert!(!place.cluster().exists());
}

/// Not even where an image with a later PostgreSQL comes to data that it cannot read.
#[test]
fn no_empty_database_is_made_beside_one_of_another_version() {
    let place = Place::new();
    let other = place.root.path().join("16");
    std::fs::create_dir(&other).unwrap();
    atalaya_sys::durable::write(&other.join("PG_VERSION"), b"16", 0o644, None).unwrap();
    let outcome = place.initdb(&programs());
    assert!(!outcome.status.success());
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(said.contains("No database was made"), "{said}");
    assert_eq!(place.names(), ["16"]);
}

#[test]
fn a_directory_that_is_no_cluster_is_never_touched() {
    let place = Place::new();
    std::fs::create_dir(place.cluster()).unwrap();
    atalaya_sys::durable::write(&place.cluster().join("precious"), b"x", 0o644, None).unwrap();
    std::fs::set_permissions(place.cluster(), PermissionsExt::from_mode(0o755)).unwrap();
    let outcome = place.initdb(&programs());
    assert!(!outcome.status.success());
    assert!(String::from_utf8_lossy(&outcome.stderr).contains("Nothing in it was changed"));
    assert_eq!(
        std::fs::read(place.cluster().join("precious")).unwrap(),
        b"x"
    );
}

//! A generation's copy on this machine's disk: the same in everything, at whatever moment it was begun, and none where there must be none.
//! That blocks are shared is shown in a machine; where this one's file system cannot, content is copied.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use atalaya_core::update::task;
use atalaya_sys::{reflink, xattr};
use atalaya_update::copy::{self, Content, CopyError, Ground};

struct Machine {
    root: tempfile::TempDir,
    ground: Ground,
}

const SHUT_DOWN: &str = "shut down";

impl Machine {
    /// Generation 1, with a database that was shut down.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let file = || tempfile::tempfile_in(root.path()).unwrap();
        let content = match reflink::clone_file(&file(), &file(), "a file") {
            Ok(()) => Content::Shared,
            Err(_) => Content::Twice,
        };
        let machine = Self {
            ground: Ground {
                generations: root.path().join("gen"),
                postgresql: root.path().join("postgresql"),
                socket: root.path().join("no-socket"),
                content,
                settled: Duration::ZERO,
            },
            root,
        };
        machine.put("gen/1/postgres/17/PG_VERSION", "17");
        machine.put("gen/1/postgres/17/base/5/1", "a table");
        fs::create_dir(machine.path("gen/1/postgres/17/pg_tblspc")).unwrap();
        fs::create_dir(machine.path("gen/1/postgres/17/pg_wal")).unwrap();
        machine.state(SHUT_DOWN);
        machine.controldata("echo \"Database cluster state:   $(cat \"$1/state\")\"");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }

    fn state(&self, state: &str) {
        self.put("gen/1/postgres/17/state", state);
    }

    /// What stands for PostgreSQL's program.
    fn controldata(&self, script: &str) {
        let path = self.path("postgresql/17/bin/pg_controldata");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n");
        // By another process: while this one has it open to write, a child of another test's may have that too, and then it cannot be run.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        (shell.stdin.take().unwrap())
            .write_all(text.as_bytes())
            .unwrap();
        assert!(shell.wait().unwrap().success());
    }

    fn copy_telling(
        &self,
        beforehand: bool,
        tell: &mut dyn FnMut(&task::Walked),
    ) -> Result<task::Copied, CopyError> {
        copy::run(&self.ground, &request(1, beforehand), &|_| (), tell)
    }

    fn copy(&self) -> Result<task::Copied, CopyError> {
        self.copy_telling(false, &mut |_| ())
    }

    fn beforehand(&self) -> task::Copied {
        self.copy_telling(true, &mut |_| ()).unwrap()
    }

    /// Everything about everything below.
    fn tree(&self, path: &str) -> BTreeMap<PathBuf, String> {
        let top = self.path(path);
        let (mut links, mut found) = (BTreeMap::new(), BTreeMap::new());
        describe(&top, &top, &mut links, &mut found);
        found
    }

    fn assert_copied(&self) {
        assert_eq!(self.tree("gen/2"), self.tree("gen/1"));
        assert_eq!(self.generations(), ["1", "2"]);
    }

    fn generations(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("gen")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Waits until whatever is changed from now on has another time than before.
    fn next_time_step(&self) {
        let path = self.path("clock");
        let stamp = || {
            File::create(&path).unwrap().write_all(b"tick").unwrap();
            let about = path.metadata().unwrap();
            (about.ctime(), about.ctime_nsec())
        };
        let first = stamp();
        while stamp() == first {
            std::thread::yield_now();
        }
    }
}

fn request(from: u32, beforehand: bool) -> task::Copy {
    task::Copy {
        from,
        to: 2,
        beforehand,
    }
}

fn describe(
    top: &Path,
    path: &Path,
    links: &mut BTreeMap<u64, PathBuf>,
    found: &mut BTreeMap<PathBuf, String>,
) {
    let about = path.symlink_metadata().unwrap();
    let name = path.strip_prefix(top).unwrap().to_owned();
    let first = links.entry(about.ino()).or_insert_with(|| name.clone());
    let mut text = format!(
        "mode {:o}, owner {}:{}, modified {}.{}, first name {}",
        about.mode(),
        about.uid(),
        about.gid(),
        about.mtime(),
        about.mtime_nsec(),
        first.display()
    );
    if about.is_symlink() {
        text += &format!(", to {}", path.read_link().unwrap().display());
    } else {
        let file = File::open(path).unwrap();
        for attribute in xattr::names(&file, "it").unwrap() {
            if attribute.to_bytes().starts_with(b"user.") {
                let value = xattr::value(&file, &attribute, "it").unwrap();
                text += &format!(", {attribute:?} = {value:?}");
            }
        }
        if about.is_file() {
            text += &format!(", content {:?}", fs::read(path).unwrap());
        }
    }
    found.insert(name, text);
    if about.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            describe(top, &path, links, found);
        }
    }
}

fn long_ago(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789);
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_copy_is_the_same_in_everything() {
    let machine = Machine::new();
    machine.put("gen/1/mattermost/files/20261123/one.png", "a picture");
    machine.put("gen/1/mattermost/files/empty", "");
    machine.put("gen/1/mattermost/plugins/program", "#!");
    machine.put("gen/1/appliance.toml", "hostname = \"chat\"\n");
    let files = machine.path("gen/1/mattermost/files");
    let (one, third) = (
        files.join("20261123/one.png"),
        machine.path("gen/1/mattermost/plugins/third"),
    );
    fs::hard_link(&one, files.join("another.png")).unwrap();
    fs::hard_link(&one, third).unwrap();
    symlink("../plugins/program", files.join("link")).unwrap();
    symlink("/etc", files.join("folder-elsewhere")).unwrap();
    lchown(files.join("link"), Some(201), Some(201)).unwrap();
    for (name, mode) in [("", 0o2750), ("20261123", 0o700), ("empty", 0o4711)] {
        let path = files.join(name);
        chown(&path, Some(201), Some(202)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let file = File::open(&path).unwrap();
        xattr::set(&file, c"user.note", name.as_bytes(), "it").unwrap();
        long_ago(&path);
    }
    let before = machine.tree("gen/1");

    let copied = machine.copy().unwrap();
    machine.assert_copied();
    assert_eq!(machine.tree("gen/1"), before);
    assert_eq!((copied.files, copied.kept), (before.len() as u64, 0));

    // Neither is the other.
    machine.put("gen/2/mattermost/files/20261123/one.png", "another");
    assert_eq!(machine.tree("gen/1"), before);
}

/// What comes, goes and changes while the services run: every change that leaves no other trace than the one that is looked for.
#[test]
fn what_was_copied_beforehand_is_brought_up_to_date() {
    let machine = Machine::new();
    for name in [
        "same",
        "content",
        "stealthy",
        "mode",
        "gone",
        "moved",
        "replaced",
        "file",
        "folder/in/it",
        "swapped/a",
        "another/a",
        "linked",
    ] {
        machine.put(&format!("gen/1/mattermost/{name}"), name);
    }
    let path = |name: &str| machine.path("gen/1/mattermost").join(name);
    long_ago(&path("stealthy"));
    machine.next_time_step();
    let first = machine.beforehand();
    assert_eq!(
        machine.generations(),
        ["1", "2.unfinished", "2.unfinished.index"]
    );
    // The database, six directories and three files, is not copied beforehand.
    assert_eq!(first.files, machine.tree("gen/1").len() as u64 - 9);
    assert!(!machine.path("gen/2.unfinished/postgres").exists());

    machine.next_time_step();
    machine.put("gen/1/mattermost/content", "more than before");
    // Same length, and the time set back.
    machine.put("gen/1/mattermost/stealthy", "yhtlaets");
    long_ago(&path("stealthy"));
    fs::set_permissions(path("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(path("gone")).unwrap();
    fs::rename(path("moved"), path("moved-away")).unwrap();
    machine.put("gen/1/mattermost/new", "new");
    fs::rename(path("new"), path("replaced")).unwrap();
    fs::remove_file(path("file")).unwrap();
    machine.put("gen/1/mattermost/file/now/a-folder", "x");
    fs::remove_dir_all(path("folder")).unwrap();
    symlink("same", path("folder")).unwrap();
    // Another folder in the place of one, with a file of the same name and size in it that has not been touched.
    fs::rename(path("swapped"), path("third")).unwrap();
    fs::rename(path("another"), path("swapped")).unwrap();
    fs::rename(path("third"), path("another")).unwrap();
    fs::hard_link(path("linked"), path("a-link")).unwrap();

    let copied = machine.copy().unwrap();
    machine.assert_copied();
    // That is `same` alone.
    assert_eq!(copied.kept, 1);
}

/// A folder that gets another name takes its files along, and nothing shows that in those; in whichever order the folders are met.
#[test]
fn names_of_one_file_stay_names_of_one_file_when_a_folder_is_renamed() {
    let machine = Machine::new();
    let path = |name: String| machine.path("gen/1/mattermost").join(name);
    for number in 0..16 {
        machine.put(&format!("gen/1/mattermost/{number}/a"), "x");
        fs::create_dir(path(format!("other-{number}"))).unwrap();
        fs::hard_link(
            path(format!("{number}/a")),
            path(format!("other-{number}/b")),
        )
        .unwrap();
    }
    machine.next_time_step();
    machine.beforehand();
    for number in 0..16 {
        let other = path(format!("other-{number}"));
        fs::rename(other, path(format!("renamed-{number}"))).unwrap();
    }
    machine.copy().unwrap();
    machine.assert_copied();
}

/// Nobody writes then. Who does it all the same gets no copy of half of it.
#[test]
fn what_goes_away_under_the_last_copy_is_an_error() {
    let machine = Machine::new();
    for number in 0..600 {
        machine.put(&format!("gen/1/mattermost/{number}"), "x");
    }
    let folder = machine.path("gen/1/mattermost/z");
    let walk = |beforehand| {
        fs::create_dir(&folder).unwrap();
        // Told of 512 files; folders come after the files beside them.
        let mut tell = |_: &task::Walked| {
            fs::remove_dir(&folder).ok();
        };
        machine.copy_telling(beforehand, &mut tell)
    };
    walk(true).unwrap();
    let error = walk(false).unwrap_err();
    assert!(matches!(error, CopyError::Changed(_)), "{error}");
    assert!(!machine.path("gen/2").exists());
}

#[test]
fn what_was_copied_beforehand_is_kept_when_nothing_changes() {
    let machine = Machine::new();
    for number in 0..700 {
        let folder = number % 7;
        machine.put(&format!("gen/1/mattermost/files/{folder}/{number}"), "x");
    }
    machine.next_time_step();
    machine.beforehand();
    // Asked a second time, as after a pause.
    assert_eq!(machine.beforehand().kept, 700);
    assert_eq!(machine.copy().unwrap().kept, 700);
    machine.assert_copied();
}

/// It may change again without a trace.
#[test]
fn what_has_only_just_changed_is_copied_again() {
    let mut machine = Machine::new();
    machine.ground.settled = Duration::from_secs(86_400);
    machine.put("gen/1/mattermost/file", "x");
    machine.beforehand();
    assert_eq!(machine.copy().unwrap().kept, 0);
    machine.assert_copied();
}

/// Wherever a walk is cut off, the next one makes a whole copy.
#[test]
fn a_copy_that_was_cut_off_is_no_copy() {
    let machine = Machine::new();
    let name = |number: u32| format!("gen/1/mattermost/files/{number}");
    for number in 0..2000 {
        machine.put(&name(number), &number.to_string());
    }
    machine.next_time_step();
    let cut_off = |beforehand: bool, at: u32| {
        let mut told = 0;
        let mut tell = |_: &task::Walked| {
            told += 1;
            assert!(told < at, "cut off, on purpose");
        };
        let walk = AssertUnwindSafe(|| machine.copy_telling(beforehand, &mut tell));
        assert!(std::panic::catch_unwind(walk).is_err());
        assert!(!machine.path("gen/2").exists());
    };
    for (number, (beforehand, at)) in [(false, 1), (true, 1), (true, 3), (false, 2)]
        .into_iter()
        .enumerate()
    {
        cut_off(beforehand, at);
        // What is not there any more must not be in the copy.
        fs::remove_file(machine.path(&name(u32::try_from(number).unwrap()))).unwrap();
    }
    machine.beforehand();
    cut_off(false, 3);
    fs::remove_file(machine.path(&name(100))).unwrap();
    assert_eq!(machine.copy().unwrap().kept, 2000 - 5);
    machine.assert_copied();
}

#[test]
fn what_stands_in_the_copy_s_place_is_removed_first() {
    let machine = Machine::new();
    machine.put("gen/2/mattermost/of-a-trial", "x");
    machine.put("gen/2/postgres/17/state", "in production");
    machine.put("gen/2.unfinished/junk", "x");
    machine.copy().unwrap();
    machine.assert_copied();
}

/// A walk goes on with what was copied beforehand only if it was of the same generation.
#[test]
fn what_was_copied_of_another_generation_is_not_used() {
    let machine = Machine::new();
    machine.put("gen/1/mattermost/file", "x");
    machine.put("gen/5/mattermost/other", "x");
    machine.next_time_step();
    copy::run(&machine.ground, &request(5, true), &|_| (), &mut |_| ()).unwrap();
    fs::remove_dir_all(machine.path("gen/5")).unwrap();
    assert_eq!(machine.copy().unwrap().kept, 0);
    machine.assert_copied();
}

#[test]
fn a_database_that_was_not_shut_down_is_not_copied() {
    let machine = Machine::new();
    let refused = |code: &str, what: &str| {
        let refusal = machine.copy().unwrap_err().refusal();
        assert_eq!(refusal.code, code, "{refusal:?}");
        assert!(refusal.what.contains(what), "{refusal:?}");
        assert!(!machine.path("gen/2").exists());
    };
    machine.state("in production");
    refused("database", "in production");
    machine.state("shut down in recovery");
    refused("database", "in recovery");
    machine.state(SHUT_DOWN);
    let lock = machine.path("gen/1/postgres/17/postmaster.pid");
    File::create(&lock).unwrap();
    refused("database", "a server runs on it");
    fs::remove_file(lock).unwrap();
    let table_space = machine.path("gen/1/postgres/17/pg_tblspc/1");
    symlink("/elsewhere", &table_space).unwrap();
    refused("database", "lies elsewhere");
    fs::remove_file(table_space).unwrap();
    // A second cluster, as after a major version.
    machine.put("gen/1/postgres/18/PG_VERSION", "18");
    fs::create_dir(machine.path("gen/1/postgres/18/pg_tblspc")).unwrap();
    refused("copy", "postgresql/18/bin/pg_controldata");
    fs::remove_dir_all(machine.path("gen/1/postgres/18")).unwrap();
    machine.controldata("echo 'WARNING: checksum' >&2; echo 'Database cluster state: shut down'");
    refused("database", "WARNING: checksum");
}

#[test]
fn a_database_that_somebody_starts_meanwhile_makes_no_copy() {
    let machine = Machine::new();
    // Another answer the second time.
    machine.controldata(
        "echo 'Database cluster state: shut down'; cat \"$0.asked\" 2>&1; echo x >> \"$0.asked\"",
    );
    let error = machine.copy().unwrap_err();
    assert!(matches!(error, CopyError::Changed(_)), "{error}");
    // The copy says something else than what it was made from.
    machine.controldata("echo 'Database cluster state: shut down'; echo \"$1\"");
    let error = machine.copy().unwrap_err();
    assert!(matches!(error, CopyError::Differs(_)), "{error}");
    assert!(!machine.path("gen/2").exists());
}

/// No server answers here, so the database counts as its own largest table.
#[test]
fn without_room_nothing_is_copied_and_the_figures_are_told() {
    let machine = Machine::new();
    machine.put("gen/1/mattermost/file", "x");
    let table = machine.path("gen/1/postgres/17/base/5/2");
    File::create(&table).unwrap().set_len(4 << 40).unwrap();
    for (beforehand, needed) in [(true, "needs 8.0 TiB"), (false, "needs 4.0 TiB")] {
        let error = machine.copy_telling(beforehand, &mut |_| ()).unwrap_err();
        let refusal = error.refusal();
        assert_eq!(refusal.code, "space", "{refusal:?}");
        for told in [needed, "4.0 TiB for the database once more"] {
            assert!(refusal.what.contains(told), "{refusal:?}");
        }
        assert_eq!(machine.generations(), ["1"]);
    }
    fs::remove_file(table).unwrap();
    machine.copy().unwrap();
    machine.assert_copied();
}

#[test]
fn what_has_no_content_is_left_out_and_named() {
    let machine = Machine::new();
    machine.put("gen/1/mattermost/file", "x");
    let pipe = machine.path("gen/1/mattermost/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let said = std::cell::RefCell::new(Vec::new());
    let say = |line: &str| said.borrow_mut().push(line.to_owned());
    copy::run(&machine.ground, &request(1, false), &say, &mut |_| ()).unwrap();
    assert_eq!(
        said.into_inner(),
        ["1/mattermost/pipe is no file and was left out"]
    );
    assert!(machine.path("gen/2/mattermost/file").exists());
    assert!(!machine.path("gen/2/mattermost/pipe").exists());
}

#[test]
fn a_generation_that_is_not_there_is_named() {
    let machine = Machine::new();
    let error = copy::run(&machine.ground, &request(7, false), &|_| (), &mut |_| ()).unwrap_err();
    assert!(error.refusal().what.contains("no generation 7"));
    assert_eq!(machine.generations(), ["1"]);
}

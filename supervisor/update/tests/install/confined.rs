//! What is left to an installation once it reads: its own places and what it has open. In a process of its own, because there is no way back.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use atalaya_update::install::confine;

const CHILD: &str = "ATALAYA_TEST_CONFINED";

#[test]
fn nothing_but_its_own_places_can_be_written_and_no_device_be_opened() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return child(folder.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["own", "other"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let name = "confined::nothing_but_its_own_places_can_be_written_and_no_device_be_opened";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        fs::read(folder.path().join("other/open")).unwrap(),
        b"before, after"
    );
}

fn child(folder: &Path) {
    let (own, other) = (folder.join("own"), folder.join("other"));
    let mut open = File::create(other.join("open")).unwrap();
    open.write_all(b"before, ").unwrap();
    // A unit has it from its sandbox.
    nix::sys::prctl::set_no_new_privs().unwrap();
    confine::to(&[&own]).unwrap();

    open.write_all(b"after").unwrap();
    File::create(own.join("new")).unwrap();
    fs::rename(own.join("new"), own.join("renamed")).unwrap();
    assert!(File::create(other.join("new")).is_err());
    assert!(fs::rename(own.join("renamed"), other.join("renamed")).is_err());
    assert!(File::options().write(true).open("/dev/null").is_err());
    assert!(fs::read(other.join("open")).is_ok());
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with(":\t0000000000000000"), "{line}");
    }
}

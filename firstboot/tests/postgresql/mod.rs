//! The PostgreSQL of the machine that the tests run on, and how a program gets to where it is run.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The newest one's programs, or those named by ATALAYA_TEST_POSTGRESQL (its `bin`).
pub fn programs() -> PathBuf {
    if let Some(given) = std::env::var_os("ATALAYA_TEST_POSTGRESQL") {
        return given.into();
    }
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL's server programs (package postgresql) are needed")
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    let newest = versions.last().unwrap();
    PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
}

/// Its major version.
pub fn major() -> u32 {
    let output = Command::new(programs().join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split([' ', '.'])
        .find_map(|word| word.parse().ok())
        .unwrap()
}

/// The builtin provider came with 17.
pub fn provider(major: u32) -> &'static str {
    if major >= 17 { "builtin" } else { "libc" }
}

/// By another process: a program that this one had open for writing might still be so in a child that another test starts just then, and could not be
/// started (ETXTBSY).
pub fn install(from: &Path, to: &Path) {
    let done = Command::new("install")
        .arg("--mode=755")
        .args([from, to])
        .status();
    assert!(done.unwrap().success());
}

//! `atalaya config`: what it says of a file, and its exit status. No machine is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn config(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_atalaya"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have read enough of it before the end.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

#[test]
fn a_right_file_is_valid_and_a_wrong_one_is_told_whole() {
    let validate = ["config", "validate", "-"];
    let right = config(&validate, b"hostname = \"chat\"\n");
    assert!(right.status.success());
    assert_eq!(right.stdout, b"- is valid.\n");

    let wrong = config(&validate, b"hostname = \"Chat\"\ncolour = 1\n");
    assert_eq!(wrong.status.code(), Some(1));
    let told = String::from_utf8(wrong.stdout).unwrap();
    assert!(
        told.starts_with(
            "line 1: hostname = \"Chat\": holds an upper-case letter; allowed: 1 to 63 of"
        ) && told
            .contains("\nline 2: colour: there is no such key here; allowed: hostname, [site]"),
        "{told}"
    );
    let json = config(&[&["--json"], &validate[..]].concat(), b"colour = 1\n");
    assert_eq!(json.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&told["valid"], &told["problems"][0]["line"]),
        (&false.into(), &1.into())
    );
}

#[test]
fn what_is_no_file_and_what_is_too_large_is_refused_soon() {
    let absent = config(&["config", "validate", "/nowhere/appliance.toml"], b"");
    assert_eq!(absent.status.code(), Some(1));
    let told = String::from_utf8(absent.stderr).unwrap();
    assert!(
        told.starts_with("/nowhere/appliance.toml could not be read: "),
        "{told}"
    );

    let large = config(&["config", "validate", "-"], &vec![b'#'; 100 << 20]);
    assert_eq!(large.status.code(), Some(1));
    let told = String::from_utf8(large.stdout).unwrap();
    assert!(told.ends_with("allowed: at most 65536 bytes\n"), "{told}");
}

#[test]
fn the_schema_and_the_example_are_given() {
    let schema: Value = serde_json::from_slice(&config(&["config", "schema"], b"").stdout).unwrap();
    assert_eq!(
        schema["properties"]["edge"]["properties"]["upload_mib"]["maximum"],
        8192
    );
    let example = config(&["config", "example"], b"").stdout;
    let taken = config(&["config", "validate", "-"], &example);
    assert!(taken.status.success(), "{taken:?}");
}

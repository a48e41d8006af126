//! The gate with its files and the server's program; the decision itself is tested in core.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

use std::path::Path;

use atalaya_firstboot::places::Places;
use atalaya_firstboot::version_gate::{self, GateError};
use atalaya_sys::durable;

struct Machine {
    _root: tempfile::TempDir,
    places: Places,
}

impl Machine {
    fn new(record: Option<&str>, program: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let machine = Self {
            places: Places::at(root.path()),
            _root: root,
        };
        machine.put(
            &machine.places.release_json(),
            r#"{"product":"atalaya","version":"0.1.0","build":"b","built":"2026-11-22T00:00:00Z",
                "mattermost":{"version":"11.7.9","kind":"official"},"postgresql":"17.6"}"#,
            0o644,
        );
        machine.put(&machine.places.mattermost_program(), program, 0o755);
        if let Some(record) = record {
            machine.put(&machine.places.mattermost_json(), record, 0o444);
        }
        machine
    }

    fn put(&self, path: &Path, text: &str, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        durable::write(path, text.as_bytes(), mode, None).unwrap();
    }

    fn run(&self) -> Result<(), GateError> {
        version_gate::run(&self.places, &|_| {})
    }
}

fn schema(number: u32) -> String {
    format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'db version' ] || exit 9\necho 'Current database schema version is: {number}'\n"
    )
}

const MUST_NOT_RUN: &str = "#!/bin/sh\nexit 1\n";
const RECORD: &str = r#"{"format":1,"release":"11.7.9","schema":159,"kind":"official"}"#;

#[test]
fn data_of_this_release_are_let_through() {
    Machine::new(Some(RECORD), &schema(159)).run().unwrap();
}

/// On an empty database the server's program fails.
#[test]
fn without_a_record_the_database_is_not_asked() {
    Machine::new(None, MUST_NOT_RUN).run().unwrap();
}

#[test]
fn newer_data_and_the_other_kind_s_are_refused_in_three_sentences() {
    for (record, program, says) in [
        (RECORD, schema(160), "the database has schema 160"),
        (
            &RECORD.replace("11.7.9", "11.8.0"),
            schema(159),
            "the later Mattermost 11.8.0",
        ),
        (
            &RECORD.replace("official", "standin"),
            MUST_NOT_RUN.to_owned(),
            "the stand-in for Mattermost",
        ),
    ] {
        let error = Machine::new(Some(record), &program).run().unwrap_err();
        assert!(matches!(error, GateError::Refused(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(says), "{text}");
        assert_eq!(text.matches(". ").count(), 2, "{text}");
    }
}

/// What cannot be known is refused too.
#[test]
fn a_damaged_record_or_a_silent_program_is_a_refusal() {
    for record in [
        "",
        "{}",
        r#"{"format":1,"release":"11.7.9","schema":159,"kind":"official","later":1}"#,
    ] {
        let error = Machine::new(Some(record), &schema(159)).run().unwrap_err();
        assert!(matches!(error, GateError::Record { .. }), "{error}");
    }
    let error = Machine::new(Some(RECORD), "#!/bin/sh\necho broken >&2\nexit 1\n")
        .run()
        .unwrap_err();
    assert!(
        error.to_string().contains("gave no schema number: broken"),
        "{error}"
    );
    let error = Machine::new(
        Some(RECORD),
        "#!/bin/sh\necho 'Current database schema version is: 159'\nexit 1\n",
    )
    .run()
    .unwrap_err();
    assert!(matches!(error, GateError::NoSchema { .. }), "{error}");
}

//! `version-gate`: compares what the data were last used with to what this image holds, before Mattermost starts.
//!
//! The decision is core's; here the record is read and the server's own program is asked for the schema number.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use atalaya_core::release::{Record, Refusal, Verdict, assess, parse_schema};

use crate::places::Places;
use crate::render::{RenderError, read_release};

#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(
        "the record of the release that last used these data ({}) cannot be read. Nothing was started on them and nothing was \
         changed. Restore the data from a backup, or report this", path.display()
    )]
    Record { path: PathBuf, source: RecordError },
    #[error("failed to learn what this image holds")]
    Release(#[from] RenderError),
    #[error("failed to start {}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{} db version ended with {status} and gave no schema number: {said}", program.display())]
    NoSchema {
        program: PathBuf,
        status: std::process::ExitStatus,
        said: String,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Read(#[from] io::Error),
    #[error(transparent)]
    Parse(#[from] serde_json::Error),
}

/// Succeeds if this image's Mattermost may start on this generation's data.
///
/// # Errors
/// [`GateError::Refused`] if not; the others where it cannot be known, which is a refusal too.
pub fn run(places: &Places, say: &dyn Fn(&str)) -> Result<(), GateError> {
    let release = read_release(places)?;
    let record = read_record(places)?;
    let schema = match &record {
        // The database may still be empty, and the server's program would fail on it.
        None => None,
        // Known without asking, and the other kind's program may not even start here.
        Some(record) if record.kind != release.mattermost.kind => None,
        Some(_) => Some(ask_schema(places)?),
    };
    match assess(record.as_ref(), &release.mattermost, schema) {
        Verdict::Start => {
            match record {
                Some(record) => say(&format!(
                    "data of Mattermost {} at schema {}; this image has {}",
                    record.release, record.schema, release.mattermost.version
                )),
                None => say("these data were not used by a complete start before"),
            }
            Ok(())
        }
        Verdict::Refuse(refusal) => Err(refusal.into()),
    }
}

/// What the generation's data were last used with; `None` before the first complete start.
///
/// # Errors
/// It is there and cannot be read.
pub fn read_record(places: &Places) -> Result<Option<Record>, GateError> {
    let path = places.mattermost_json();
    let wrong = |source: RecordError| GateError::Record {
        path: path.clone(),
        source,
    };
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).map_err(|e| wrong(e.into()))?,
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.into())),
    }
}

/// Asks the server's own program which schema the database has. It takes its settings from the environment.
///
/// # Errors
/// It gives no number.
pub fn ask_schema(places: &Places) -> Result<u64, GateError> {
    let program = places.mattermost_program();
    let output = Command::new(&program)
        .args(["db", "version"])
        .current_dir(places.mattermost_directory())
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| GateError::Start {
            program: program.clone(),
            source,
        })?;
    if let (true, Some(schema)) = (
        output.status.success(),
        parse_schema(&String::from_utf8_lossy(&output.stdout)),
    ) {
        return Ok(schema);
    }
    // The last line says why; the connection string in it, if any, has no password.
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("nothing")
        .chars()
        .take(400)
        .collect();
    Err(GateError::NoSchema {
        program,
        status: output.status,
        said,
    })
}

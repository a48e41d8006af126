//! Runs the programs that the pipeline is made of. Their output goes to a log file, not to the terminal; on failure the
//! last lines are shown.

use crate::error::{Error, IoContext, Result};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// How many lines of a failed program's output are shown.
const TAIL_LINES: usize = 25;

/// Runs `command` to its end with its output in `log`.
pub fn run(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).during("create folder", folder)?;
    }
    let file = File::create(log).during("create", log)?;
    let errors = file.try_clone().during("open again", log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .map_err(|source| not_started(command, source))?;
    if status.success() {
        return Ok(());
    }
    let bytes = fs::read(log).during("read", log)?;
    Err(Error::Command {
        what: what.to_owned(),
        status: status.to_string(),
        tail: tail(&String::from_utf8_lossy(&bytes)),
        log: log.to_owned(),
    })
}

/// Runs `command` and gives its standard output.
pub fn read(what: &str, command: &mut Command, log: &Path) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| not_started(command, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Err(Error::Command {
        what: what.to_owned(),
        status: output.status.to_string(),
        tail: tail(&text),
        log: log.to_owned(),
    })
}

fn not_started(command: &Command, source: std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    if source.kind() == std::io::ErrorKind::NotFound {
        Error::ProgramMissing { program }
    } else {
        Error::Io {
            operation: "start",
            object: program,
            source,
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(
            "x",
            &mut Command::new("/nonexistent/program"),
            &folder.path().join("log"),
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/nonexistent/program is not installed")
        );
        assert!(error.to_string().contains("make setup"));
    }

    #[test]
    fn a_failed_program_shows_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "seq 1 100; echo wrong >&2; exit 3"]);
        let text = run("counting", &mut command, &folder.path().join("log"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("counting failed"), "{text}");
        assert!(text.contains("wrong") && text.contains("100"), "{text}");
        assert!(!text.contains("\n50\n"), "{text}");
    }
}

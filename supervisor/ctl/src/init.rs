//! What can be asked of init itself, with the supervisor or without: one line of JSON there, one back.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// init answers at once; it never waits for anything.
const LIMIT: Duration = Duration::from_secs(10);

pub struct Init {
    socket: PathBuf,
}

impl Init {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// `request` is one of status, supervisor-restart, reboot, poweroff.
    pub fn ask(&self, request: &str) -> Result<Value> {
        let mut stream = UnixStream::connect(&self.socket).with_context(|| {
            format!(
                "init does not answer on {}. The services run on and no data is touched. Try again as root",
                self.socket.display()
            )
        })?;
        stream
            .set_read_timeout(Some(LIMIT))
            .context("failed to limit the wait for init")?;
        let line = format!("{}\n", json!({ "request": request }));
        stream
            .write_all(line.as_bytes())
            .context("failed to ask init")?;
        let mut answer = String::new();
        BufReader::new(stream)
            .read_line(&mut answer)
            .context("failed to read init's answer")?;
        let answer: Value =
            serde_json::from_str(&answer).context("failed to understand init's answer")?;
        if answer.get("ok") != Some(&Value::Bool(true)) {
            bail!(
                "init refused: {}. Nothing was changed. See: atalaya status",
                crate::show::text(&answer, "error")
            );
        }
        Ok(answer)
    }
}

//! As much HTTP as the control socket needs: one request, one answer, one connection.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use atalaya_core::words::capital;
use serde_json::Value;

#[derive(Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Whether somebody listens there.
    pub fn is_there(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, None)
    }

    pub fn post(&self, path: &str) -> Result<Value> {
        self.ask("POST", path, None)
    }

    pub fn post_json(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Result<Value> {
        self.ask("DELETE", path, None)
    }

    /// Sends `file` as it is read: it may be larger than the memory.
    pub fn post_file(&self, path: &str, mut file: File, bytes: u64) -> Result<Value> {
        let mut stream = self.connect()?;
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: atalaya\r\nContent-Type: application/octet-stream\r\nContent-Length: {bytes}\r\n\r\n"
        );
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| std::io::copy(&mut file, &mut stream));
        // One that refuses need not have read it all: what it answered counts.
        match (sent, answer(stream)) {
            (_, Ok(body)) => read_json(body),
            (Err(broken), Err(error)) if broke_off(&error) => {
                Err(broken).context("failed to send the file")
            }
            (Ok(_) | Err(_), Err(error)) => Err(error),
        }
    }

    /// Hands every line of the answer to `each`, as it comes, until that has had enough (false).
    pub fn stream(&self, path: &str, mut each: impl FnMut(&str) -> bool) -> Result<()> {
        let mut body = self.send("GET", path, None)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if body
                .read_until(b'\n', &mut line)
                .context("failed to read the answer")?
                == 0
            {
                return Ok(());
            }
            if !each(String::from_utf8_lossy(&line).trim_end_matches('\n')) {
                return Ok(());
            }
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        read_json(self.send(method, path, body)?)
    }

    /// The body of an answer that is not a refusal.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<BufReader<UnixStream>> {
        let mut stream = self.connect()?;
        // HTTP/1.0: the answer ends with the connection, and is never in chunks.
        let body = body.map(ToString::to_string).unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: atalaya\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream
            .write_all(request.as_bytes())
            .context("failed to send the request")?;
        answer(stream)
    }

    fn connect(&self) -> Result<UnixStream> {
        UnixStream::connect(&self.socket).with_context(|| {
            format!(
                "The supervisor does not answer on {}. The services run on without it and no data is touched. Try again \
                 in a few seconds, as root",
                self.socket.display()
            )
        })
    }
}

/// Whether it is the connection that failed, and not that somebody said no.
pub fn broke_off(error: &anyhow::Error) -> bool {
    error.is::<NoAnswer>() || error.is::<std::io::Error>()
}

/// The connection ended without a word.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the supervisor gave no answer")
    }
}

impl std::error::Error for NoAnswer {}

/// Who answers before everything that was sent is read, and closes, leaves a reset where the end belongs: what came before
/// it counts if it is a whole answer.
fn read_json(mut body: BufReader<UnixStream>) -> Result<Value> {
    let mut text = Vec::new();
    let end = body.read_to_end(&mut text);
    match (serde_json::from_slice(&text), end) {
        (Ok(answer), _) => Ok(answer),
        (Err(_), Err(broken)) => Err(broken).context("failed to read the answer"),
        (Err(error), Ok(_)) => Err(error).context("failed to understand the answer"),
    }
}

/// The body of an answer that is not a refusal.
fn answer(stream: UnixStream) -> Result<BufReader<UnixStream>> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    reader
        .read_line(&mut head)
        .context("failed to read the answer")?;
    let status: u16 = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    loop {
        let mut line = String::new();
        if reader
            .read_line(&mut line)
            .context("failed to read the answer")?
            == 0
            || line.trim().is_empty()
        {
            break;
        }
    }
    if status == 0 {
        return Err(NoAnswer.into());
    }
    if (200..300).contains(&status) {
        return Ok(reader);
    }
    let answer = match read_json(reader) {
        Err(error) if broke_off(&error) => return Err(error),
        answer => answer.unwrap_or_default(),
    };
    let part = |key: &str| {
        answer
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    match part("error").as_str() {
        "" => {
            bail!("The supervisor refused the request (HTTP status {status}). Nothing was changed.")
        }
        error => bail!("{}. {} {}", capital(error), part("data"), part("next")),
    }
}

/// For a value in a query.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn a_time_passes_through_a_query() {
        assert_eq!(
            escape("2026-01-01T00:00:00+01:00"),
            "2026-01-01T00%3A00%3A00%2B01%3A00"
        );
    }
}

//! Asks the control API for what a screen shows. One request, one answer, one connection, and bounds on everything.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::model::Answer;

/// A supervisor that takes longer is as good as away.
const LIMIT: Duration = Duration::from_secs(5);
/// More than a screen could ever show, in bytes.
const SIZE_LIMIT: u64 = 4 << 20;

/// # Errors
/// The supervisor is not there, too slow, or of another version.
pub async fn ask(socket: &Path) -> Result<Answer> {
    tokio::time::timeout(LIMIT, exchange(socket))
        .await
        .context("the supervisor does not answer in time")?
}

async fn exchange(socket: &Path) -> Result<Answer> {
    let mut stream = UnixStream::connect(socket)
        .await
        .context("failed to reach the supervisor")?;
    stream
        .write_all(b"GET /v1/screen HTTP/1.0\r\nHost: atalaya\r\n\r\n")
        .await
        .context("failed to ask the supervisor")?;
    let mut bytes = Vec::new();
    stream
        .take(SIZE_LIMIT)
        .read_to_end(&mut bytes)
        .await
        .context("failed to read the supervisor's answer")?;
    let text = String::from_utf8(bytes).context("the answer is not text")?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("the supervisor's answer is cut short");
    };
    if head.split(' ').nth(1) != Some("200") {
        bail!("the supervisor refused: {body}");
    }
    serde_json::from_str(body).context("failed to understand the supervisor's answer")
}

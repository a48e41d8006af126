//! Asks the control API for what a screen shows. One request, one answer, one connection, and bounds on everything.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::model::{Answer, Refusal};

/// A supervisor that takes longer is as good as away.
const LIMIT: Duration = Duration::from_secs(5);
/// More than a screen could ever show, in bytes.
const SIZE_LIMIT: u64 = 4 << 20;

/// # Errors
/// The supervisor is not there, too slow, or of another version.
pub async fn ask(socket: &Path) -> Result<Answer> {
    let (status, body) = exchange(socket, "GET /v1/screen").await?;
    if status != "200" {
        bail!("the supervisor refused: {body}");
    }
    serde_json::from_str(&body).context("failed to understand the supervisor's answer")
}

/// Begins the update that a stick offers.
///
/// # Errors
/// Why not, in sentences for whoever is in front of the screen.
pub async fn install(socket: &Path, version: &str) -> std::result::Result<(), String> {
    let request = format!("POST /v1/update/stick/{version}");
    match exchange(socket, &request).await {
        Ok((status, _)) if status == "202" => Ok(()),
        Ok((_, body)) => {
            let refusal: Refusal = serde_json::from_str(&body).unwrap_or_default();
            let what = atalaya_core::words::capital(&refusal.what);
            Err(format!("{what}. {} {}", refusal.data, refusal.next).replace("..", "."))
        }
        Err(error) => Err(format!(
            "{}. Look at what the screen says of updates.",
            atalaya_core::words::capital(&format!("{error:#}"))
        )),
    }
}

/// The status and the body of the answer.
async fn exchange(socket: &Path, request: &str) -> Result<(String, String)> {
    tokio::time::timeout(LIMIT, send(socket, request))
        .await
        .context("the supervisor does not answer in time")?
}

async fn send(socket: &Path, request: &str) -> Result<(String, String)> {
    let mut stream = UnixStream::connect(socket)
        .await
        .context("failed to reach the supervisor")?;
    stream
        .write_all(format!("{request} HTTP/1.0\r\nHost: atalaya\r\n\r\n").as_bytes())
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
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok((status.to_owned(), body.to_owned()))
}

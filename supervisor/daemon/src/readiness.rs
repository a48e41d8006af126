//! Asking a unit whether it is ready: by connecting, by an HTTP request, by running a command. Answers go to the owner of
//! state; what follows from them is decided there.

use std::time::Duration;

use atalaya_core::unit::{Ready, ReadyKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// An answer that takes longer is none.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What a check needs done by the owner of state: run the unit's command, and tell whether it ended well.
pub struct Ask(pub oneshot::Sender<Result<(), String>>);

/// Polls for ever; the owner ends it. Tells every answer.
pub async fn poll(
    ready: Ready,
    was_ready: bool,
    ask: mpsc::UnboundedSender<Ask>,
    mut tell: impl FnMut(Result<(), String>),
) {
    let mut is_ready = was_ready;
    loop {
        if is_ready && !ready.watch {
            return;
        }
        if is_ready {
            tokio::time::sleep(Duration::from_millis(ready.watch_interval_ms)).await;
        }
        let answer = match timeout(ANSWER_LIMIT, check(&ready, &ask)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
        };
        is_ready = answer.is_ok();
        tell(answer);
        if !is_ready {
            tokio::time::sleep(Duration::from_millis(ready.interval_ms)).await;
        }
    }
}

async fn check(ready: &Ready, ask: &mpsc::UnboundedSender<Ask>) -> Result<(), String> {
    match ready.kind {
        ReadyKind::Tcp => connect(ready.address.as_deref().unwrap_or_default())
            .await
            .map(drop),
        ReadyKind::Http => fetch(ready.url.as_deref().unwrap_or_default()).await,
        ReadyKind::Exec => {
            let (sender, receiver) = oneshot::channel();
            ask.send(Ask(sender))
                .map_err(|_| "the supervisor is ending".to_owned())?;
            receiver
                .await
                .unwrap_or_else(|_| Err("the check was not run".to_owned()))
        }
        // Told by the unit, not asked.
        ReadyKind::Notify | ReadyKind::Started => std::future::pending().await,
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address)
        .await
        .map_err(|error| format!("{address}: {error}"))
}

/// Only the status line matters; nothing of the body is read.
async fn fetch(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let mut stream = connect(authority).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: atalayad\r\nConnection: close\r\n\r\n"
    );
    let broken = |error: std::io::Error| format!("{authority}: {error}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') && head.len() < 1024 {
        if stream.read_buf(&mut head).await.map_err(broken)? == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&head);
    match text.lines().next().and_then(|line| line.split(' ').nth(1)) {
        Some("200") => Ok(()),
        Some(status) => Err(format!("HTTP status {}", crate::console::harmless(status))),
        None => Err(format!("{authority}: no HTTP answer")),
    }
}

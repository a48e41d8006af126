//! Asking a unit whether it is ready, or whether it is stuck: by connecting, by an HTTP request, by running a command.
//! Answers go to the owner of state; what follows from them is decided there.

use std::time::Duration;

use atalaya_core::unit::{Liveness, LivenessKind, Ready, ReadyKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A readiness check that takes longer is no answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Nothing, or why not.
pub type Verdict = Result<(), String>;

/// What a check needs done by the owner of state: run this command as the unit, and tell whether it ended well. When
/// nobody waits for the reply any more, the command has taken too long.
pub struct Ask {
    pub command: Vec<String>,
    pub reply: oneshot::Sender<Verdict>,
}

/// How to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Question {
    Connect(String),
    Fetch(String),
    Run(Vec<String>),
}

/// Whom to ask, how often, and how long to wait for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    question: Question,
    limit: Duration,
    /// After a bad answer.
    retry: Duration,
    /// After a good one; none: a good answer is the last.
    watch: Option<Duration>,
}

impl Poll {
    /// How readiness is asked for; nothing for units that only tell it themselves.
    pub fn for_readiness(ready: &Ready) -> Option<Self> {
        let question = match ready.kind {
            ReadyKind::Tcp => Question::Connect(ready.address.clone()?),
            ReadyKind::Http => Question::Fetch(ready.url.clone()?),
            ReadyKind::Exec => Question::Run(ready.command.clone()),
            ReadyKind::Notify if !ready.command.is_empty() => Question::Run(ready.command.clone()),
            ReadyKind::Notify | ReadyKind::Started => return None,
        };
        Some(Self {
            question,
            limit: ANSWER_LIMIT,
            retry: Duration::from_millis(ready.interval_ms),
            watch: (ready.watch || ready.kind == ReadyKind::Notify)
                .then(|| Duration::from_millis(ready.watch_interval_ms)),
        })
    }

    /// How it is asked whether the unit is stuck; nothing for a watchdog.
    pub fn for_liveness(liveness: &Liveness) -> Option<Self> {
        let question = match liveness.kind {
            LivenessKind::Http => Question::Fetch(liveness.url.clone()?),
            LivenessKind::Exec => Question::Run(liveness.command.clone()),
            LivenessKind::Watchdog => return None,
        };
        let interval = Duration::from_millis(liveness.interval_ms);
        Some(Self {
            question,
            limit: Duration::from_millis(liveness.timeout_ms),
            retry: interval,
            watch: Some(interval),
        })
    }

    /// Asks for ever; the owner ends it. Tells every answer. With `pause` it waits once before it begins.
    pub async fn run(self, pause: bool, ask: impl Fn(Ask), tell: impl Fn(Verdict)) {
        let mut good = pause;
        loop {
            match (good, self.watch) {
                (true, Some(pause)) => tokio::time::sleep(pause).await,
                (true, None) => return,
                (false, _) => {}
            }
            let answer = match timeout(self.limit, self.question.put(&ask)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} ms", self.limit.as_millis())),
            };
            good = answer.is_ok();
            tell(answer);
            if !good {
                tokio::time::sleep(self.retry).await;
            }
        }
    }
}

impl Question {
    async fn put(&self, ask: &impl Fn(Ask)) -> Verdict {
        match self {
            Self::Connect(address) => connect(address).await.map(drop),
            Self::Fetch(url) => fetch(url).await,
            Self::Run(command) => {
                let (reply, answer) = oneshot::channel();
                ask(Ask {
                    command: command.clone(),
                    reply,
                });
                answer
                    .await
                    .unwrap_or_else(|_| Err("the check was not run".to_owned()))
            }
        }
    }
}

async fn connect(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address)
        .await
        .map_err(|error| format!("{address}: {error}"))
}

/// Only the status line matters; nothing of the body is read.
async fn fetch(url: &str) -> Verdict {
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

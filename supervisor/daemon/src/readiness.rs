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

/// A unit that was ready and gives no answer has lost its readiness after so many checks in a row: a busy machine answers late, and users would be
/// shut out for it. A bad answer counts at once.
const SILENCES: u32 = 3;

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
    /// How many checks in a row may stay without an answer until that is told, if the one before was good.
    silences: u32,
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
            silences: SILENCES,
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
            // Its own threshold says how many are too many.
            silences: 1,
        })
    }

    /// Asks for ever; the owner ends it. Tells every answer. With `pause` it waits once before it begins.
    pub async fn run(self, pause: bool, ask: impl Fn(Ask), tell: impl Fn(Verdict)) {
        let (mut good, mut silent) = (pause, 0);
        loop {
            match (good, self.watch) {
                (true, Some(pause)) => tokio::time::sleep(pause).await,
                (true, None) => return,
                (false, _) => {}
            }
            let answer = match timeout(self.limit, self.question.put(&ask)).await {
                Ok(answer) => {
                    silent = 0;
                    answer
                }
                Err(_) => {
                    silent += 1;
                    if good && silent < self.silences {
                        continue;
                    }
                    Err(format!("no answer within {} ms", self.limit.as_millis()))
                }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What is told of a unit whose checks end like this, one after the other; `None`: never.
    async fn told(silences: u32, answers: &[Option<Verdict>]) -> Vec<Verdict> {
        let poll = Poll {
            question: Question::Run(Vec::new()),
            // An answer is there at once or never.
            limit: Duration::from_millis(10),
            retry: Duration::from_millis(1),
            watch: Some(Duration::from_millis(1)),
            silences,
        };
        let (end, ended) = oneshot::channel::<()>();
        let told = Mutex::new(Vec::new());
        // What nobody answers is kept: dropped, it would be an answer.
        let script = Mutex::new((answers.iter(), Some(end), Vec::new()));
        let ask = |ask: Ask| {
            let (answers, end, kept) = &mut *script.lock().unwrap();
            match answers.next() {
                Some(Some(answer)) => return ask.reply.send(answer.clone()).unwrap(),
                Some(None) => {}
                None => drop(end.take()),
            }
            kept.push(ask.reply);
        };
        tokio::select! {
            () = poll.run(false, ask, |verdict| told.lock().unwrap().push(verdict)) => {}
            _ended = ended => {}
        }
        told.into_inner().unwrap()
    }

    #[tokio::test]
    async fn a_late_answer_is_forgiven_twice_a_bad_one_never() {
        let (good, bad) = (Ok(()), Err("rejecting".to_owned()));
        let silence = Err("no answer within 10 ms".to_owned());
        let ready = told(3, &[Some(good.clone()), None, None, Some(good.clone())]).await;
        assert_eq!(ready, [good.clone(), good.clone()]);
        let lost = told(3, &[Some(good.clone()), None, None, None, None]).await;
        assert_eq!(lost, [good.clone(), silence.clone(), silence.clone()]);
        let refused = told(3, &[Some(good.clone()), None, Some(bad.clone())]).await;
        assert_eq!(refused, [good.clone(), bad]);
        // Nobody was ready yet; and where every answer counts.
        assert_eq!(told(3, &[None, None]).await, vec![silence.clone(); 2]);
        assert_eq!(told(1, &[Some(good.clone()), None]).await, [good, silence]);
    }
}

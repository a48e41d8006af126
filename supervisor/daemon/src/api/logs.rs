//! `GET /v1/logs`: JSON lines, first what is stored, then, with `follow`, what comes. With `boots` the list of boots instead. Every
//! query reads the disk on a thread of its own, so that a disk that stands holds up nobody but who asks.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::Query as Fields;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::logs::{Hub, Level, Place, Query, list_boots, read_stored};

/// Queries at a time: each may have a thread that waits for a disk.
const AT_A_TIME: usize = 4;
/// Handed on at once, in bytes.
const CHUNK: usize = 32 << 10;
/// Names of units in one query.
const UNITS: usize = 64;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// What of the log is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    lines: Query,
    follow: bool,
    boots: bool,
}

/// As they are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// One or more, with commas between them.
    unit: Option<String>,
    since: Option<String>,
    until: Option<String>,
    boot: Option<String>,
    level: Option<String>,
    lines: Option<u64>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    boots: bool,
}

impl LogQuery {
    /// Why it cannot be understood, in words.
    pub(super) fn parse(uri: &Uri) -> Result<Self, String> {
        let Fields(asked): Fields<Asked> =
            Fields::try_from_uri(uri).map_err(|error| error.body_text())?;
        let units: Vec<String> = asked
            .unit
            .iter()
            .flat_map(|units| units.split(','))
            .filter(|unit| !unit.is_empty())
            .map(str::to_owned)
            .collect();
        if units.len() > UNITS {
            return Err(format!("unit: more than {UNITS} names"));
        }
        let level = asked
            .level
            .map(|text| {
                Level::parse(&text).ok_or_else(|| {
                    let words: Vec<&str> = Level::ALL.iter().map(|level| level.word()).collect();
                    format!("level: choose one of {}", words.join(", "))
                })
            })
            .transpose()?;
        Ok(Self {
            lines: Query {
                units,
                since: parse_time("since", asked.since)?,
                until: parse_time("until", asked.until)?,
                boot: asked.boot,
                level,
                lines: asked.lines,
            },
            follow: asked.follow,
            boots: asked.boots,
        })
    }
}

/// To the form in which lines have their time.
fn parse_time(key: &str, text: Option<String>) -> Result<Option<String>, String> {
    text.map(|text| {
        clock::parse_wall(&text)
            .map(clock::format_wall)
            .ok_or_else(|| format!("{key}: a time is written as in 2026-01-31T12:00:00Z"))
    })
    .transpose()
}

/// One of the few threads that may read.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        if RUNNING.fetch_add(1, Ordering::Relaxed) < AT_A_TIME {
            return Some(Self);
        }
        RUNNING.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn answer(hub: Hub, query: LogQuery) -> Response {
    let Some(turn) = Turn::take() else {
        return super::refusal(
            503,
            "the log is being read by too many at a time",
            "Nothing was changed.",
            "Try again when another reader has ended.",
        );
    };
    if query.boots {
        return boots(hub, turn).await;
    }
    let (sender, receiver) = mpsc::channel::<Bytes>(16);
    tokio::spawn(send(hub, query, turn, sender));
    let stream = Lines(receiver);
    ([("content-type", "application/jsonl")], Body::new(stream)).into_response()
}

async fn boots(hub: Hub, turn: Turn) -> Response {
    let (done, answer) = oneshot::channel();
    let read = move || {
        let boots = list_boots(hub.root(), hub.boot());
        drop(turn);
        // Who has asked may have gone.
        drop(done.send(boots));
    };
    drop(
        std::thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(read),
    );
    let boots = answer.await.unwrap_or_default();
    axum::Json(serde_json::json!({ "boots": boots })).into_response()
}

async fn send(hub: Hub, query: LogQuery, turn: Turn, sender: mpsc::Sender<Bytes>) {
    let mut news = hub.news();
    let memory = hub.snapshot(0);
    let (done, last) = oneshot::channel();
    let (reader_hub, lines, chunks) = (hub.clone(), query.lines.clone(), sender.clone());
    let read = move || {
        let mut chunk = Vec::new();
        let place = Place {
            root: reader_hub.root(),
            boot: reader_hub.boot(),
            memory: &memory,
            after: 0,
        };
        let last = read_stored(&place, &lines, &mut |line| {
            chunk.extend_from_slice(&line);
            chunk.push(b'\n');
            chunk.len() < CHUNK
                || chunks
                    .blocking_send(std::mem::take(&mut chunk).into())
                    .is_ok()
        });
        if !chunk.is_empty() {
            chunks.blocking_send(chunk.into()).ok();
        }
        drop(turn);
        done.send(last).ok();
    };
    drop(
        std::thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(read),
    );
    let Ok(mut last) = last.await else { return };
    if !query.follow {
        return;
    }
    let query = Query {
        lines: None,
        boot: None,
        ..query.lines
    };
    while send_news(&hub, &query, &mut last, &sender).await {
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            // Nobody listens any more.
            () = sender.closed() => return,
        }
    }
}

/// What has come behind `last`, from memory; false if nobody listens any more.
async fn send_news(hub: &Hub, query: &Query, last: &mut u64, sender: &mpsc::Sender<Bytes>) -> bool {
    let mut chunk = Vec::new();
    if hub.has_forgotten(*last) {
        let line = serde_json::json!({
            "boot": hub.boot(),
            "t": clock::wall_now(),
            "us": *last,
            "unit": "atalayad",
            "stream": "atalayad",
            "level": "warning",
            "line": "lines came faster than they were read here; the stored log has them",
        });
        chunk.extend_from_slice(line.to_string().as_bytes());
        chunk.push(b'\n');
    }
    let memory = hub.snapshot(*last);
    let place = Place {
        root: None,
        boot: hub.boot(),
        memory: &memory,
        after: *last,
    };
    read_stored(&place, query, &mut |line| {
        chunk.extend_from_slice(&line);
        chunk.push(b'\n');
        true
    });
    if let Some(newest) = memory.last() {
        *last = newest.last_us();
    }
    chunk.is_empty() || sender.send(chunk.into()).await.is_ok()
}

/// A body that comes as it is sent.
struct Lines(mpsc::Receiver<Bytes>);

impl axum::body::HttpBody for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|bytes| bytes.map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}

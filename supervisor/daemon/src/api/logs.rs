//! `GET /v1/logs`: JSON lines, first what is stored, then, with `follow`, what comes.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::{broadcast, mpsc};

use crate::logs::{Filter, Hub, Line, read_stored};

/// What of the log is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogQuery {
    unit: Option<String>,
    since: Option<String>,
    boot: Option<String>,
    #[serde(default)]
    follow: bool,
}

impl LogQuery {
    /// Why it cannot be understood, in words.
    pub(super) fn parse(uri: &Uri) -> Result<Self, String> {
        Query::try_from_uri(uri)
            .map(|Query(query)| query)
            .map_err(|error| error.body_text())
    }
}

pub(super) fn answer(hub: Hub, query: LogQuery) -> Response {
    let filter = Filter {
        unit: query.unit,
        since: query.since,
        boot: query.boot,
    };
    let news = query.follow.then(|| hub.follow());
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    tokio::spawn(send_logs(hub, filter, news, sender));
    let stream = Lines(receiver);
    ([("content-type", "application/jsonl")], Body::new(stream)).into_response()
}

async fn send_logs(
    hub: Hub,
    filter: Filter,
    news: Option<broadcast::Receiver<Arc<Line>>>,
    sender: mpsc::Sender<Bytes>,
) {
    if let Some(root) = hub.root().cloned() {
        let (reader_hub, reader_filter, reader_sender) =
            (hub.clone(), filter.clone(), sender.clone());
        let read = move || {
            reader_hub.sync(std::time::Duration::from_secs(2));
            read_stored(&root, &reader_filter, &mut |line| {
                if let Some(bytes) = encode(&line) {
                    // The reader may have gone: the rest is read in vain, and ends.
                    drop(reader_sender.blocking_send(bytes));
                }
            });
        };
        drop(tokio::task::spawn_blocking(read).await);
    } else {
        for line in hub.recent().iter().filter(|line| filter.admits(line)) {
            if let Some(bytes) = encode(line)
                && sender.send(bytes).await.is_err()
            {
                return;
            }
        }
    }
    let Some(mut news) = news else { return };
    loop {
        match news.recv().await {
            Ok(line) if filter.admits(&line) => {
                if let Some(bytes) = encode(&line)
                    && sender.send(bytes).await.is_err()
                {
                    return;
                }
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn encode(line: &Line) -> Option<Bytes> {
    let mut bytes = serde_json::to_vec(line).ok()?;
    bytes.push(b'\n');
    Some(bytes.into())
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

//! The control socket: HTTP/1.1 and JSON, for root only. It reads requests and writes answers; the owner of state decides.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use atalaya_core::link::Action;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Path as InPath, Query, Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::logs::{Filter, Hub, Line, read_stored};
use crate::supervisor::{Answer, Message, Request};

/// Who asks, as the kernel says.
#[derive(Clone, Copy, Debug)]
struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(
            stream
                .io()
                .peer_cred()
                .ok()
                .map(|credentials| credentials.uid()),
        )
    }
}

#[derive(Clone)]
struct Api {
    owner: mpsc::UnboundedSender<Message>,
    hub: Hub,
}

/// Binds the socket, for root only.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(path: &Path) -> Result<UnixListener> {
    if path.exists() {
        std::fs::remove_file(path)
            .with_context(|| format!("failed to remove the old {}", path.display()))?;
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("failed to bind {}", path.display()))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .with_context(|| format!("failed to protect {}", path.display()))?;
    Ok(listener)
}

/// Serves until the process ends.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: UnixListener,
    owner: mpsc::UnboundedSender<Message>,
    hub: Hub,
) -> Result<()> {
    let routes = Router::new()
        .route(
            "/v1/status",
            get(async |State(api): State<Api>| ask(api, Request::Status).await),
        )
        .route(
            "/v1/units",
            get(async |State(api): State<Api>| ask(api, Request::Units).await),
        )
        .route(
            "/v1/units/{name}",
            get(
                async |State(api): State<Api>, InPath(name): InPath<String>| {
                    ask(api, Request::Unit(name)).await
                },
            ),
        )
        .route("/v1/units/{name}/{verb}", post(act))
        .route("/v1/logs", get(logs))
        .route(
            "/v1/reboot",
            post(async |State(api): State<Api>| ask(api, Request::End(Action::Reboot)).await),
        )
        .route(
            "/v1/poweroff",
            post(async |State(api): State<Api>| ask(api, Request::End(Action::Poweroff)).await),
        )
        .fallback(async || {
            refusal(
                404,
                "there is no such request",
                "Nothing was changed.",
                "Use the atalaya command of this release.",
            )
        })
        .layer(from_fn(only_root))
        .with_state(Api { owner, hub });
    axum::serve(
        listener,
        routes.into_make_service_with_connect_info::<Peer>(),
    )
    .await
    .context("failed to serve the control socket")
}

/// The mode of the socket already says so; the credentials hold even if a descriptor was passed on.
async fn only_root(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: HttpRequest,
    next: Next,
) -> Response {
    if peer.0 == Some(0) {
        next.run(request).await
    } else {
        refusal(
            403,
            "only root may use the control socket",
            "Nothing was changed.",
            "Use an administrator's access.",
        )
    }
}

fn refusal(status: u16, error: &str, data: &str, next: &str) -> Response {
    respond(Answer::refusal(status, error, data, next))
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(answer.body)).into_response()
}

async fn ask(api: Api, request: Request) -> Response {
    let (reply, answer) = oneshot::channel();
    let sent = api.owner.send(Message::Request { request, reply });
    match (sent, answer.await) {
        (Ok(()), Ok(answer)) => respond(answer),
        (Err(_), _) | (_, Err(_)) => refusal(
            503,
            "the supervisor is ending",
            "The services run on.",
            "Try again in a few seconds.",
        ),
    }
}

async fn act(State(api): State<Api>, InPath((name, verb)): InPath<(String, String)>) -> Response {
    let request = match verb.as_str() {
        "start" => Request::Start(name),
        "stop" => Request::Stop(name),
        "restart" => Request::Restart(name),
        _ => {
            return refusal(
                404,
                &format!("a service cannot be asked to {verb}"),
                "Nothing was changed.",
                "Choose start, stop or restart.",
            );
        }
    };
    ask(api, request).await
}

#[derive(Deserialize)]
struct LogQuery {
    unit: Option<String>,
    since: Option<String>,
    boot: Option<String>,
    #[serde(default)]
    follow: bool,
}

/// JSON lines: first what is stored, then, with `follow`, what comes.
async fn logs(State(api): State<Api>, Query(query): Query<LogQuery>) -> Response {
    let filter = Filter {
        unit: query.unit,
        since: query.since,
        boot: query.boot,
    };
    let news = query.follow.then(|| api.hub.follow());
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    tokio::spawn(send_logs(api.hub, filter, news, sender));
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

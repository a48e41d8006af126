//! The control socket: HTTP/1.1 and JSON. Root may all; the console screen's user may look, and begin the update of a stick that is offered. It reads requests ([`parse_request`]) and
//! writes answers; the owner of state decides.

mod logs;
mod parse;
mod update;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::to_bytes;
use axum::extract::State;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

pub use logs::LogQuery;
pub use parse::{Call, parse_request};
pub use update::make_pipe;

use crate::clock::wall_now;
use crate::logs::Hub;
use crate::maintenance::{self, Maintenance};
use crate::supervisor::{Answer, Message, Request};

/// The longest body of a request, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Followed by the version that a stick offers.
const STICK: &str = "/v1/update/stick/";

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

/// The user of the screens on the consoles: may look, and say yes to what a stick offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewer {
    pub uid: u32,
    pub gid: u32,
}

impl Viewer {
    /// As /etc/passwd has it; none where it has none.
    pub fn find() -> Option<Self> {
        let user = nix::unistd::User::from_name("atalaya-console").ok()??;
        Some(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }
}

#[derive(Clone)]
struct Api {
    owner: mpsc::UnboundedSender<Message>,
    hub: Hub,
    viewer: Option<Viewer>,
    places: Places,
}

/// What of the machine's places is needed here.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where the wish that users stay out is kept.
    pub maintenance: Option<PathBuf>,
    /// The pipe by which a bundle goes to the unit that writes it.
    pub bundle: PathBuf,
}

/// Binds the socket: for root, and for the group of the viewer where there is one.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(path: &Path, viewer: Option<Viewer>) -> Result<UnixListener> {
    if path.exists() {
        std::fs::remove_file(path)
            .with_context(|| format!("failed to remove the old {}", path.display()))?;
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("failed to bind {}", path.display()))?;
    let mode = if viewer.is_some() { 0o660 } else { 0o600 };
    std::os::unix::fs::chown(path, Some(0), Some(viewer.map_or(0, |viewer| viewer.gid)))
        .with_context(|| format!("failed to give {} to its group", path.display()))?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
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
    viewer: Option<Viewer>,
    places: Places,
) -> Result<()> {
    let routes = Router::new().fallback(answer).with_state(Api {
        owner,
        hub,
        viewer,
        places,
    });
    axum::serve(
        listener,
        routes.into_make_service_with_connect_info::<Peer>(),
    )
    .await
    .context("failed to serve the control socket")
}

async fn answer(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: axum::extract::Request,
) -> Response {
    let (head, body) = request.into_parts();
    // The socket's mode already keeps all others out; the credentials hold even if a descriptor was passed on.
    if let Err(refusal) = admit(peer.0, api.viewer, head.method.as_str(), head.uri.path()) {
        return respond(refusal);
    }
    if update::is_bundle(&head) {
        return update::receive(api, head, body).await;
    }
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
        return refusal(
            413,
            "the request's body is too long or broken",
            "Nothing was changed.",
            "Use the atalaya command of this release.",
        );
    };
    let path = head
        .uri
        .path_and_query()
        .map_or("/", |path_and_query| path_and_query.as_str());
    match parse_request(head.method.as_str(), path, &body) {
        Ok(Call::Owner(request)) => ask(api, request).await,
        Ok(Call::Maintenance(wish)) => set_maintenance(api, wish).await,
        Ok(Call::Logs(query)) => logs::answer(api.hub, query).await,
        Err(refusal) => respond(refusal),
    }
}

/// Root may all. The viewer speaks for whoever stands at the machine: it may look, and begin an update that this machine itself has verified
/// and offered.
fn admit(uid: Option<u32>, viewer: Option<Viewer>, method: &str, path: &str) -> Result<(), Answer> {
    let viewer = viewer.map(|viewer| viewer.uid);
    let is_harmless = method == "GET" || (method == "POST" && path.starts_with(STICK));
    match uid {
        Some(0) => Ok(()),
        Some(uid) if Some(uid) == viewer && is_harmless => Ok(()),
        Some(uid) if Some(uid) == viewer => Err(Answer::refusal(
            403,
            "this user may look and change nothing else",
            "Nothing was changed.",
            "Use an administrator's access.",
        )),
        Some(_) | None => Err(Answer::refusal(
            403,
            "only root may use the control socket",
            "Nothing was changed.",
            "Use an administrator's access.",
        )),
    }
}

fn refusal(status: u16, error: &str, data: &str, next: &str) -> Response {
    respond(Answer::refusal(status, error, data, next))
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(answer.body)).into_response()
}

/// How long the disk may take to keep a wish.
const KEEP_LIMIT: Duration = Duration::from_secs(10);

/// Kept first, so that what is told to be so is so after a reboot too.
async fn set_maintenance(api: Api, wish: Option<Maintenance>) -> Response {
    let wish = wish.map(|wish| Maintenance {
        since: wall_now(),
        ..wish
    });
    if let Some(record) = api.places.maintenance.clone() {
        let kept = wish.clone();
        let keeping =
            tokio::task::spawn_blocking(move || maintenance::keep(&record, kept.as_ref()));
        let error = match tokio::time::timeout(KEEP_LIMIT, keeping).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the disk does not answer".to_owned()),
        };
        if let Some(error) = error {
            return refusal(
                500,
                &format!("the wish could not be kept on /data: {error}"),
                "Nothing was changed.",
                "See atalaya status, and ask again when the disk has room and answers.",
            );
        }
    }
    ask(api, Request::SetMaintenance(wish)).await
}

async fn ask(api: Api, request: Request) -> Response {
    respond(send(&api, request).await)
}

/// The owner's answer.
async fn send(api: &Api, request: Request) -> Answer {
    let (reply, answer) = oneshot::channel();
    let sent = api.owner.send(Message::Request { request, reply });
    match (sent, answer.await) {
        (Ok(()), Ok(answer)) => answer,
        (Err(_), _) | (_, Err(_)) => Answer::refusal(
            503,
            "the supervisor is ending",
            "The services run on.",
            "Try again in a few seconds.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_all_the_viewer_may_look_and_take_a_stick_and_nobody_else_may_anything() {
        let viewer = Some(Viewer { uid: 207, gid: 207 });
        let stick = "/v1/update/stick/0.2.0";
        for (uid, method, path, status) in [
            (Some(0), "GET", "/v1/status", None),
            (Some(0), "POST", "/v1/update", None),
            (Some(207), "GET", "/v1/status", None),
            (Some(207), "POST", stick, None),
            (Some(207), "DELETE", stick, Some(403)),
            (Some(207), "POST", "/v1/update", Some(403)),
            (Some(207), "POST", "/v1/update/rollback", Some(403)),
            (Some(207), "POST", "/v1/poweroff", Some(403)),
            (Some(207), "HEAD", "/v1/status", Some(403)),
            (Some(206), "GET", "/v1/status", Some(403)),
            (Some(206), "POST", stick, Some(403)),
            (None, "GET", "/v1/status", Some(403)),
        ] {
            let refused = admit(uid, viewer, method, path).err();
            assert_eq!(
                refused.map(|answer| answer.status),
                status,
                "{uid:?} {method} {path}"
            );
        }
        assert!(admit(Some(207), None, "GET", "/v1/status").is_err());
    }
}

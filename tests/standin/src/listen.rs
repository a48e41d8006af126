//! Listening: plain HTTP/1.1 on TCP and, in local mode, on a socket that only its own user can open.
//!
//! When told to stop, a connection finishes the request it is in; who takes too long is cut off.

use crate::api::Peer;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long open requests may take to finish after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(5);
/// After a failed accept (out of descriptors), until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// `:8065` means all addresses, IPv6 and IPv4.
pub fn address(text: &str) -> String {
    match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    }
}

/// Replaces a socket that an earlier life left behind; only this user may open the new one.
pub fn bind_local(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// What the open connections share: the routes, the word to stop, and a mark that is gone when they all are.
#[derive(Clone)]
struct Shared {
    routes: Router,
    stopped: watch::Receiver<bool>,
    _open: mpsc::Sender<()>,
}

pub async fn accept_tcp(listener: TcpListener, routes: Router, mut stopped: watch::Receiver<bool>) {
    let (open, all_closed) = mpsc::channel(1);
    let shared = Shared {
        routes,
        stopped: stopped.clone(),
        _open: open,
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    stream.set_nodelay(true).ok();
                    let peer = Peer(peer.ip().to_canonical());
                    tokio::spawn(serve(stream, Some(peer), shared.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    drain(shared, all_closed).await;
}

pub async fn accept_local(
    listener: UnixListener,
    routes: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let (open, all_closed) = mpsc::channel(1);
    let shared = Shared {
        routes,
        stopped: stopped.clone(),
        _open: open,
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { tokio::spawn(serve(stream, None, shared.clone())); }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    drain(shared, all_closed).await;
}

async fn drain(shared: Shared, mut all_closed: mpsc::Receiver<()>) {
    drop(shared);
    timeout(DRAIN, all_closed.recv()).await.ok();
}

async fn serve<S>(stream: S, peer: Option<Peer>, mut shared: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(shared.routes.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        routes.call(request)
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    // A client that breaks off is its own affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = shared.stopped.changed() => connection.as_mut().graceful_shutdown(),
    }
    timeout(DRAIN, connection).await.ok();
}

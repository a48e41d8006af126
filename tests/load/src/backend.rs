//! What stands behind the proxy: answers as large as Mattermost's, bodies of any length in both directions, and WebSockets that send back
//! what they get.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A path that is answered like a small call of the API.
pub const SMALL: &str = "/api/v4/users/me";
/// `/big/BYTES` is answered with so many.
pub const BIG: &str = "/big/";
/// Takes a body of any length and answers with its count.
pub const UPLOAD: &str = "/api/v4/files";
pub const WEBSOCKET: &str = "/api/v4/websocket";

/// Bytes of one piece of a large answer.
const PIECE: usize = 64 * 1024;

/// Listens until it is dropped; its connections end with it.
pub struct Backend {
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

impl Backend {
    /// On this address, port 0 for any that is free.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Backend> {
        // Tokio sets SO_REUSEADDR: the port of one that has just ended can be taken again.
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to listen on {address}"))?;
        let address = listener.local_addr()?;
        Ok(Backend {
            address,
            serving: tokio::spawn(serve(listener)),
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it with all its connections, as a killed server does.
    pub async fn end(self) {
        self.serving.abort();
        // Cancelled is what it should be.
        drop(self.serving.await);
    }
}

async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).ok();
            connections.spawn(serve_one(stream));
        }
    }
}

async fn serve_one(stream: TcpStream) {
    // Carried by this task, not by one of its own: it must end when the backend does.
    let (switch, switched) = tokio::sync::oneshot::channel();
    let switch = std::sync::Mutex::new(Some(switch));
    let service = service_fn(|mut request: Request<Incoming>| {
        if request.headers().contains_key(header::UPGRADE)
            && let Ok(mut switch) = switch.lock()
            && let Some(switch) = switch.take()
        {
            // Nobody waits any more: then the connection has ended.
            switch.send(hyper::upgrade::on(&mut request)).ok();
        }
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    connection.await.ok();
    if let Ok(upgrade) = switched.await
        && let Ok(upgraded) = upgrade.await
    {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        tokio::io::copy(&mut read, &mut write).await.ok();
    }
}

async fn answer(request: Request<Incoming>) -> Response<Either<Full<Bytes>, Big>> {
    let path = request.uri().path();
    if request.headers().contains_key(header::UPGRADE) {
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        // RFC 6455's own example: of the key that the clients here send.
        headers.insert(
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_static(crate::client::WEBSOCKET_ACCEPT),
        );
        return response;
    }
    if let Some(bytes) = path.strip_prefix(BIG).and_then(|bytes| bytes.parse().ok()) {
        return Response::new(Either::Right(Big { left: bytes }));
    }
    if path == UPLOAD {
        let mut body = request.into_body();
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        return Response::new(Either::Left(Full::from(bytes.to_string())));
    }
    let mut response = Response::new(Either::Left(Full::from(USER)));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    response
}

/// What Mattermost sends with an answer of its API.
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    (
        "cache-control",
        "no-cache, max-age=31556926, must-revalidate",
    ),
    ("etag", "\"11.7.9.be9f5dkwhpgyxyqxnhz3ka4pse\""),
    ("expires", "0"),
    ("permissions-policy", ""),
    ("referrer-policy", "no-referrer"),
    ("vary", "Origin, Accept-Encoding"),
    ("x-content-type-options", "nosniff"),
    ("x-request-id", "kyk1xghb5tnomqgz1r6hbmdfyr"),
    ("x-version-id", "11.7.9.12345.abcdef0123456789.false"),
];

const USER: &str = r#"{"id":"be9f5dkwhpgyxyqxnhz3ka4pse","create_at":1750000000000,"update_at":1750000000000,"delete_at":0,"username":"someone","auth_data":"","auth_service":"","email":"someone@example.com","email_verified":true,"nickname":"","first_name":"","last_name":"","position":"","roles":"system_user","allow_marketing":true,"notify_props":{"channel":"true","comments":"never","desktop":"mention","desktop_sound":"true","desktop_threads":"all","email":"true","email_threads":"all","first_name":"false","mention_keys":"","push":"mention","push_status":"away","push_threads":"all"},"last_password_update":1750000000000,"locale":"en","timezone":{"automaticTimezone":"Europe/Madrid","manualTimezone":"","useAutomaticTimezone":"true"},"disable_welcome_email":false}"#;

/// So many bytes.
pub struct Big {
    left: u64,
}

impl Big {
    #[must_use]
    pub fn new(bytes: u64) -> Big {
        Big { left: bytes }
    }
}

impl Body for Big {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static BYTES: [u8; PIECE] = [b'x'; PIECE];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BYTES[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

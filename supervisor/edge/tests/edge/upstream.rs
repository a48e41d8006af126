//! The upstream: answers what a test tells it to, and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tungstenite::handshake::derive_accept_key;

type Hook = Box<dyn Fn() + Send>;

/// What the upstream does, changed by tests at any time.
pub struct Behaviour {
    pub login_status: u16,
    /// The body of the last log-in.
    pub login_body: Bytes,
    pub ping_status: u16,
    /// Runs when a log-in has arrived, before it is answered.
    pub on_login: Option<Hook>,
    pub seen: Vec<String>,
}

pub struct Upstream {
    pub address: SocketAddr,
    pub behaviour: Arc<Mutex<Behaviour>>,
    /// Lets one request to /hang go on.
    pub release: Arc<Semaphore>,
    /// One message for each request to /hang that has arrived.
    pub hanging: Mutex<mpsc::UnboundedReceiver<()>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Shared {
    behaviour: Arc<Mutex<Behaviour>>,
    release: Arc<Semaphore>,
    hanging: mpsc::UnboundedSender<()>,
}

impl Upstream {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(Behaviour {
            login_status: 200,
            login_body: Bytes::new(),
            ping_status: 200,
            on_login: None,
            seen: Vec::new(),
        }));
        let release = Arc::new(Semaphore::new(0));
        let (sender, hanging) = mpsc::unbounded_channel();
        let shared = Shared {
            behaviour: Arc::clone(&behaviour),
            release: Arc::clone(&release),
            hanging: sender,
        };
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = shared.clone();
                        async move { Ok::<_, Infallible>(answer(shared, request).await) }
                    });
                    let builder = hyper::server::conn::http1::Builder::new();
                    builder
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await
                        .ok();
                });
            }
        });
        Self {
            address,
            behaviour,
            release,
            hanging: Mutex::new(hanging),
            _runtime: runtime,
        }
    }

    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    /// The requests so far, as "METHOD /path?query".
    pub fn seen(&self) -> Vec<String> {
        self.behaviour.lock().unwrap().seen.clone()
    }

    pub fn wait_hanging(&self) {
        self.hanging.lock().unwrap().blocking_recv().unwrap();
    }
}

async fn answer(
    shared: Shared,
    mut request: Request<Incoming>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let target = request.uri().path_and_query().unwrap().to_string();
    shared
        .behaviour
        .lock()
        .unwrap()
        .seen
        .push(format!("{} {target}", request.method()));
    let path = request.uri().path().to_owned();
    match (request.method().clone(), path.as_str()) {
        (Method::POST, "/api/v4/users/login") => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut behaviour = shared.behaviour.lock().unwrap();
            behaviour.login_body = body;
            if let Some(hook) = &behaviour.on_login {
                hook();
            }
            json_answer(
                behaviour.login_status,
                &json!({ "id": "from.mattermost", "status_code": behaviour.login_status }),
            )
        }
        (Method::GET, "/api/v4/system/ping") => json_answer(
            shared.behaviour.lock().unwrap().ping_status,
            &json!({ "status": "?" }),
        ),
        (_, "/headers") => {
            let headers: Vec<(String, String)> = request
                .headers()
                .iter()
                .map(|(name, value)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                })
                .collect();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            json_answer(
                200,
                &json!({ "headers": headers, "target": target, "body": String::from_utf8_lossy(&body) }),
            )
        }
        (Method::POST, "/count" | "/count-slowly") => {
            let mut total = 0_u64;
            while let Some(Ok(frame)) = request.body_mut().frame().await {
                total += frame.data_ref().map_or(0, |data| data.len() as u64);
                if path == "/count-slowly" {
                    // A server that is slower than its client, not a wait for anything.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            json_answer(200, &json!({ "total": total }))
        }
        (Method::GET, "/blob") => {
            let mut response = Response::new(Zeros::new(100 * 1024 * 1024).boxed());
            response
                .headers_mut()
                .insert("server", "secret/1.0".parse().unwrap());
            response
        }
        (Method::GET, "/hang") => {
            shared.hanging.send(()).ok();
            shared.release.acquire().await.unwrap().forget();
            json_answer(200, &json!({ "late": true }))
        }
        (Method::GET, "/page") => {
            let mut response = Response::new(Full::from("<p>page</p>").boxed());
            for (name, value) in [
                ("content-type", "text/html"),
                ("permissions-policy", ""),
                ("referrer-policy", "no-referrer"),
                (
                    "content-security-policy",
                    "frame-ancestors 'self' ; script-src 'self'",
                ),
                ("x-powered-by", "secret"),
                ("x-request-id", "from-mattermost"),
            ] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        (Method::GET, "/api/v4/websocket" | "/wrong-accept") => {
            let mut key = request.headers()["sec-websocket-key"].as_bytes().to_owned();
            if path == "/wrong-accept" {
                key.reverse();
            }
            let upgraded = hyper::upgrade::on(request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgraded.await {
                    echo_frames(TokioIo::new(upgraded)).await;
                }
            });
            let mut response = Response::new(Full::default().boxed());
            *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
            for (name, value) in [
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-accept", &derive_accept_key(&key)),
            ] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        _ => json_answer(404, &json!({ "status_code": 404 })),
    }
}

/// Sends each small frame of a client back without its mask (RFC 6455 section 5.2).
async fn echo_frames(mut socket: TokioIo<hyper::upgrade::Upgraded>) {
    loop {
        let mut head = [0_u8; 6];
        if socket.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = usize::from(head[1] & 0x7f);
        assert!(length < 126, "tests send short frames");
        let mut payload = vec![0; length];
        if socket.read_exact(&mut payload).await.is_err() {
            return;
        }
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= head[2 + index % 4];
        }
        let mut frame = vec![head[0], head[1] & 0x7f];
        frame.extend(payload);
        if socket.write_all(&frame).await.is_err() {
            return;
        }
    }
}

fn json_answer(status: u16, body: &Value) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::from(body.to_string()).boxed());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

/// A body of so many zeros, 64 KiB at a time.
pub struct Zeros(u64);

impl Zeros {
    pub fn new(length: u64) -> Self {
        Self(length)
    }
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static CHUNK: [u8; 65536] = [0; 65536];
        let length = self.0.min(CHUNK.len() as u64);
        self.0 -= length;
        Poll::Ready((length > 0).then(|| {
            Ok(Frame::data(Bytes::from_static(
                &CHUNK[..usize::try_from(length).unwrap()],
            )))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

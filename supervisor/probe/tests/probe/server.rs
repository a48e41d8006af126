//! A server that answers the probe's calls, can fail at each, and accepts only the site's own names.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Multipart, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub const SITE: &str = "https://chat.example.org:8443";
const HOST: &str = "chat.example.org:8443";

pub struct Server {
    pub address: SocketAddr,
    pub ca_pem: String,
    pub state: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

pub struct Shared {
    /// The step at which the server misbehaves, or what its configuration says "no" to, or "".
    fault: &'static str,
    pub posts: Mutex<HashMap<String, Value>>,
    pub sessions: Mutex<i32>,
    files: Mutex<Vec<Bytes>>,
    events: broadcast::Sender<String>,
}

impl Server {
    pub fn start(fault: &'static str) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["chat.example.org".to_owned()])
            .unwrap()
            .signed_by(&leaf_key, &Issuer::new(ca, ca_key))
            .unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![leaf.der().clone()],
                    PrivateKeyDer::Pkcs8(leaf_key.serialize_der().into()),
                )
                .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Shared {
            fault,
            posts: Mutex::default(),
            sessions: Mutex::default(),
            files: Mutex::default(),
            events: broadcast::channel(16).0,
        });
        let router = Router::new()
            .route("/api/v4/config/client", get(configuration))
            .route("/api/v4/users/login", post(log_in))
            .route("/api/v4/users/logout", post(log_out))
            .route("/api/v4/teams/name/{name}", get(team))
            .route("/api/v4/teams/{id}/channels/name/{name}", get(channel))
            .route("/api/v4/teams/{id}/posts/search", post(search))
            .route(
                "/api/v4/files",
                post(upload).layer(DefaultBodyLimit::disable()),
            )
            .route("/api/v4/files/{id}", get(download))
            .route("/api/v4/posts", post(create_post))
            .route("/api/v4/websocket", get(websocket))
            .with_state(Arc::clone(&state));
        let acceptor = Listener(listener, TlsAcceptor::from(Arc::new(config)));
        runtime.spawn(async move { axum::serve(acceptor, router).await.unwrap() });
        Self {
            address,
            ca_pem,
            state,
            _runtime: runtime,
        }
    }
}

struct Listener(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, peer) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

type App = State<Arc<Shared>>;

type Refused = (StatusCode, String);

fn refused(status: u16) -> Refused {
    let body = json!({ "id": "x", "message": format!("refused with {status}"), "detailed_error": "", "status_code": status });
    (StatusCode::from_u16(status).unwrap(), body.to_string())
}

/// Every call of the bot must come with its token and for the site's own host.
fn check(state: &Shared, headers: &HeaderMap, step: &str) -> Result<(), Refused> {
    if headers["host"] != HOST
        || headers
            .get("authorization")
            .is_none_or(|token| token != "Bearer bot-token")
    {
        return Err(refused(401));
    }
    if !step.is_empty() && state.fault == step {
        Err(refused(500))
    } else {
        Ok(())
    }
}

/// Without a session, as for a page that asks somebody to log in.
async fn configuration(State(state): App) -> Json<Value> {
    let is = |key: &str| if state.fault == key { "false" } else { "true" };
    let keys = ["EnableSignInWithUsername", "EnableFileAttachments"];
    Json(
        keys.iter()
            .map(|key| ((*key).to_owned(), Value::from(is(key))))
            .collect(),
    )
}

async fn log_in(State(state): App, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    if body["login_id"] != "probe-user" || body["password"] != "secret" {
        return refused(401).into_response();
    }
    *state.sessions.lock().unwrap() += 1;
    (
        [("token", "session")],
        json!({ "id": "u", "username": "probe-user" }).to_string(),
    )
        .into_response()
}

async fn log_out(State(state): App, headers: HeaderMap) -> Response {
    if state.fault == "log-out" || headers["authorization"] != "Bearer session" {
        return refused(500).into_response();
    }
    *state.sessions.lock().unwrap() -= 1;
    json!({ "status": "OK" }).to_string().into_response()
}

async fn team(
    State(state): App,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<String, Refused> {
    check(&state, &headers, "team")?;
    if name == "main" {
        Ok(json!({ "id": "t", "name": "main", "display_name": "Main" }).to_string())
    } else {
        Err(refused(404))
    }
}

async fn channel(
    State(state): App,
    headers: HeaderMap,
    Path((team, name)): Path<(String, String)>,
) -> Result<String, Refused> {
    check(&state, &headers, "channel")?;
    assert_eq!((team.as_str(), name.as_str()), ("t", "probe"));
    Ok(json!({ "id": "c", "team_id": "t", "name": "probe", "type": "P" }).to_string())
}

async fn upload(
    State(state): App,
    headers: HeaderMap,
    mut parts: Multipart,
) -> Result<(StatusCode, String), Refused> {
    check(&state, &headers, "upload")?;
    let channel = parts.next_field().await.unwrap().unwrap();
    assert_eq!(channel.name(), Some("channel_id"));
    assert_eq!(channel.text().await.unwrap(), "c");
    let file = parts.next_field().await.unwrap().unwrap();
    let name = file.file_name().unwrap().to_owned();
    let bytes = file.bytes().await.unwrap();
    let info = json!({ "id": "f0", "name": name, "size": bytes.len() });
    state.files.lock().unwrap().push(bytes);
    Ok((
        StatusCode::CREATED,
        json!({ "file_infos": [info], "client_ids": [] }).to_string(),
    ))
}

async fn download(
    State(state): App,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Bytes, Refused> {
    check(&state, &headers, "")?;
    assert_eq!(id, "f0");
    let bytes = state.files.lock().unwrap()[0].clone();
    Ok(if state.fault == "download" {
        bytes.slice(1..)
    } else {
        bytes
    })
}

async fn create_post(
    State(state): App,
    headers: HeaderMap,
    body: String,
) -> Result<(StatusCode, String), Refused> {
    check(&state, &headers, "post")?;
    let mut post: Value = serde_json::from_str(&body).unwrap();
    post["id"] = json!("p1");
    post["user_id"] = json!("bot");
    state
        .posts
        .lock()
        .unwrap()
        .insert("p1".to_owned(), post.clone());
    let event = json!({ "event": "posted", "data": { "post": post.to_string() }, "seq": 1 });
    if state.fault != "receive" {
        // Nobody listens where the WebSocket is the fault.
        state.events.send(event.to_string()).ok();
    }
    Ok((StatusCode::CREATED, post.to_string()))
}

async fn search(State(state): App, headers: HeaderMap, body: String) -> Result<String, Refused> {
    check(&state, &headers, "")?;
    let terms = serde_json::from_str::<Value>(&body).unwrap()["terms"]
        .as_str()
        .unwrap()
        .to_owned();
    let posts = state.posts.lock().unwrap();
    let found: HashMap<&String, &Value> = posts
        .iter()
        .filter(|(_, post)| {
            state.fault != "search" && post["message"].as_str().unwrap().contains(&terms)
        })
        .collect();
    Ok(json!({ "order": found.keys().collect::<Vec<_>>(), "posts": found }).to_string())
}

async fn websocket(State(state): App, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    if state.fault == "websocket" || headers["origin"] != SITE || headers["host"] != HOST {
        return refused(403).into_response();
    }
    upgrade.on_upgrade(move |socket| serve_socket(state, socket))
}

async fn serve_socket(state: Arc<Shared>, mut socket: WebSocket) {
    let Some(Ok(Message::Text(text))) = socket.recv().await else {
        return;
    };
    let challenge: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(challenge["data"]["token"], "bot-token");
    let mut events = state.events.subscribe();
    for line in [
        r#"{"status":"OK","seq_reply":1}"#,
        r#"{"event":"hello","data":{},"seq":0}"#,
        r#"{"event":"status_change","data":{}}"#,
    ] {
        if socket.send(Message::text(line)).await.is_err() {
            return;
        }
    }
    while let Ok(event) = events.recv().await {
        if socket.send(Message::text(event)).await.is_err() {
            return;
        }
    }
}

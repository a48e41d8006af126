//! The WebSocket: authentication, `hello`, events in order, and the `ping` action.
//!
//! A client is known by its session's cookie or header when it connects, or by an `authentication_challenge` soon
//! after. Replies carry `seq_reply`, events a `seq` that counts from 0 per connection.

use super::caller::{Caller, presented};
use super::error::ApiError;
use super::{App, caller};
use crate::hub::{Audience, Event};
use axum::extract::FromRequestParts;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, interval_at, timeout};

/// How long a connection may stay unknown.
const CHALLENGE_LIMIT: Duration = Duration::from_secs(15);
/// The server's own pings, and how long silence is borne (the real server's figures).
const PING_EVERY: Duration = Duration::from_secs(60);
const SILENCE_LIMIT: Duration = Duration::from_secs(100);

pub async fn connect(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    if !origin_allowed(&app, &parts.headers) {
        return ApiError::new(
            StatusCode::FORBIDDEN,
            "api.web_socket.connect.check_origin.app_error",
            "Origin is not the site's address.",
        )
        .into_response();
    }
    let known = match presented(&parts.headers).0 {
        Some(_) => Caller::from_request_parts(&mut parts, &app).await.ok(),
        None => None,
    };
    match WebSocketUpgrade::from_request_parts(&mut parts, &app).await {
        Ok(upgrade) => upgrade
            .max_message_size(64 * 1024)
            .on_upgrade(move |socket| serve(app, socket, known)),
        Err(_) => ApiError::new(
            StatusCode::BAD_REQUEST,
            "api.web_socket.connect.upgrade.app_error",
            "URL Blocked because of CORS. Url: or the upgrade of the connection failed.",
        )
        .into_response(),
    }
}

/// A browser's page must come from the site's own address; programs send no Origin.
fn origin_allowed(app: &App, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN).and_then(|v| v.to_str().ok()) else {
        return true;
    };
    let config = app.config();
    let site = config.text("ServiceSettings", "SiteURL");
    if site.is_empty() {
        let host = headers
            .get(HOST)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        return origin.split_once("://").is_some_and(|(_, o)| o == host);
    }
    let mut parts = site.splitn(4, '/');
    let scheme = parts.next().unwrap_or_default();
    let host = parts.nth(1).unwrap_or_default();
    origin.eq_ignore_ascii_case(&format!("{scheme}//{host}"))
}

async fn caller_of_token(app: &Arc<App>, token: &str) -> Option<Caller> {
    let (mut parts, ()): (Parts, ()) = axum::http::Request::new(()).into_parts();
    let header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    parts.headers.insert(AUTHORIZATION, header);
    caller::Caller::from_request_parts(&mut parts, app)
        .await
        .ok()
}

struct Connection {
    app: Arc<App>,
    socket: WebSocket,
    id: String,
    seq: i64,
}

async fn serve(app: Arc<App>, socket: WebSocket, known: Option<Caller>) {
    let mut connection = Connection {
        app: app.clone(),
        socket,
        id: crate::ids::new_id(),
        seq: 0,
    };
    let (user, challenge) = match known {
        Some(caller) => (caller.user_id, None),
        None => match timeout(CHALLENGE_LIMIT, connection.challenge()).await {
            Ok(Some((user, seq))) => (user, Some(seq)),
            _ => return,
        },
    };
    let events = app.hub.join(&connection.id, &user);
    connection.run(&user, challenge, events).await;
    app.hub.leave(&connection.id);
}

impl Connection {
    /// Waits for a right `authentication_challenge`; its user and sequence number.
    async fn challenge(&mut self) -> Option<(String, i64)> {
        loop {
            let Message::Text(text) = self.socket.recv().await?.ok()? else {
                continue;
            };
            let request: Value = serde_json::from_str(&text).ok()?;
            let seq = request["seq"].as_i64().unwrap_or(0);
            if request["action"] != "authentication_challenge" {
                continue;
            }
            let token = request["data"]["token"].as_str()?;
            match caller_of_token(&self.app, token).await {
                Some(caller) => return Some((caller.user_id, seq)),
                None => return None,
            }
        }
    }

    async fn send(&mut self, value: &str) -> Option<()> {
        self.socket.send(Message::Text(value.into())).await.ok()
    }

    async fn send_event(&mut self, event: &Event) -> Option<()> {
        let text = format!(
            "{{\"event\": {}, \"data\": {}, \"broadcast\": {}, \"seq\": {}}}",
            Value::from(event.name.as_str()),
            event.data,
            event.broadcast,
            self.seq
        );
        self.seq += 1;
        self.send(&text).await
    }

    async fn greet(&mut self, user: &str, challenge: Option<i64>) -> Option<()> {
        let hello = Event::new(
            "hello",
            json!({
                "connection_id": self.id,
                "server_hostname": nix::unistd::gethostname()
                    .ok()
                    .and_then(|h| h.into_string().ok())
                    .unwrap_or_default(),
                "server_version": self.app.version_id(),
            }),
            &Audience::User(user),
        );
        self.send_event(&hello).await?;
        if let Some(seq) = challenge {
            self.send(&json!({"status": "OK", "seq_reply": seq}).to_string())
                .await?;
        }
        let online = Event::new(
            "status_change",
            json!({"status": "online", "user_id": user}),
            &Audience::User(user),
        );
        self.send_event(&online).await
    }

    async fn run(&mut self, user: &str, challenge: Option<i64>, mut events: Receiver<Event>) {
        if self.greet(user, challenge).await.is_none() {
            return;
        }
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        let mut heard = Instant::now();
        loop {
            let went_well = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.send_event(&event).await,
                    None => None,
                },
                message = self.socket.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.answer(&text).await,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => None,
                        Some(Ok(_)) => Some(()),
                    }
                }
                _ = pings.tick() => {
                    if heard.elapsed() > SILENCE_LIMIT {
                        None
                    } else {
                        self.socket.send(Message::Ping(Vec::new().into())).await.ok()
                    }
                }
            };
            if went_well.is_none() {
                self.socket.send(Message::Close(None)).await.ok();
                return;
            }
        }
    }

    async fn answer(&mut self, text: &str) -> Option<()> {
        let request: Value = serde_json::from_str(text).ok()?;
        let seq = request["seq"].as_i64().unwrap_or(0);
        let reply = match request["action"].as_str() {
            Some("ping") => json!({
                "status": "OK", "seq_reply": seq,
                "data": {"node_id": "", "server_time": crate::ids::now_ms(), "text": "pong",
                         "version": self.app.identity.version},
            }),
            Some("authentication_challenge" | "user_typing" | "user_update_active_status") => {
                json!({"status": "OK", "seq_reply": seq})
            }
            _ => json!({
                "status": "FAIL", "seq_reply": seq,
                "error": {"id": "api.web_socket_router.bad_action.app_error", "message": "Unknown WebSocket action.",
                          "detailed_error": "", "status_code": 500},
            }),
        };
        self.send(&reply.to_string()).await
    }
}

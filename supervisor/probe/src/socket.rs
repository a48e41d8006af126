//! A WebSocket as the web client opens it: Origin of the site, the token by a challenge, events as JSON.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{HandshakeError, Message, WebSocket};

use crate::connection::{Connection, TlsStream};
use crate::error::ClientError;
use crate::model::Post;

/// An open, accepted WebSocket.
pub struct Socket {
    socket: WebSocket<TlsStream>,
    timeout: Duration,
}

impl Socket {
    pub(crate) fn open(connection: &Connection, token: &str) -> Result<Self, ClientError> {
        let failed = |source| ClientError::WebSocket {
            action: "open a WebSocket",
            source: Box::new(source),
        };
        let url = format!("wss://{}/api/v4/websocket", connection.authority);
        let mut request = url.into_client_request().map_err(failed)?;
        let origin =
            HeaderValue::from_str(&connection.origin).map_err(|error| failed(error.into()))?;
        // Mattermost refuses a WebSocket whose Origin is not the site's.
        request.headers_mut().insert("origin", origin);
        let (socket, _) =
            tungstenite::client(request, connection.open()?).map_err(|error| match error {
                HandshakeError::Failure(error) => failed(error),
                // The stream blocks, so an interruption is its time limit.
                HandshakeError::Interrupted(_) => ClientError::TooLate {
                    action: "open a WebSocket",
                    limit: connection.timeout,
                },
            })?;
        let mut open = Self {
            socket,
            timeout: connection.timeout,
        };
        let challenge =
            json!({ "seq": 1, "action": "authentication_challenge", "data": { "token": token } });
        open.socket
            .send(Message::text(challenge.to_string()))
            .map_err(|source| ClientError::WebSocket {
                action: "log in on the WebSocket",
                source: Box::new(source),
            })?;
        open.wait_for("log in on the WebSocket", |event| event["event"] == "hello")?;
        Ok(open)
    }

    /// Waits until the server announces this post.
    pub fn wait_for_post(&mut self, id: &str) -> Result<Post, ClientError> {
        let mut found = None;
        self.wait_for("receive the post by WebSocket", |event| {
            // The post is JSON in a string inside the event's JSON.
            let post = event["data"]["post"]
                .as_str()
                .and_then(|post| serde_json::from_str::<Post>(post).ok());
            found = post.filter(|post| event["event"] == "posted" && post.id == id);
            found.is_some()
        })?;
        found.ok_or(ClientError::TooLate {
            action: "receive the post by WebSocket",
            limit: self.timeout,
        })
    }

    /// Reads events until one is wanted, or the time limit is over.
    pub fn wait_for(
        &mut self,
        action: &'static str,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Value, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let too_late = ClientError::TooLate {
            action,
            limit: self.timeout,
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(too_late);
            }
            self.socket
                .get_ref()
                .sock
                .set_read_timeout(Some(left))
                .map_err(|source| ClientError::Connect { action, source })?;
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    if let Ok(event) = serde_json::from_str::<Value>(&text)
                        && wanted(&event)
                    {
                        return Ok(event);
                    }
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(too_late);
                }
                Err(source) => {
                    return Err(ClientError::WebSocket {
                        action,
                        source: Box::new(source),
                    });
                }
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The server notices a closed connection as well; this only spares it the wait.
        self.socket.close(None).ok();
        self.socket.flush().ok();
    }
}

//! A WebSocket as the web client opens it: Origin of the site, events and replies as JSON.

use crate::client::{Client, ClientError, Stream};
use serde_json::{Value, json};
use std::time::Instant;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::Role;
use tungstenite::{HandshakeError, Message, WebSocket};

pub struct Socket {
    socket: WebSocket<Box<dyn Stream>>,
    timeout: std::time::Duration,
}

fn broke(error: tungstenite::Error) -> ClientError {
    ClientError::Socket(Box::new(error))
}

impl Socket {
    /// Opens without saying who: with the client's token in a header if `by_header`.
    pub fn open(client: &Client, by_header: bool) -> Result<Self, ClientError> {
        let bearer = client.token.as_ref().filter(|_| by_header);
        let bearer = bearer.map(|token| format!("Bearer {token}"));
        if let Some(http2) = client.http2() {
            let mut headers = vec![("origin", client.origin.as_str())];
            headers.extend(bearer.as_deref().map(|value| ("authorization", value)));
            // Not the origin's: that may be another site's page.
            let uri = client.socket_url().replacen("wss", "https", 1);
            let stream = http2
                .open_socket(&uri, &headers)
                .map_err(ClientError::Socket2)?;
            return Ok(Self {
                socket: WebSocket::from_raw_socket(Box::new(stream), Role::Client, None),
                timeout: client.timeout,
            });
        }
        let mut request = client.socket_url().into_client_request().map_err(broke)?;
        let header = |text: &str| HeaderValue::from_str(text).map_err(|e| broke(e.into()));
        request
            .headers_mut()
            .insert("origin", header(&client.origin)?);
        if let Some(bearer) = &bearer {
            request
                .headers_mut()
                .insert("authorization", header(bearer)?);
        }
        let (socket, _) =
            tungstenite::client(request, client.open()?).map_err(|error| match error {
                HandshakeError::Failure(error) => broke(error),
                // The stream blocks, so an interruption is its time limit.
                HandshakeError::Interrupted(_) => ClientError::TooLate(client.timeout),
            })?;
        Ok(Self {
            socket,
            timeout: client.timeout,
        })
    }

    pub fn send(&mut self, value: &Value) -> Result<(), ClientError> {
        self.socket
            .send(Message::text(value.to_string()))
            .map_err(broke)
    }

    pub fn challenge(&mut self, token: &str) -> Result<(), ClientError> {
        self.send(
            &json!({"seq": 1, "action": "authentication_challenge", "data": {"token": token}}),
        )
    }

    /// Reads until something wanted comes; what else came is passed over.
    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, ClientError> {
        let start = Instant::now();
        while start.elapsed() < self.timeout {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let value: Value = serde_json::from_str(&text).unwrap_or_default();
                    if wanted(&value) {
                        return Ok(value);
                    }
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(e))
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    break;
                }
                Err(error) => return Err(broke(error)),
            }
        }
        Err(ClientError::TooLate(self.timeout))
    }

    pub fn close(mut self) {
        self.socket.close(None).ok();
        self.socket.flush().ok();
    }
}

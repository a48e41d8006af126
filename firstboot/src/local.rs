//! Mattermost's local mode: API v4 over a Unix socket, as its own user, without a token.
//!
//! One call, one connection. Says what was asked and what came back, never with what body: a request may hold a password
//! and an answer a token.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// An answer takes at most this long; creating a user hashes a password, which takes a second on a slow machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes. The answers asked for here have some kilobytes.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct Local {
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("failed to connect to Mattermost's local socket {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("Mattermost gave no answer to {call}")]
    Talk {
        call: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("Mattermost gave no answer to {call} within {} s", LIMIT.as_secs())]
    Slow { call: String },
    #[error("Mattermost refused {call} with status {status}: {message}")]
    Refused {
        call: String,
        status: u16,
        message: String,
    },
    #[error("Mattermost's answer to {call} has no {missing:?}")]
    Shape { call: String, missing: &'static str },
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    call: String,
    status: u16,
    body: Value,
}

impl Local {
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for something that may not be there.
    ///
    /// # Errors
    /// Anything but success and "not found".
    pub async fn find(&self, path: &str) -> Result<Option<Answer>, LocalError> {
        let answer = self.call(Method::GET, path, None).await?;
        if answer.status == 404 {
            Ok(None)
        } else {
            answer.succeeded().map(Some)
        }
    }

    /// # Errors
    /// Anything but success.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, LocalError> {
        self.call(Method::POST, path, Some(body)).await?.succeeded()
    }

    /// # Errors
    /// Anything but success.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer, LocalError> {
        self.call(Method::PUT, path, Some(body)).await?.succeeded()
    }

    /// # Errors
    /// Anything but success.
    pub async fn get(&self, path: &str) -> Result<Answer, LocalError> {
        self.call(Method::GET, path, None).await?.succeeded()
    }

    /// # Errors
    /// Anything but success and "not found": what is gone is gone.
    pub async fn delete(&self, path: &str) -> Result<(), LocalError> {
        let answer = self.call(Method::DELETE, path, None).await?;
        if answer.status == 404 {
            Ok(())
        } else {
            answer.succeeded().map(drop)
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, LocalError> {
        let call = format!("{method} {path}");
        match tokio::time::timeout(LIMIT, self.talk(method, path, body, &call)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(LocalError::Slow { call }),
        }
    }

    async fn talk(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        call: &str,
    ) -> Result<Answer, LocalError> {
        let talk = |source: Box<dyn std::error::Error + Send + Sync>| LocalError::Talk {
            call: call.to_owned(),
            source,
        };
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| LocalError::Connect {
                    path: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| talk(e.into()))?;
        let connection = tokio::spawn(connection);
        let bytes = match body {
            Some(body) => Bytes::from(serde_json::to_vec(body).map_err(|e| talk(e.into()))?),
            None => Bytes::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v4{path}"))
            .header("Host", "localhost")
            .header("Content-Type", "application/json")
            .body(Full::new(bytes))
            .map_err(|e| talk(e.into()))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| talk(e.into()))?;
        let status = response.status().as_u16();
        let bytes = Limited::new(response.into_body(), LARGEST_ANSWER)
            .collect()
            .await
            .map_err(talk)?
            .to_bytes();
        connection.abort();
        // Whoever reads a field of what is not JSON gets LocalError::Shape.
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer {
            call: call.to_owned(),
            status,
            body,
        })
    }
}

impl Answer {
    fn succeeded(self) -> Result<Self, LocalError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        // Mattermost's own error shape; its message repeats no value of the request.
        let message = self.body["message"]
            .as_str()
            .unwrap_or("no reason given")
            .chars()
            .take(300)
            .collect();
        Err(LocalError::Refused {
            call: self.call,
            status: self.status,
            message,
        })
    }

    /// A string of the answer.
    ///
    /// # Errors
    /// It has none of that name.
    pub fn text(&self, name: &'static str) -> Result<&str, LocalError> {
        self.body[name].as_str().ok_or_else(|| LocalError::Shape {
            call: self.call.clone(),
            missing: name,
        })
    }

    /// A flag of the answer; absent is false, as Mattermost leaves false ones out.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.body[name].as_bool().unwrap_or(false)
    }

    /// The values of a table of the answer; none if there is none.
    #[must_use]
    pub fn entries(&self, name: &str) -> Vec<&Value> {
        let table = self.body[name].as_object();
        table.map_or_else(Vec::new, |table| table.values().collect())
    }

    /// The answer as a list; empty if it is none.
    #[must_use]
    pub fn list(&self) -> &[Value] {
        self.body.as_array().map_or(&[], Vec::as_slice)
    }
}

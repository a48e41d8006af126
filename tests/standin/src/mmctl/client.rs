//! One request at a time over the local-mode socket.

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::PathBuf;
use tokio::net::UnixStream;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "socket file {path} doesn't exist or cannot be used, please check the server configuration for local mode"
    )]
    Connect {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the server broke off the conversation")]
    Conversation(#[source] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[source] hyper::http::Error),
    #[error("the server's answer is no JSON")]
    Answer(#[source] serde_json::Error),
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
}

pub struct Client {
    path: PathBuf,
}

/// An answer with the version that its header gave.
pub struct Answer {
    pub body: Value,
    pub text: String,
    pub version: String,
}

impl Client {
    /// By `MMCTL_LOCAL_SOCKET_PATH`, else the documented default.
    pub fn new() -> Self {
        let path = std::env::var_os("MMCTL_LOCAL_SOCKET_PATH")
            .filter(|p| !p.is_empty())
            .map_or_else(
                || PathBuf::from("/var/tmp/mattermost_local.socket"),
                PathBuf::from,
            );
        Self { path }
    }

    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        Ok(self.call(Method::GET, path, None).await?.body)
    }

    /// `None` for 404.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, ClientError> {
        match self.get(path).await {
            Ok(value) => Ok(Some(value)),
            Err(ClientError::Refused { status, .. })
                if [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&status) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let stream =
            UnixStream::connect(&self.path)
                .await
                .map_err(|source| ClientError::Connect {
                    path: self.path.clone(),
                    source,
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Conversation)?;
        // Ends when the sender is dropped; what goes wrong is reported by the request.
        tokio::spawn(async move {
            connection.await.ok();
        });
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v4{path}"))
            .header(header::HOST, "_")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(bytes)))
            .map_err(ClientError::Request)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(ClientError::Conversation)?;
        let status = response.status();
        let version = response
            .headers()
            .get("x-version-id")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(ClientError::Conversation)?
            .to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body: Value = serde_json::from_slice(&bytes).map_err(ClientError::Answer)?;
        // A server that is unwell answers ping with 500 and the same fields.
        if status.is_success() || body.get("database_status").is_some() {
            return Ok(Answer {
                body,
                text,
                version,
            });
        }
        Err(ClientError::Refused {
            status,
            message: body["message"]
                .as_str()
                .unwrap_or("the server refused without a reason")
                .to_owned(),
        })
    }
}

/// Escapes what may not stand in one part of a path.
pub fn part(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

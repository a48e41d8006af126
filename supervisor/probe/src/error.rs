//! What can go wrong between the client and the server.

use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("site address {site:?} is not valid: {why}")]
    Site { site: String, why: &'static str },
    #[error("the authority's certificate cannot be used: {why}")]
    Authority { why: String },
    #[error("failed to find an address for {host}")]
    Resolve {
        host: String,
        source: std::io::Error,
    },
    #[error("failed to {action}")]
    Transport {
        action: String,
        source: Box<ureq::Error>,
    },
    #[error("failed to {action}: the server answered {status}: {message}")]
    Refused {
        action: String,
        status: u16,
        message: String,
    },
    #[error("failed to {action}: the server's answer was not understood: {why}")]
    Answer { action: String, why: String },
    #[error("failed to {action}")]
    Connect {
        action: &'static str,
        source: std::io::Error,
    },
    #[error("failed to {action}")]
    WebSocket {
        action: &'static str,
        source: Box<tungstenite::Error>,
    },
    #[error("failed to {action}: nothing came within {} s", .limit.as_secs_f32())]
    TooLate {
        action: &'static str,
        limit: Duration,
    },
}

impl ClientError {
    /// The HTTP status with which the server refused, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The error and all its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some libraries repeat their source in their own text.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

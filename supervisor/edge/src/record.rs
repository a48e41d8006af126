//! One request as it is logged and counted, from arrival to the last byte of its answer. The line is written when the record is dropped.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};
use serde::Serialize;

use crate::class::Class;
use crate::connections::Client;
use crate::log::{Log, loggable_path};
use crate::metrics::Metrics;

pub struct Record {
    log: Log,
    metrics: Arc<Metrics>,
    started: Instant,
    pub id: String,
    pub client: IpAddr,
    tls: &'static str,
    method: Method,
    path: String,
    class: Class,
    protocol: &'static str,
    status: u16,
    answered: Option<Duration>,
    /// X-Request-Id of Mattermost's answer.
    upstream_id: Option<HeaderValue>,
    pub bytes_in: Arc<AtomicU64>,
    pub bytes_out: Arc<AtomicU64>,
}

/// The line, in the order of its fields.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_id: Option<&'a str>,
    client: IpAddr,
    method: &'a str,
    path: &'a str,
    class: &'static str,
    protocol: &'static str,
    tls: &'static str,
    status: u16,
    /// To the head of the answer; None: the client was gone before.
    answered_ms: Option<u64>,
    /// To its last byte.
    ms: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Record {
    pub fn new(
        log: Log,
        metrics: Arc<Metrics>,
        id: String,
        client: &Client,
        parts: &Parts,
    ) -> Self {
        let path = parts.uri.path();
        Self {
            log,
            metrics,
            started: Instant::now(),
            id,
            client: client.address,
            tls: client.tls,
            method: parts.method.clone(),
            path: loggable_path(path),
            class: Class::of(path),
            protocol: match parts.version {
                Version::HTTP_2 => "h2",
                Version::HTTP_10 => "http/1.0",
                _ => "http/1.1",
            },
            status: 0,
            answered: None,
            upstream_id: None,
            bytes_in: Arc::default(),
            bytes_out: Arc::default(),
        }
    }

    /// The head of the answer is there. `upstream_id` is its X-Request-Id where it is Mattermost's.
    pub fn answer(&mut self, status: StatusCode, upstream_id: Option<&HeaderValue>) {
        let took = self.started.elapsed();
        self.status = status.as_u16();
        self.answered = Some(took);
        self.upstream_id = upstream_id.cloned();
        self.metrics.answered(self.class, status, took);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let value_of = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        let (bytes_in, bytes_out) = (value_of(&self.bytes_in), value_of(&self.bytes_out));
        self.metrics.carried(bytes_in, bytes_out);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.log.request(&Line {
            event: "request",
            id: &self.id,
            upstream_id: self.upstream_id.as_ref().and_then(|id| id.to_str().ok()),
            client: self.client,
            method: self.method.as_str(),
            path: &self.path,
            class: self.class.name(),
            protocol: self.protocol,
            tls: self.tls,
            status: self.status,
            answered_ms: self.answered.map(ms),
            ms: ms(self.started.elapsed()),
            bytes_in,
            bytes_out,
        });
    }
}

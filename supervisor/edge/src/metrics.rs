//! What is counted, and how it is told to Prometheus. Nothing is decided by it. Counters that requests touch are found by index and cost
//! one atomic addition; what is a state elsewhere (open connections, certificates) is asked for when somebody reads.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::class::Class;

/// Seconds: from what a cached page takes to what a search on a busy database does.
const LATENCY_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    Tls13,
    Tls12,
    /// Not finished: a port scan, or a client that does not trust the certificate.
    Failed,
    TooSlow,
}

const HANDSHAKES: [(&str, &str); 4] = [
    ("TLSv1.3", "ok"),
    ("TLSv1.2", "ok"),
    ("", "failed"),
    ("", "too_slow"),
];

/// Why a connection ended before it was time, after its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// No whole request within the limit for its head, from one that had not asked before.
    TooSlow,
    /// What came was no HTTP.
    Malformed,
    /// The client, or the network, cut it off in the middle.
    CutOff,
}

const BROKEN: [&str; 3] = ["too_slow", "malformed", "cut_off"];

/// Why Mattermost gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamError {
    Unreachable,
    TooLate,
    /// The answer broke off.
    Aborted,
}

const UPSTREAM_ERRORS: [&str; 3] = ["unreachable", "too_late", "aborted"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    class: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByHandshake {
    version: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// What is looked up when somebody reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    pub connections: usize,
    pub admitting: bool,
    /// Seconds since 1970; None: nothing is served yet.
    pub certificate_not_after: Option<i64>,
    pub renewal_failures: u32,
    pub log_lines_lost: u64,
}

pub struct Metrics {
    registry: Registry,
    requests: Vec<[Counter; STATUSES.len()]>,
    durations: Vec<Histogram>,
    handshakes: [Counter; HANDSHAKES.len()],
    broken: [Counter; BROKEN.len()],
    upstream_errors: [Counter; UPSTREAM_ERRORS.len()],
    websockets: Gauge,
    bytes_in: Counter,
    bytes_out: Counter,
    pub connections: Counter,
    pub refused_connections: Counter,
    pub crashes: Counter,
    pub reloads: Counter,
    pub refused_reloads: Counter,
    open: Gauge,
    admitting: Gauge,
    certificate: Gauge<i64, AtomicI64>,
    renewal_failures: Gauge,
    lines_lost: Gauge<i64, AtomicI64>,
}

/// An open WebSocket, counted until it is dropped.
pub struct OpenSocket(Arc<Metrics>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.websockets.dec();
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("atalaya_edge");
        let requests = Family::<ByStatus, Counter>::default();
        let durations =
            Family::<ByClass, Histogram>::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS));
        let handshakes = Family::<ByHandshake, Counter>::default();
        let broken = Family::<ByKind, Counter>::default();
        let upstream_errors = Family::<ByKind, Counter>::default();
        registry.register("requests", "Requests that were answered", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From a request's arrival to the head of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("tls_handshakes", "TLS handshakes", handshakes.clone());
        registry.register(
            "broken_connections",
            "Connections that ended before it was time, after their handshake",
            broken.clone(),
        );
        registry.register(
            "upstream_errors",
            "Requests that Mattermost did not answer, or not to the end",
            upstream_errors.clone(),
        );
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let bytes_in = counter("received_bytes", "Bodies of requests, and WebSockets");
        let bytes_out = counter("sent_bytes", "Bodies of answers, and WebSockets");
        let connections = counter("connections", "Connections that were accepted");
        let refused_connections = counter(
            "refused_connections",
            "Connections that were closed at once, because as many as allowed were open",
        );
        let crashes = counter("crashes", "Tasks that ended by a fault of the edge");
        let reloads = counter("reloads", "Changed settings that were applied");
        let refused_reloads = counter("refused_reloads", "Changed settings that were not valid");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let websockets = gauge("open_websockets", "WebSockets that are open");
        let open = gauge("open_connections", "Connections that are open");
        let admitting = gauge("admitting", "1 while users are let in");
        let renewal_failures = gauge(
            "certificate_renewal_failures",
            "Attempts in a row to renew the certificate that failed",
        );
        let lines_lost = gauge("lost_log_lines", "Log lines that nobody took in time");
        let certificate = gauge(
            "certificate_not_after_timestamp_seconds",
            "When the certificate that is served expires; 0 while there is none",
        );
        Self {
            requests: Class::ALL
                .iter()
                .map(|class| {
                    STATUSES.map(|status| {
                        let class = class.name();
                        requests.get_or_create_owned(&ByStatus { class, status })
                    })
                })
                .collect(),
            durations: Class::ALL
                .iter()
                .map(|class| {
                    durations.get_or_create_owned(&ByClass {
                        class: class.name(),
                    })
                })
                .collect(),
            handshakes: HANDSHAKES.map(|(version, result)| {
                handshakes.get_or_create_owned(&ByHandshake { version, result })
            }),
            broken: BROKEN.map(|kind| broken.get_or_create_owned(&ByKind { kind })),
            upstream_errors: UPSTREAM_ERRORS
                .map(|kind| upstream_errors.get_or_create_owned(&ByKind { kind })),
            registry,
            websockets,
            bytes_in,
            bytes_out,
            connections,
            refused_connections,
            crashes,
            reloads,
            refused_reloads,
            open,
            admitting,
            certificate,
            renewal_failures,
            lines_lost,
        }
    }

    /// A request whose answer has begun after `took`.
    pub fn answered(&self, class: Class, status: StatusCode, took: Duration) {
        let kind = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        if let Some(counter) = self
            .requests
            .get(class as usize)
            .and_then(|by_status| by_status.get(kind))
        {
            counter.inc();
        }
        if let Some(histogram) = self.durations.get(class as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// What a request and its answer carried.
    pub fn carried(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in.inc_by(bytes_in);
        self.bytes_out.inc_by(bytes_out);
    }

    pub fn handshake(&self, how: Handshake) {
        self.handshakes[how as usize].inc();
    }

    pub fn broke(&self, how: Broken) {
        self.broken[how as usize].inc();
    }

    pub fn upstream_failed(&self, error: UpstreamError) {
        self.upstream_errors[error as usize].inc();
    }

    /// For answers that break off on their way.
    pub fn broken_answers(&self) -> Counter {
        self.upstream_errors[UpstreamError::Aborted as usize].clone()
    }

    pub fn socket_opened(self: &Arc<Self>) -> OpenSocket {
        self.websockets.inc();
        OpenSocket(Arc::clone(self))
    }

    /// All of it, in the text format of Prometheus (OpenMetrics 1.0).
    pub fn render(&self, reading: &Reading) -> String {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.open.set(number(reading.connections));
        self.admitting.set(i64::from(reading.admitting));
        self.certificate
            .set(reading.certificate_not_after.unwrap_or(0));
        self.renewal_failures
            .set(i64::from(reading.renewal_failures));
        self.lines_lost
            .set(i64::try_from(reading.log_lines_lost).unwrap_or(i64::MAX));
        let mut out = String::new();
        // Writing into a String cannot fail.
        text::encode(&mut out, &self.registry).ok();
        out
    }
}

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told() {
        let metrics = Arc::new(Metrics::new());
        metrics.answered(Class::Api, StatusCode::NOT_FOUND, Duration::from_millis(3));
        metrics.handshake(Handshake::Tls12);
        metrics.broke(Broken::CutOff);
        metrics.upstream_failed(UpstreamError::TooLate);
        metrics.carried(3, 4);
        let socket = metrics.socket_opened();
        let reading = Reading {
            connections: 5,
            admitting: true,
            certificate_not_after: Some(1_800_000_000),
            renewal_failures: 2,
            log_lines_lost: 0,
        };
        let told = metrics.render(&reading);
        for line in [
            "atalaya_edge_requests_total{class=\"api\",status=\"4xx\"} 1",
            "atalaya_edge_requests_total{class=\"login\",status=\"2xx\"} 0",
            "atalaya_edge_request_duration_seconds_bucket{le=\"0.0025\",class=\"api\"} 0",
            "atalaya_edge_request_duration_seconds_bucket{le=\"0.005\",class=\"api\"} 1",
            "atalaya_edge_tls_handshakes_total{version=\"TLSv1.2\",result=\"ok\"} 1",
            "atalaya_edge_broken_connections_total{kind=\"cut_off\"} 1",
            "atalaya_edge_upstream_errors_total{kind=\"too_late\"} 1",
            "atalaya_edge_received_bytes_total 3",
            "atalaya_edge_open_websockets 1",
            "atalaya_edge_open_connections 5",
            "atalaya_edge_admitting 1",
            "atalaya_edge_certificate_not_after_timestamp_seconds 1800000000",
            "atalaya_edge_certificate_renewal_failures 2",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
        assert!(told.ends_with("# EOF\n"));
        drop(socket);
        assert!(
            metrics
                .render(&reading)
                .contains("atalaya_edge_open_websockets 0")
        );
    }
}

//! One request's way: admitted or not, forwarded, answered. Every outcome is one line in the log. Rules are `forward`'s and `admission`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Either, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;
use tokio::sync::watch;

use crate::admission::{Admission, RefusedLogin, assess_refused_login};
use crate::body::{Answer, Passing};
use crate::connections::{Client, Door};
use crate::drain::Drain;
use crate::forward::{self, Refusal};
use crate::log::Log;
use crate::metrics::{Metrics, UpstreamError};
use crate::page;
use crate::record::Record;
use crate::reload::Current;
use crate::settings::Settings;
use crate::watch::{boot_ms, read_state};

/// How long an idle connection to Mattermost is kept: below its own IdleTimeout (60 s as shipped), so that no request meets a closing one.
const POOL_IDLE: Duration = Duration::from_secs(45);
/// How long Mattermost may think before its answer begins, as its own documentation sets for proxies.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);
/// How long the second look at a refused log-in may take.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
/// How long a good status is let stand before the supervisor's report is read: PostgreSQL's readiness reaches the report a moment after
/// the database answers, and a report that is older than the fact would let a wrong 401 through.
const REPORT_DELAY: Duration = Duration::from_millis(200);
/// A WebSocket's buffer for each direction, bytes. Messages of a chat are small, and thousands of sockets are open at once.
const SOCKET_BUFFER: usize = 4096;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

type Outgoing = Either<Passing, Empty<Bytes>>;
/// What clients are answered with; the line in the log is written when it is dropped.
pub type ClientBody = Answer<Option<Box<Record>>>;

pub struct Proxy {
    settings: Current,
    log: Log,
    metrics: Arc<Metrics>,
    admission: watch::Receiver<Admission>,
    client: Pool<HttpConnector, Outgoing>,
    upstream: String,
    drain: Drain,
    ids: AtomicU64,
}

/// Why the upstream gave no answer.
enum Unanswered {
    Unreachable(hyper_util::client::legacy::Error),
    TooLate,
}

impl Proxy {
    pub fn new(
        settings: Current,
        log: Log,
        metrics: Arc<Metrics>,
        admission: watch::Receiver<Admission>,
        drain: Drain,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(3)));
        let client = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(128 * 1024)
            .build(connector);
        let upstream = settings.load().upstream.to_string();
        Self {
            settings,
            log,
            metrics,
            admission,
            client,
            upstream,
            drain,
            // Two runs may serve at once, and their ids must differ.
            ids: AtomicU64::new(u64::from(std::process::id()) << 24),
        }
    }

    /// Answers one request. Never fails: what goes wrong becomes an answer.
    pub async fn serve(
        &self,
        client: &Arc<Client>,
        request: Request<Incoming>,
    ) -> Response<ClientBody> {
        let arrived_ms = boot_ms();
        let (parts, body) = request.into_parts();
        let id = format!(
            "{arrived_ms:x}-{:x}",
            self.ids.fetch_add(1, Ordering::Relaxed)
        );
        let mut record = Box::new(Record::new(
            self.log.clone(),
            Arc::clone(&self.metrics),
            id,
            client,
            &parts,
        ));
        let settings = self.settings.load();
        let asked = Asked {
            settings: &settings,
            client,
            arrived_ms,
            record: &record,
        };
        match self.forward(parts, body, &asked).await {
            Ok(Forwarded { response, socket }) => {
                let (mut parts, body) = response.into_parts();
                record.answer(parts.status, parts.headers.get(X_REQUEST_ID));
                forward::rewrite_response(&mut parts.headers, socket.is_some());
                let Some((from_client, to_upstream)) = socket else {
                    let body = Passing::new(
                        body,
                        Arc::clone(&record.bytes_out),
                        settings.limits.body_idle(),
                    );
                    return Response::from_parts(parts, Answer::upstream(body, Some(record)));
                };
                let (client, drain) = (Arc::clone(client), self.drain.clone());
                let open = self.metrics.socket_opened();
                tokio::spawn(async move {
                    run_socket(from_client, to_upstream, record, drain).await;
                    drop((client, open));
                });
                Response::from_parts(parts, Answer::own(Bytes::new(), None))
            }
            Err(response) => {
                let (parts, body) = response.into_parts();
                record.answer(parts.status, None);
                record.bytes_out.store(body.len() as u64, Ordering::Relaxed);
                Response::from_parts(parts, Answer::own(body, Some(record)))
            }
        }
    }

    async fn forward(
        &self,
        mut parts: Parts,
        body: Incoming,
        asked: &Asked<'_>,
    ) -> Result<Forwarded, Response<String>> {
        let Asked {
            settings,
            client,
            arrived_ms,
            record,
        } = *asked;
        let refuse = |refusal: Refusal| {
            page::error(
                refusal.status(),
                parts.uri.path(),
                &refusal.to_string(),
                &record.id,
            )
        };
        let host = forward::assess_host(&parts).map_err(refuse)?;
        let uri = forward::upstream_uri(&parts.uri, &self.upstream).map_err(refuse)?;
        if client.door == Door::Public && !self.admission.borrow().is_open() {
            return Err(self.unavailable(&parts, asked));
        }
        let websocket = forward::is_websocket(&parts);
        let from_client = if websocket {
            parts.extensions.remove::<OnUpgrade>()
        } else {
            None
        };
        let mut headers = std::mem::take(&mut parts.headers);
        // The languages are needed once more if a page must be made.
        if let Some(language) = headers.get(hyper::header::ACCEPT_LANGUAGE) {
            parts
                .headers
                .insert(hyper::header::ACCEPT_LANGUAGE, language.clone());
        }
        forward::rewrite_request(&mut headers, host, record.client, websocket);
        let body = Passing::new(
            body,
            Arc::clone(&record.bytes_in),
            settings.limits.body_idle(),
        );
        let mut request = Request::new(Either::Left(body));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;

        let mut response = self
            .ask(request, ANSWER_LIMIT)
            .await
            .map_err(|unanswered| self.unanswered(&parts, asked, unanswered))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let (true, Some(from_client)) = (websocket, from_client) else {
                return Err(page::error(
                    StatusCode::BAD_GATEWAY,
                    parts.uri.path(),
                    "Mattermost switched protocols without being asked",
                    &record.id,
                ));
            };
            let to_upstream = hyper::upgrade::on(&mut response);
            return Ok(Forwarded {
                response,
                socket: Some((from_client, to_upstream)),
            });
        }
        if response.status() == StatusCode::UNAUTHORIZED
            && forward::is_login(&parts.method, parts.uri.path())
        {
            match self.look_again(arrived_ms, settings).await {
                RefusedLogin::PassOn => {}
                RefusedLogin::Unavailable => {
                    let details = json!({ "id": record.id });
                    self.log.event("warn", "a refused log-in was answered with 503: the database was not there all the time", details);
                    return Err(self.unavailable(&parts, asked));
                }
            }
        }
        Ok(Forwarded {
            response,
            socket: None,
        })
    }

    /// Looks a second time whether a 401 to a log-in can be believed.
    async fn look_again(&self, arrived_ms: u64, settings: &Settings) -> RefusedLogin {
        let mut request = Request::new(Either::Right(Empty::new()));
        let target = HeaderValue::from_static("/api/v4/system/ping?get_server_status=true");
        let uri = target
            .to_str()
            .ok()
            .and_then(|path| path.parse().ok())
            .and_then(|path| forward::upstream_uri(&path, &self.upstream).ok());
        let Some(uri) = uri else {
            return RefusedLogin::Unavailable;
        };
        *request.uri_mut() = uri;
        let status_is_good = match self.ask(request, STATUS_LIMIT).await {
            Ok(response) => {
                let good = response.status() == StatusCode::OK;
                // Read to its end, so that the connection can be used again.
                good && Limited::new(response.into_body(), 64 * 1024)
                    .collect()
                    .await
                    .is_ok()
            }
            Err(_) => false,
        };
        if !status_is_good {
            return RefusedLogin::Unavailable;
        }
        tokio::time::sleep(REPORT_DELAY).await;
        // The file itself, not the last notice of a change: the two can be a moment apart.
        assess_refused_login(
            arrived_ms,
            status_is_good,
            &read_state(&settings.upstream_state),
        )
    }

    async fn ask(
        &self,
        request: Request<Outgoing>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Unanswered> {
        match tokio::time::timeout(limit, self.client.request(request)).await {
            Ok(answered) => answered.map_err(Unanswered::Unreachable),
            Err(_) => Err(Unanswered::TooLate),
        }
    }

    fn unanswered(
        &self,
        parts: &Parts,
        asked: &Asked<'_>,
        unanswered: Unanswered,
    ) -> Response<String> {
        match unanswered {
            Unanswered::TooLate => {
                self.metrics.upstream_failed(UpstreamError::TooLate);
                page::error(
                    StatusCode::GATEWAY_TIMEOUT,
                    parts.uri.path(),
                    "Mattermost did not answer in time",
                    &asked.record.id,
                )
            }
            Unanswered::Unreachable(error) => {
                self.metrics.upstream_failed(UpstreamError::Unreachable);
                self.log.event(
                    "warn",
                    "Mattermost could not be asked",
                    json!({ "id": asked.record.id, "error": chain(&error) }),
                );
                self.unavailable(parts, asked)
            }
        }
    }

    fn unavailable(&self, parts: &Parts, asked: &Asked<'_>) -> Response<String> {
        let admission = self.admission.borrow();
        page::unavailable(
            parts.uri.path(),
            &parts.headers,
            &admission,
            boot_ms(),
            asked.settings.standin,
            &asked.record.id,
        )
    }
}

/// What a request came with.
#[derive(Clone, Copy)]
struct Asked<'a> {
    settings: &'a Settings,
    client: &'a Client,
    arrived_ms: u64,
    record: &'a Record,
}

/// The upstream's answer, and both ends of the connection where it became a WebSocket.
struct Forwarded {
    response: Response<Incoming>,
    socket: Option<(OnUpgrade, OnUpgrade)>,
}

/// Carries a WebSocket until one side ends or the edge stops.
async fn run_socket(
    from_client: OnUpgrade,
    to_upstream: OnUpgrade,
    record: Box<Record>,
    mut drain: Drain,
) {
    let (Ok(client), Ok(upstream)) = tokio::join!(from_client, to_upstream) else {
        return;
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    tokio::select! {
        copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, SOCKET_BUFFER, SOCKET_BUFFER) => {
            if let Ok((bytes_in, bytes_out)) = copied {
                record.bytes_in.store(bytes_in, Ordering::Relaxed);
                record.bytes_out.store(bytes_out, Ordering::Relaxed);
            }
        }
        () = drain.begun() => {
            // Clients connect again by themselves; a proper end of TLS tells them at once that they must.
            tokio::io::AsyncWriteExt::shutdown(&mut client).await.ok();
        }
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

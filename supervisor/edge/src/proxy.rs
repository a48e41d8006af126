//! One request's way: admitted or not, forwarded, answered. Every outcome is one line in the log. Rules are `forward`'s and `admission`'s.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use crate::admission::{Admission, RefusedLogin, assess_refused_login};
use crate::body::{Answer, NoProgress, Outgoing, Passing, TooLarge};
use crate::connections::{Client, Door};
use crate::drain::Drain;
use crate::forward::{self, Refusal};
use crate::framing::Checked;
use crate::guard::login::{self, Attempt, Logins};
use crate::guard::{address, allow, refusal};
use crate::headers::Added;
use crate::log::Log;
use crate::metrics::{Metrics, UpstreamError};
use crate::own::Own;
use crate::page;
use crate::record::Record;
use crate::redirect::Redirect;
use crate::reload::Current;
use crate::settings::Settings;
use crate::socket::{self, Opening};
use crate::upstream::{AnswerBody, AskError, Reply, Upstream};
use crate::watch::{boot_ms, read_state};

/// How long the second look at a refused log-in may take.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
/// How long a good status is let stand before the supervisor's report is read: PostgreSQL's readiness reaches the report a moment after
/// the database answers, and a report that is older than the fact would let a wrong 401 through.
const REPORT_DELAY: Duration = Duration::from_millis(200);
/// How often idle connections to Mattermost are looked through.
const TENDING: Duration = Duration::from_secs(60);

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What clients are answered with; the line in the log is written when it is dropped.
pub type ClientBody = Answer<Option<Box<Record>>>;

pub struct Proxy {
    settings: Current,
    rules: ArcSwap<Rules>,
    log: Log,
    metrics: Arc<Metrics>,
    admission: watch::Receiver<Admission>,
    upstream: Upstream<Outgoing>,
    redirect: Arc<Redirect>,
    drain: Drain,
    own: Own,
    logins: Logins,
    ids: AtomicU64,
}

/// What follows from the settings, worked out once for all requests under them.
struct Rules {
    settings: Arc<Settings>,
    added: Added,
}

impl Rules {
    fn new(settings: Arc<Settings>) -> Self {
        Self {
            added: Added::new(&settings.headers, settings.site.as_ref()),
            settings,
        }
    }
}

/// Why the upstream gave no answer.
enum Unanswered {
    Failed(AskError),
    TooLate,
}

impl Proxy {
    pub fn new(
        settings: Current,
        log: Log,
        metrics: Arc<Metrics>,
        admission: watch::Receiver<Admission>,
        redirect: Arc<Redirect>,
        drain: Drain,
        own: Own,
    ) -> Self {
        let now = settings.load();
        Self {
            upstream: Upstream::new(now.upstream),
            rules: ArcSwap::from_pointee(Rules::new(now)),
            settings,
            log,
            metrics,
            admission,
            redirect,
            drain,
            own,
            logins: Logins::default(),
            // Two runs may serve at once, and their ids must differ.
            ids: AtomicU64::new(u64::from(std::process::id()) << 24),
        }
    }

    /// Closes connections to Mattermost that nobody uses; runs as long as the edge.
    pub async fn tend(self: Arc<Self>) {
        let mut round = tokio::time::interval(TENDING);
        loop {
            round.tick().await;
            self.upstream.forget_idle();
        }
    }

    fn rules(&self) -> Arc<Rules> {
        let settings = self.settings.load();
        let rules = self.rules.load_full();
        if Arc::ptr_eq(&rules.settings, &settings) {
            return rules;
        }
        let rules = Arc::new(Rules::new(settings));
        self.rules.store(Arc::clone(&rules));
        rules
    }

    /// Answers one request. Never fails: what goes wrong becomes an answer.
    /// `IO` is what TLS is spoken over.
    pub async fn serve<IO>(
        &self,
        client: &Arc<Client>,
        request: Request<Incoming>,
    ) -> Response<ClientBody>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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
        let rules = self.rules();
        if client.door == Door::Public {
            let trusted = &rules.settings.access.trusted_proxies;
            record.client = address::of_request(client.address, &parts.headers, trusted);
        }
        let asked = Asked {
            settings: &rules.settings,
            client,
            arrived_ms,
            record: &record,
        };
        match self.forward(parts, body, &asked).await {
            Ok(Forwarded::Answer(response)) => {
                let (mut parts, body) = response.into_parts();
                record.answer(parts.status, parts.headers.get(X_REQUEST_ID));
                forward::drop_hop_by_hop(&mut parts.headers);
                rules.added.complete(&mut parts.headers, client.trusted);
                let body = Passing::new(
                    body,
                    Arc::clone(&record.bytes_out),
                    rules.settings.limits.body_idle(),
                )
                .counted(self.metrics.broken_answers());
                Response::from_parts(parts, Answer::upstream(body, Some(record)))
            }
            Ok(Forwarded::Socket(response, socket)) => {
                record.answer(response.status(), response.headers().get(X_REQUEST_ID));
                let (client, drain) = (Arc::clone(client), self.drain.clone());
                let open = self.metrics.socket_opened();
                let is_user = client.door == Door::Public;
                let leave = must_leave(self.drain.clone(), is_user.then(|| self.admission.clone()));
                tokio::spawn(async move {
                    socket.run::<IO>(&record, leave).await;
                    drop((record, client, open, drain));
                });
                response.map(|()| Answer::own(Bytes::new(), None))
            }
            Err(response) => {
                let (mut parts, body) = response.into_parts();
                record.answer(parts.status, None);
                record.bytes_out.store(body.len() as u64, Ordering::Relaxed);
                rules
                    .added
                    .secure_transport(&mut parts.headers, client.trusted);
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
        let refuse = |refusal: Refusal, path: &str| {
            page::error(refusal.status(), path, &refusal.to_string(), &record.id)
        };
        let opening = socket::assess_opening(&parts);
        let from = (record.client, client.door);
        let id = &record.id;
        if let Some(own) = self.own.answer(&parts, from, settings, &self.metrics, id) {
            return Err(own);
        }
        if client.door == Door::Public {
            let path = parts.uri.path();
            allow::assess(&settings.access, record.client, &parts.method, path).map_err(
                |denied| refusal::denied(denied, record.client, path, &parts.headers, id),
            )?;
        }
        let host = forward::assess_host(&parts, opening)
            .map_err(|refusal| refuse(refusal, parts.uri.path()))?;
        if client.door == Door::Public {
            let is_elsewhere = match &settings.site {
                Some(site) => !forward::is_for_site(&host, site),
                None => forward::is_for_any_host(parts.uri.path()),
            };
            if is_elsewhere {
                return Err(self.redirect.answer(&Request::from_parts(parts, ())));
            }
            if !self.admission.borrow().is_open() {
                return Err(self.unavailable(&parts, asked));
            }
        }
        if forward::is_self_upgrade(parts.uri.path()) {
            return Err(refuse(Refusal::Upgrade, parts.uri.path()));
        }
        if body.size_hint().lower() > settings.limits.body_bytes {
            return Err(refuse(Refusal::TooLarge, parts.uri.path()));
        }
        let from_client = opening.and_then(|_| parts.extensions.remove::<OnUpgrade>());
        let mut headers = std::mem::take(&mut parts.headers);
        // The languages are needed once more if a page must be made.
        if let Some(language) = headers.get(header::ACCEPT_LANGUAGE) {
            parts
                .headers
                .insert(header::ACCEPT_LANGUAGE, language.clone());
        }
        forward::rewrite_request(&mut headers, host, record.client);
        let key = match opening {
            Some(Opening::Connect) => Some(self.socket_key(&parts, asked)?),
            Some(Opening::Upgrade) | None => None,
        };
        if opening.is_some() {
            socket::ask_upstream(&mut headers, key.as_deref());
        }
        let body = Passing::new(
            body,
            Arc::clone(&record.bytes_in),
            settings.limits.body_idle(),
        )
        .at_most(settings.limits.body_bytes);
        let (body, attempt) = if forward::is_login(&parts.method, parts.uri.path()) {
            let (body, attempt) = self.begin_login(body, &parts, asked).await?;
            (Either::Right(Full::new(body)), Some(attempt))
        } else {
            (Either::Left(body), None)
        };
        let mut request = Request::new(body);
        *request.method_mut() = match opening {
            Some(_) => hyper::Method::GET,
            None => parts.method.clone(),
        };
        *request.uri_mut() = forward::upstream_target(&parts.uri);
        *request.headers_mut() = headers;

        let response = match self
            .ask(request, settings.limits.answer(), &record.bytes_in)
            .await
            .map_err(|unanswered| self.unanswered(&parts, asked, &unanswered))?
        {
            Reply::Answer(response) => response,
            Reply::Switched(response, upstream, early) => {
                let switched = from_client.and_then(|client| {
                    Some(Forwarded::Socket(
                        socket::answer_client(response, opening?, key.as_deref())?,
                        Socket {
                            client,
                            upstream,
                            early,
                        },
                    ))
                });
                return switched.ok_or_else(|| {
                    bad_gateway(
                        &parts,
                        asked,
                        "Mattermost switched protocols in a way that was not asked for",
                    )
                });
            }
        };
        // To a CONNECT a success would mean that the socket is open.
        if key.is_some() && response.status().is_success() {
            let message = "Mattermost did not open the WebSocket";
            return Err(bad_gateway(&parts, asked, message));
        }
        let Some(attempt) = attempt else {
            return Ok(Forwarded::Answer(response));
        };
        if response.status().is_success() {
            attempt.succeeded();
        } else if response.status() == StatusCode::UNAUTHORIZED {
            match self.look_again(arrived_ms, settings).await {
                RefusedLogin::PassOn => attempt.failed(&settings.login, Instant::now()),
                RefusedLogin::Unavailable => {
                    let details = json!({ "id": record.id });
                    self.log.event("warn", "a refused log-in was answered with 503: the database was not there all the time", details);
                    return Err(self.unavailable(&parts, asked));
                }
            }
        }
        Ok(Forwarded::Answer(response))
    }

    /// Reads the whole body of a log-in, to know whom it is about, and whether it may be tried.
    async fn begin_login(
        &self,
        body: Passing<Incoming>,
        parts: &Parts,
        asked: &Asked<'_>,
    ) -> Result<(Bytes, Attempt), Response<String>> {
        let (path, record) = (parts.uri.path(), asked.record);
        let body = match body.at_most(login::BODY_LIMIT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(bad_body(error.as_ref(), path, &record.id)),
        };
        let login_id = login::login_id(&body).map_err(|error| {
            page::error(
                StatusCode::BAD_REQUEST,
                path,
                &error.to_string(),
                &record.id,
            )
        })?;
        let limits = &asked.settings.login;
        let begun = self
            .logins
            .begin(limits, record.client, &login_id, Instant::now());
        let attempt = begun.map_err(|login::TooMany(wait)| {
            let details = json!({ "id": record.id, "client": record.client });
            self.log.event(
                "warn",
                "too many failed log-ins: this one is not tried",
                details,
            );
            refusal::too_many_logins(wait, path, &record.id)
        })?;
        Ok((body, attempt))
    }

    fn socket_key(&self, parts: &Parts, asked: &Asked<'_>) -> Result<String, Response<String>> {
        let mut random = [0; 16];
        match aws_lc_rs::rand::fill(&mut random) {
            Ok(()) => Ok(socket::make_key(random)),
            Err(_) => Err(self.unavailable(parts, asked)),
        }
    }

    /// Looks a second time whether a 401 to a log-in can be believed.
    async fn look_again(&self, arrived_ms: u64, settings: &Settings) -> RefusedLogin {
        let mut request = Request::new(Either::Right(Full::default()));
        *request.uri_mut() = Uri::from_static("/api/v4/system/ping?get_server_status=true");
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("localhost"));
        let asked = self.ask(request, STATUS_LIMIT, &AtomicU64::new(0)).await;
        let status_is_good = match asked {
            Ok(Reply::Answer(response)) => {
                let good = response.status() == StatusCode::OK;
                // Read to its end, so that the connection can be used again.
                good && Limited::new(response.into_body(), 64 * 1024)
                    .collect()
                    .await
                    .is_ok()
            }
            Ok(Reply::Switched(..)) | Err(_) => false,
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

    /// Gives up when for `limit` there was neither an answer nor one more byte of the request, which `sent` counts.
    async fn ask(
        &self,
        request: Request<Outgoing>,
        limit: Duration,
        sent: &AtomicU64,
    ) -> Result<Reply<Outgoing>, Unanswered> {
        let mut asking = pin!(self.upstream.ask(request));
        let mut seen = 0;
        loop {
            match tokio::time::timeout(limit, asking.as_mut()).await {
                Ok(reply) => return reply.map_err(Unanswered::Failed),
                Err(_) => {
                    let before = std::mem::replace(&mut seen, sent.load(Ordering::Relaxed));
                    if seen == before {
                        return Err(Unanswered::TooLate);
                    }
                }
            }
        }
    }

    fn unanswered(
        &self,
        parts: &Parts,
        asked: &Asked<'_>,
        unanswered: &Unanswered,
    ) -> Response<String> {
        let refuse = |status, message: &str| {
            page::error(status, parts.uri.path(), message, &asked.record.id)
        };
        let error = match unanswered {
            Unanswered::TooLate => {
                self.metrics.upstream_failed(UpstreamError::TooLate);
                return refuse(
                    StatusCode::GATEWAY_TIMEOUT,
                    "Mattermost did not answer in time",
                );
            }
            Unanswered::Failed(error) => error,
        };
        if error.is_of_body() {
            return bad_body(error, parts.uri.path(), &asked.record.id);
        }
        self.metrics.upstream_failed(UpstreamError::Unreachable);
        self.log.event(
            "warn",
            "Mattermost could not be asked",
            json!({ "id": asked.record.id, "error": chain(error) }),
        );
        self.unavailable(parts, asked)
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

/// What came of a request that was passed on.
enum Forwarded {
    Answer(Response<AnswerBody<Outgoing>>),
    /// The head that the client gets, and both ends.
    Socket(Response<()>, Socket),
}

struct Socket {
    client: OnUpgrade,
    upstream: TcpStream,
    /// Read of the upstream with the head of its answer.
    early: Bytes,
}

impl Socket {
    /// Carries it until one side ends or it must `leave`.
    async fn run<IO>(self, record: &Record, leave: impl Future<Output = ()>)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // An error means that the client is gone.
        let Ok(client) = self.client.await else {
            return;
        };
        let mut ends = socket::Ends {
            upstream: self.upstream,
            from_upstream: self.early,
            from_client: Bytes::new(),
        };
        match client.downcast::<TokioIo<Checked<TlsStream<IO>>>>() {
            // HTTP/1.1: nothing of what carried HTTP is needed any more.
            Ok(parts) => {
                ends.from_client = parts.read_buf;
                let client = parts.io.into_inner().into_inner();
                ends.run(client, record, leave).await;
            }
            // A stream of HTTP/2.
            Err(client) => ends.run(TokioIo::new(client), record, leave).await,
        }
    }
}

/// Resolves when the edge stops, and for a user's socket when users are kept out on purpose. That Mattermost or its database is away for a
/// moment ends no socket: they find their way back behind it.
async fn must_leave(mut drain: Drain, admission: Option<watch::Receiver<Admission>>) {
    let closes = async {
        match admission {
            Some(mut admission) => {
                let is_closed = |now: &Admission| now.maintenance().is_some();
                admission.wait_for(is_closed).await.ok();
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ending = drain.begun() => {}
        () = closes => {}
    }
}

fn bad_gateway(parts: &Parts, asked: &Asked<'_>, message: &str) -> Response<String> {
    page::error(
        StatusCode::BAD_GATEWAY,
        parts.uri.path(),
        message,
        &asked.record.id,
    )
}

/// What a client is told whose own body ended its request.
fn bad_body(error: &(dyn std::error::Error + 'static), path: &str, id: &str) -> Response<String> {
    let (status, message) = if is_caused_by::<TooLarge>(error) {
        (Refusal::TooLarge.status(), Refusal::TooLarge.to_string())
    } else if is_caused_by::<NoProgress>(error) {
        let message = "the request's body stopped coming";
        (StatusCode::REQUEST_TIMEOUT, message.to_owned())
    } else {
        let message = "the request's body did not come to its end";
        (StatusCode::BAD_REQUEST, message.to_owned())
    };
    page::error(status, path, &message, id)
}

fn is_caused_by<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<E>() {
            return true;
        }
        cause = error.source();
    }
    false
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

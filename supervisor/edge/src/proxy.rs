//! One request's way: admitted or not, forwarded, answered. Every outcome is one line in the log. Rules are `forward`'s and `admission`'s.

mod asking;
mod carrying;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use self::carrying::{Socket, must_leave};
use crate::admission::{Admission, RefusedLogin};
use crate::body::{Answer, Outgoing, Passing};
use crate::connections::{Client, Door};
use crate::forward::{self, Refusal};
use crate::guard::login::Logins;
use crate::guard::{address, allow, refusal};
use crate::headers::Added;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::own::Own;
use crate::page;
use crate::record::Record;
use crate::redirect::Redirect;
use crate::reload::Current;
use crate::settings::Settings;
use crate::socket::{self, Opening};
use crate::upstream::{AnswerBody, Reply, Upstream};
use crate::watch::boot_ms;

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
    own: Own,
    logins: Logins,
    ids: Arc<AtomicU64>,
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

impl Proxy {
    pub fn new(
        settings: Current,
        log: Log,
        metrics: Arc<Metrics>,
        admission: watch::Receiver<Admission>,
        redirect: Arc<Redirect>,
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
            own,
            logins: Logins::default(),
            // Two runs may serve at once, and their ids must differ.
            ids: Arc::new(AtomicU64::new(u64::from(std::process::id()) << 24)),
        }
    }

    /// The same for another thread: only connections to Mattermost are not shared.
    pub fn twin(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            rules: ArcSwap::new(self.rules.load_full()),
            log: self.log.clone(),
            metrics: Arc::clone(&self.metrics),
            admission: self.admission.clone(),
            upstream: self.upstream.twin(),
            redirect: Arc::clone(&self.redirect),
            own: self.own.clone(),
            logins: self.logins.clone(),
            ids: Arc::clone(&self.ids),
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
                // A copy: a piece of the answer would keep the buffer that it was read into for as long as the socket lives.
                let id = response.headers().get(X_REQUEST_ID);
                let id = id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
                record.answer(response.status(), id.as_ref());
                let open = self.metrics.socket_opened();
                let held = (Arc::clone(client), open);
                let is_user = client.door == Door::Public;
                let leave = must_leave(
                    client.drain.clone(),
                    is_user.then(|| self.admission.clone()),
                );
                tokio::spawn(socket.begin::<IO>(record, leave, held));
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
        // HTTP/1.1's are counted by its parser.
        if parts.headers.len() > settings.limits.headers {
            return Err(refuse(Refusal::Headers, parts.uri.path()));
        }
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

    #[expect(
        clippy::result_large_err,
        reason = "the answer to a request that ends here"
    )]
    fn socket_key(&self, parts: &Parts, asked: &Asked<'_>) -> Result<String, Response<String>> {
        let mut random = [0; 16];
        match aws_lc_rs::rand::fill(&mut random) {
            Ok(()) => Ok(socket::make_key(random)),
            Err(_) => Err(self.unavailable(parts, asked)),
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

/// What came of a request that was passed on.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request ends in the large one, and a box would be an allocation for each"
)]
enum Forwarded {
    Answer(Response<AnswerBody<Outgoing>>),
    /// The head that the client gets, and both ends.
    Socket(Response<()>, Socket),
}

fn bad_gateway(parts: &Parts, asked: &Asked<'_>, message: &str) -> Response<String> {
    page::error(
        StatusCode::BAD_GATEWAY,
        parts.uri.path(),
        message,
        &asked.record.id,
    )
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

//! Asking Mattermost: how long it may take, what is said where no answer came, and when a refused log-in is believed.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Uri};
use serde_json::json;

use super::{Asked, Proxy, chain};
use crate::admission::{RefusedLogin, assess_refused_login};
use crate::body::{NoProgress, Outgoing, Passing, TooLarge};
use crate::forward::Refusal;
use crate::guard::login::{self, Attempt};
use crate::guard::refusal;
use crate::metrics::UpstreamError;
use crate::page;
use crate::settings::Settings;
use crate::upstream::{AskError, Reply};
use crate::watch::read_state;

/// How long the second look at a refused log-in may take.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
/// How long a good status is let stand before the supervisor's report is read: PostgreSQL's readiness reaches the report a moment after
/// the database answers, and a report that is older than the fact would let a wrong 401 through.
const REPORT_DELAY: Duration = Duration::from_millis(200);
/// Why the upstream gave no answer.
pub enum Unanswered {
    Failed(AskError),
    TooLate,
}

impl Proxy {
    /// Gives up when for `limit` there was neither an answer nor one more byte of the request, which `sent` counts.
    pub(super) async fn ask(
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

    pub(super) fn unanswered(
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

    /// Reads the whole body of a log-in, to know whom it is about, and whether it may be tried.
    pub(super) async fn begin_login(
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

    /// Looks a second time whether a 401 to a log-in can be believed.
    pub(super) async fn look_again(&self, arrived_ms: u64, settings: &Settings) -> RefusedLogin {
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

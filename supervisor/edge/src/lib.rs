//! The edge: ends TLS in front of Mattermost, forwards, and says what is going on while Mattermost cannot be reached. Decides which request
//! goes through and with which headers; must not know what units exist or how they are started: the supervisor tells it by a file.

mod admission;
mod body;
mod connections;
mod drain;
mod forward;
mod listen;
mod log;
mod metrics;
mod page;
mod proxy;
mod record;
mod redirect;
mod reload;
mod server;
pub mod settings;
mod tls;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::UnixTime;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::admission::Admission;
use crate::connections::Connections;
pub use crate::listen::Inherited;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::proxy::{Proxy, chain};
use crate::redirect::Redirect;
use crate::reload::Current;
use crate::server::Context;
use crate::settings::Settings;
use crate::tls::challenges::Challenges;
use crate::tls::internal::Subject;
use crate::tls::serving::{Serving, Source};
use crate::tls::store::{Store, StoreError};

/// How often the certificate's age is looked at. Often, because the clock may be set by years soon after the first start.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("failed to start a thread")]
    Thread { source: std::io::Error },
    #[error("failed to take signals")]
    Signal { source: std::io::Error },
}

/// Runs until SIGTERM or SIGINT and returns after the drain.
pub async fn run(settings: Settings, sockets: Inherited) -> Result<(), EdgeError> {
    let log = Log::start().map_err(|source| EdgeError::Thread { source })?;
    let outcome = serve(settings, sockets, &log).await;
    log.finish(Duration::from_secs(1));
    outcome
}

async fn serve(settings: Settings, mut sockets: Inherited, log: &Log) -> Result<(), EdgeError> {
    let take = |kind| signal(kind).map_err(|source| EdgeError::Signal { source });
    let (mut terminate, mut interrupt) = (
        take(SignalKind::terminate())?,
        take(SignalKind::interrupt())?,
    );
    raise_descriptor_limit(log);

    let subject = Subject {
        names: settings.names.iter().cloned().collect(),
        addresses: settings.addresses.iter().copied().collect(),
    };
    let (store, done) = Store::open(&settings.state_dir, UnixTime::now())?;
    if let Some(done) = done {
        log.event("info", done, json!({}));
    }
    store.publish(&settings.public_dir)?;
    let serving = Arc::new(Serving::new(Challenges::default()));
    serving.offer(Source::Internal, certify(&store, &subject, log)?);
    let tls = server::tls(Arc::clone(&serving))?;

    let initial = Admission::new(
        watch::read_state(&settings.upstream_state),
        watch::boot_ms(),
    );
    let (changed, admission) = tokio::sync::watch::channel(initial);
    watch::start(settings.upstream_state.clone(), changed)
        .map_err(|source| EdgeError::Thread { source })?;
    tokio::spawn(log_admission(admission.clone(), log.clone()));

    let (drainer, drain) = drain::channel();
    let metrics = Arc::new(Metrics::new());
    let current = Current::new(settings.clone());
    let context = Context {
        settings: current.clone(),
        log: log.clone(),
        metrics: Arc::clone(&metrics),
        drain: drain.clone(),
        connections: Connections::default(),
    };
    let redirect = Arc::new(Redirect::new(
        settings.site.clone(),
        store.authority_pem().to_owned(),
    ));
    let (https, http) = (
        sockets.listen("https", settings.listen_https)?,
        sockets.listen("http", settings.listen_http)?,
    );
    log.event(
        "info",
        "listening",
        json!({
            "https": https.local_addr().ok(),
            "http": http.local_addr().ok(),
            "site": settings.site.as_ref().map(settings::Site::origin),
        }),
    );
    let proxy = Arc::new(Proxy::new(current, log.clone(), metrics, admission, drain));
    let drain_limit = settings.limits.drain();
    tokio::spawn(server::serve_https(context.clone(), https, tls, proxy));
    tokio::spawn(server::serve_http(context, http, redirect));
    let renewal = tokio::spawn(renew(store, subject, serving, log.clone()));
    tell_supervisor(&[NotifyState::Ready], log);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(show_life(limit, log.clone()));
    }

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tell_supervisor(&[NotifyState::Stopping], log);
    renewal.abort();
    log.event(
        "info",
        "stopping: no new connections, open requests are finished",
        json!({}),
    );
    if tokio::time::timeout(drain_limit, drainer.run())
        .await
        .is_err()
    {
        log.event(
            "warn",
            "open requests were cut off",
            json!({ "after_seconds": drain_limit.as_secs() }),
        );
    }
    Ok(())
}

/// The certificate to serve, with a line in the log if it had to be made.
fn certify(
    store: &Store,
    subject: &Subject,
    log: &Log,
) -> Result<Arc<rustls::sign::CertifiedKey>, StoreError> {
    let (certified, why) = store.leaf(subject, UnixTime::now())?;
    if let Some(why) = why {
        log.event(
            "info",
            "made a new server certificate",
            json!({ "why": why.to_string() }),
        );
    }
    Ok(certified)
}

async fn renew(store: Store, subject: Subject, serving: Arc<Serving>, log: Log) {
    let mut check = tokio::time::interval(RENEWAL_CHECK);
    // The first tick comes at once, and the start has just looked.
    check.tick().await;
    loop {
        check.tick().await;
        match certify(&store, &subject, &log) {
            Ok(certified) => serving.offer(Source::Internal, certified),
            Err(error) => log.event(
                "error",
                "failed to renew the server certificate",
                json!({ "error": chain(&error) }),
            ),
        }
    }
}

/// Tells the supervisor that this runtime still gets round to its work, twice in the time after which it would be taken for
/// stuck. A supervisor that does not read must not hold up the runtime.
async fn show_life(limit: Duration, log: Log) {
    let mut beat = tokio::time::interval(limit / 2);
    loop {
        beat.tick().await;
        let log = log.clone();
        let told = move || tell_supervisor(&[NotifyState::Watchdog], &log);
        drop(tokio::task::spawn_blocking(told).await);
    }
}

async fn log_admission(mut admission: tokio::sync::watch::Receiver<Admission>, log: Log) {
    let mut last = None;
    loop {
        let open = {
            let now = admission.borrow_and_update();
            (now.is_open(), now.waiting_for().to_owned())
        };
        if last.as_ref() != Some(&open) {
            let details = if open.0 {
                json!({ "open": true })
            } else {
                json!({ "open": false, "waiting_for": open.1 })
            };
            log.event(
                "info",
                if open.0 {
                    "users are admitted"
                } else {
                    "users see the maintenance page"
                },
                details,
            );
            last = Some(open);
        }
        if admission.changed().await.is_err() {
            return;
        }
    }
}

/// Each connection takes one descriptor, each forwarded one two; the soft limit that programs inherit is far too low.
fn raise_descriptor_limit(log: &Log) {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log.event(
            "warn",
            "failed to raise the limit of open files",
            json!({ "error": error.to_string() }),
        );
    }
}

fn tell_supervisor(state: &[NotifyState<'_>], log: &Log) {
    if let Err(error) = sd_notify::notify(state) {
        log.event(
            "warn",
            "failed to notify the supervisor",
            json!({ "error": error.to_string() }),
        );
    }
}

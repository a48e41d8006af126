//! The edge: ends TLS in front of Mattermost, forwards, and says what is going on while Mattermost cannot be reached. Decides which request
//! goes through and with which headers; must not know what units exist or how they are started: the supervisor tells it by a file.

mod admission;
mod body;
mod class;
mod connections;
mod crashes;
mod drain;
mod forward;
mod framing;
mod guard;
mod handover;
mod headers;
mod instructions;
mod life;
mod listen;
mod log;
mod metrics;
mod own;
mod page;
mod probe_door;
mod proxy;
mod record;
mod redirect;
mod reload;
mod server;
pub mod settings;
mod socket;
pub mod tls;
mod upstream;
mod watch;
mod workers;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::UnixTime;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::admission::Admission;
use crate::connections::Connections;
use crate::guard::per_client::PerClient;
use crate::life::Life;
pub use crate::listen::Inherited;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::own::Own;
use crate::probe_door::InternalFirst;
use crate::proxy::Proxy;
use crate::redirect::Redirect;
pub use crate::reload::Files;
use crate::reload::{Current, Reload, Told};
use crate::server::Context;
use crate::settings::{Secrets, Settings};
use crate::tls::acme::Orders;
use crate::tls::certificates::Certificates;
use crate::tls::challenges::Challenges;
use crate::workers::Workers;

/// How often the certificates' age is looked at. Often, because the clock may be set by years soon after the first start.
const RENEWAL_CHECK: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("no certificate can be made")]
    Certificate(#[from] tls::CertificateError),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("failed to start a thread")]
    Thread { source: std::io::Error },
    #[error("failed to take signals")]
    Signal { source: std::io::Error },
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    #[error(transparent)]
    Door(#[from] probe_door::DoorError),
    #[error("failed to copy a listening socket")]
    Descriptors { source: std::io::Error },
    #[error("a part of the edge has ended by itself")]
    Part {
        source: Option<tokio::task::JoinError>,
    },
}

/// Runs until SIGTERM or SIGINT, or until its successor serves, and returns after the drain.
///
/// # Errors
/// The settings are not valid, or what is needed to serve cannot be had.
pub async fn run(files: Files, sockets: Inherited) -> Result<(), EdgeError> {
    let (settings, secrets) = files.read()?;
    let log = Log::start().map_err(|source| EdgeError::Thread { source })?;
    let outcome = serve(files, settings, secrets, sockets, &log).await;
    log.finish(Duration::from_secs(1));
    outcome
}

async fn serve(
    files: Files,
    settings: Settings,
    secrets: Secrets,
    mut sockets: Inherited,
    log: &Log,
) -> Result<(), EdgeError> {
    let signals = Signals::take()?;
    raise_descriptor_limit(log);
    let metrics = Arc::new(Metrics::new());
    crashes::report(log.clone(), metrics.crashes.clone());

    let challenges = Challenges::default();
    let certificates = Certificates::start(
        &settings,
        &secrets,
        challenges.clone(),
        log.clone(),
        UnixTime::now(),
    )?;
    let initial = Admission::new(
        watch::read_state(&settings.upstream_state),
        watch::boot_ms(),
    );
    let (changed, admission) = tokio::sync::watch::channel(initial);
    let thread = |source| EdgeError::Thread { source };
    watch::follow_state(settings.upstream_state.clone(), changed).map_err(thread)?;

    let (drainer, drain) = drain::channel();
    let current = Current::new(settings.clone());
    let context = Context {
        settings: current.clone(),
        log: log.clone(),
        metrics: Arc::clone(&metrics),
        drain,
        connections: Connections::default(),
        clients: PerClient::default(),
        serving: Arc::clone(certificates.serving()),
    };
    let own = Own {
        connections: context.connections.clone(),
        admission: admission.clone(),
        log: log.clone(),
    };
    let orders = Orders::start(
        &settings,
        &secrets,
        challenges.clone(),
        Arc::clone(&certificates),
        log.clone(),
    )
    .map_err(thread)?;
    let redirect = Arc::new(Redirect::new(
        current.clone(),
        Arc::clone(&certificates),
        challenges,
    ));
    let mut reload = Reload {
        files,
        current: current.clone(),
        secrets,
        certificates: Arc::clone(&certificates),
        orders,
        log: log.clone(),
        metrics: Arc::clone(&metrics),
        told: None,
    };
    reload.tell(Told::default());
    let changes = reload.watch().map_err(thread)?;
    let (https, http) = (
        sockets.listen("https", settings.listen_https)?,
        sockets.listen("http", settings.listen_http)?,
    );
    let to_pass_on = [("https", &https), ("http", &http)]
        .map(|(name, socket)| Ok((name, socket.as_fd().try_clone_to_owned()?)))
        .into_iter()
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|source| EdgeError::Descriptors { source })?;
    let door = settings
        .probe_socket
        .as_deref()
        .map(probe_door::bind)
        .transpose()?;
    log.event(
        "info",
        "listening",
        json!({
            "https": https.local_addr().ok(),
            "http": http.local_addr().ok(),
            "site": settings.site.as_ref().map(settings::Site::origin),
        }),
    );
    let proxy = Arc::new(Proxy::new(
        current.clone(),
        log.clone(),
        metrics,
        admission.clone(),
        Arc::clone(&redirect),
        own,
    ));
    let workers = Arc::new(Workers::start(&proxy).map_err(thread)?);
    let serving = certificates.serving();
    let tls = server::tls(Arc::clone(serving) as _)?;
    // Whatever of these ends before it is told to, the process is of no use without it, and the supervisor starts another.
    let mut parts = JoinSet::new();
    if let Some(door) = door {
        let tls = server::tls(Arc::new(InternalFirst(Arc::clone(serving))))?;
        parts.spawn(probe_door::serve(
            context.clone(),
            door,
            tls,
            Arc::clone(&proxy),
        ));
    }
    parts.spawn(Arc::clone(&proxy).tend());
    parts.spawn(server::serve_https(
        context.clone(),
        https,
        tls,
        Arc::clone(&workers),
    ));
    parts.spawn(server::serve_http(context, http, redirect));
    parts.spawn(log_admission(admission, log.clone()));
    parts.spawn(reload.run(changes, signals.hang_up));
    parts.spawn(renew(certificates));
    if let Some(predecessor) = sockets.predecessor.take() {
        let main = NotifyState::MainPid(std::process::id());
        tell_supervisor(&[main, NotifyState::Ready], log);
        // The end of the predecessor is nothing to the supervisor only once it knows of the successor.
        tokio::task::spawn_blocking(handover::await_supervisor)
            .await
            .ok();
        // That it is gone already changes nothing for this one.
        predecessor.relieve().ok();
    } else {
        tell_supervisor(&[NotifyState::Ready], log);
    }
    if let Some(limit) = sd_notify::watchdog_enabled() {
        parts.spawn(show_life(limit, Arc::clone(&workers), log.clone()));
    }
    let life = Life {
        terminate: signals.terminate,
        interrupt: signals.interrupt,
        hand_over: signals.hand_over,
        sockets: to_pass_on,
        log,
    };
    life.live(parts, drainer, &current).await
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    hand_over: Signal,
}

impl Signals {
    fn take() -> Result<Self, EdgeError> {
        let take = |kind| signal(kind).map_err(|source| EdgeError::Signal { source });
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hang_up: take(SignalKind::hangup())?,
            hand_over: take(SignalKind::user_defined2())?,
        })
    }
}

async fn renew(certificates: Arc<Certificates>) {
    let mut check = tokio::time::interval(RENEWAL_CHECK);
    // The first tick comes at once, and the start has just looked.
    check.tick().await;
    loop {
        check.tick().await;
        let certificates = Arc::clone(&certificates);
        // It may wait for the disk, which must not hold up connections.
        let ticked = tokio::task::spawn_blocking(move || certificates.tick(UnixTime::now()));
        drop(ticked.await);
    }
}

/// Tells the supervisor that all threads still get round to their work, twice in the time after which the edge would be taken for stuck. A
/// supervisor that does not read must not hold up the runtime.
async fn show_life(limit: Duration, workers: Arc<Workers>, log: Log) {
    let mut beat = tokio::time::interval(limit / 2);
    loop {
        beat.tick().await;
        workers.answer().await;
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
            let why = if now.maintenance().is_some() {
                "the end of the maintenance"
            } else {
                now.waiting_for()
            };
            (now.is_open(), why.to_owned())
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

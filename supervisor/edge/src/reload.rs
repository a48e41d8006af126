//! The settings that hold now, and how others come to hold while the edge runs. A request or a connection takes them once and keeps them to
//! its end, so that a change never meets it halfway. Settings that are not valid change nothing.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use atalaya_sys::durable;
use rustls::pki_types::UnixTime;
use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use crate::log::Log;
use crate::metrics::Metrics;
use crate::proxy::chain;
use crate::settings::{Secrets, Settings, SettingsError, load, load_secrets};
use crate::tell_supervisor;
use crate::tls::acme::Orders;
use crate::tls::certificates::Certificates;
use crate::watch::follow;

/// Shared by everything that is told something; cheap to clone and to read.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Settings>>);

impl Current {
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    pub fn load(&self) -> Arc<Settings> {
        self.0.load_full()
    }
}

/// Where settings come from.
#[derive(Debug, Clone)]
pub struct Files {
    /// edge.toml
    pub settings: PathBuf,
    /// edge-secrets.toml, where the unit has credentials.
    pub secrets: Option<PathBuf>,
}

impl Files {
    /// # Errors
    /// One of them cannot be read or is not valid.
    pub fn read(&self) -> Result<(Settings, Secrets), SettingsError> {
        let secrets = match &self.secrets {
            Some(path) => load_secrets(path)?,
            None => Secrets::default(),
        };
        Ok((load(&self.settings)?, secrets))
    }
}

/// Applies what the files say, each time they change.
pub struct Reload {
    pub files: Files,
    pub current: Current,
    pub secrets: Secrets,
    pub certificates: Arc<Certificates>,
    pub orders: Orders,
    pub log: Log,
    pub metrics: Arc<Metrics>,
    /// What was said last.
    pub told: Option<Told>,
}

/// settings.json in the public directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Why the files as they are now do not hold.
    pub error: Option<String>,
    /// Keys whose new values hold from the next start on.
    pub restart_for: Vec<&'static str>,
}

impl Reload {
    /// Starts to follow the files; [`Self::run`] waits for what comes.
    pub fn watch(&self) -> std::io::Result<mpsc::UnboundedReceiver<()>> {
        let (changed, changes) = mpsc::unbounded_channel();
        let files = [Some(&self.files.settings), self.files.secrets.as_ref()];
        for file in files.into_iter().flatten() {
            let changed = changed.clone();
            follow("settings", file.clone(), move || changed.send(()).is_ok())?;
        }
        Ok(changes)
    }

    /// Until the edge stops. A file's change is applied by itself; `hang_up` (SIGHUP) is the supervisor's wish for the same.
    pub async fn run(mut self, mut changes: mpsc::UnboundedReceiver<()>, mut hang_up: Signal) {
        loop {
            tokio::select! {
                Some(()) = changes.recv() => {
                    while changes.try_recv().is_ok() {}
                    tokio::task::block_in_place(|| self.look());
                }
                Some(()) = hang_up.recv() => {
                    let begun: Vec<_> = [Some(NotifyState::Reloading), NotifyState::monotonic_usec_now().ok()]
                        .into_iter()
                        .flatten()
                        .collect();
                    tell_supervisor(&begun, &self.log);
                    tokio::task::block_in_place(|| self.look());
                    let status = self.told.as_ref().and_then(|told| told.error.clone()).map_or_else(
                        String::new,
                        |error| format!("its settings were refused, the former ones hold: {error}").replace('\n', " "),
                    );
                    tell_supervisor(&[NotifyState::Status(&status), NotifyState::Ready], &self.log);
                }
            }
        }
    }

    /// Reads the files and applies them if they are valid and say something new. May wait for the disk, where certificates are kept.
    fn look(&mut self) {
        let told = match self.files.read() {
            Ok((settings, secrets)) => self.apply(settings, secrets),
            Err(error) => Told {
                error: Some(chain(&error)),
                restart_for: Vec::new(),
            },
        };
        if let Some(error) = told
            .error
            .as_ref()
            .filter(|_| self.told.as_ref() != Some(&told))
        {
            self.metrics.refused_reloads.inc();
            let details = json!({ "error": error });
            let message = "the new settings were refused; the former ones hold";
            self.log.event("error", message, details);
        }
        self.tell(told);
    }

    fn apply(&mut self, settings: Settings, secrets: Secrets) -> Told {
        let now = self.current.load();
        let (settings, restart_for) = keep_what_is_bound(&now, settings);
        if settings != *now || secrets != self.secrets {
            let time = UnixTime::now();
            // A certificate that has grown old meanwhile is no reason to refuse what has nothing to do with it.
            let concerns_it =
                settings.tls != now.tls || settings.site != now.site || secrets != self.secrets;
            if concerns_it && let Err(error) = Certificates::check(&settings, &secrets, time) {
                return Told {
                    error: Some(chain(&error)),
                    restart_for: Vec::new(),
                };
            }
            self.certificates.apply(&settings, &secrets, time);
            self.orders.apply(&settings, &secrets);
            self.current.0.store(Arc::new(settings));
            self.secrets = secrets;
            self.metrics.reloads.inc();
            let details = json!({ "restart_for": restart_for });
            self.log.event("info", "new settings hold", details);
        }
        Told {
            error: None,
            restart_for,
        }
    }

    /// For status and console.
    pub fn tell(&mut self, told: Told) {
        if self.told.as_ref() == Some(&told) {
            return;
        }
        let path = self.current.load().public_dir.join("settings.json");
        let report = json!({ "version": 1, "error": told.error, "restart_for": told.restart_for });
        let written = durable::write(&path, report.to_string().as_bytes(), 0o644, None);
        if let Err(error) = written {
            let details = json!({ "error": chain(&error) });
            self.log
                .event("warn", "failed to report about the settings", details);
        }
        self.told = Some(told);
    }
}

/// Sockets and directories are taken once, at start: a change of theirs waits for a restart. Returns the settings that can hold now, and the
/// keys that cannot.
fn keep_what_is_bound(now: &Settings, mut new: Settings) -> (Settings, Vec<&'static str>) {
    let mut waiting = Vec::new();
    macro_rules! keep {
        ($($key:ident)*) => { $(
            if new.$key != now.$key {
                waiting.push(stringify!($key));
                new.$key.clone_from(&now.$key);
            }
        )* };
    }
    keep!(listen_https listen_http upstream state_dir public_dir upstream_state probe_socket);
    (new, waiting)
}

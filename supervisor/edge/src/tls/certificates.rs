//! The owner of what is served: makes the internal authority and its certificate, takes the configured and the ordered one, and reports.
//! Whatever is broken, something serves: at worst a throw-away certificate. Decides nothing about orders; those are `acme`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use atalaya_sys::durable;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use serde_json::json;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::challenges::Challenges;
use super::fixed;
use super::internal::{CertificateError, Subject, due};
use super::report::{Authority, Renewal, Report, fingerprint};
use super::serving::{Serving, Source};
use super::store::{Opened, Store, StoreError};
use super::throwaway;
use crate::log::Log;
use crate::proxy::chain;
use crate::settings::{Mode, Secrets, Settings};

/// What everybody may know of the internal authority.
#[derive(Debug)]
pub struct Published {
    pub pem: String,
    pub sha256: String,
    pub constrained_to: Vec<String>,
}

/// Shared by the ports, by orders and by whoever changes the settings. All but `serving` and `authority` may wait for the disk.
pub struct Certificates {
    serving: Arc<Serving>,
    authority: ArcSwapOption<Published>,
    state: Mutex<State>,
    log: Log,
}

struct State {
    settings: Settings,
    secrets: Secrets,
    /// None: the site is not known, or the files cannot be used.
    store: Option<Store>,
    /// Of the certificate given in appliance.toml, and of the internal one: why it is not what it should be.
    refused: Option<String>,
    broken: Option<String>,
    /// Said by orders.
    ordered: Renewal,
    reported: Option<Report>,
}

impl Certificates {
    /// Whether these settings can be applied: what is refused here never takes the place of what works.
    pub fn check(
        settings: &Settings,
        secrets: &Secrets,
        now: UnixTime,
    ) -> Result<(), fixed::FixedError> {
        match settings.tls.mode {
            Mode::Static => fixed::read(settings, secrets, now).map(drop),
            Mode::Internal | Mode::Acme => Ok(()),
        }
    }

    /// Has something to serve when it returns.
    pub fn start(
        settings: &Settings,
        secrets: &Secrets,
        challenges: Challenges,
        log: Log,
        now: UnixTime,
    ) -> Result<Arc<Self>, CertificateError> {
        let certificates = Self {
            serving: Arc::new(Serving::new(challenges)),
            authority: ArcSwapOption::empty(),
            state: Mutex::new(State {
                settings: settings.clone(),
                secrets: secrets.clone(),
                store: None,
                refused: None,
                broken: None,
                ordered: Renewal::default(),
                reported: None,
            }),
            log,
        };
        certificates.bring_about(&mut certificates.lock(), now)?;
        Ok(Arc::new(certificates))
    }

    /// Other names, another mode, another certificate. Connections that are open keep what they have.
    pub fn apply(&self, settings: &Settings, secrets: &Secrets, now: UnixTime) {
        let mut state = self.lock();
        if state.settings.tls.mode != settings.tls.mode {
            state.ordered = Renewal::default();
        }
        state.settings = settings.clone();
        state.secrets = secrets.clone();
        state.store = None;
        self.go_on(&mut state, now);
    }

    /// To be called every now and then: certificates are renewed, expired ones are no longer served, and what was broken is tried again.
    pub fn tick(&self, now: UnixTime) {
        self.go_on(&mut self.lock(), now);
    }

    /// An order was successful, or its certificate was found on disk. Passed over unless certificates are to be ordered.
    pub fn offer_ordered(&self, certified: Arc<CertifiedKey>, now: UnixTime) {
        let mut state = self.lock();
        if state.settings.tls.mode == Mode::Acme {
            self.serving.offer(Source::Acme, certified, now);
            self.report(&mut state);
        }
    }

    /// What was ordered is not for the site any more.
    pub fn withdraw_ordered(&self, now: UnixTime) {
        let mut state = self.lock();
        self.serving.withdraw(Source::Acme, now);
        self.report(&mut state);
    }

    /// How ordering goes.
    pub fn set_renewal(&self, renewal: Renewal) {
        let mut state = self.lock();
        state.ordered = renewal;
        self.report(&mut state);
    }

    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    /// None until the site's address is known.
    pub fn authority(&self) -> Option<Arc<Published>> {
        self.authority.load_full()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn go_on(&self, state: &mut State, now: UnixTime) {
        if let Err(error) = self.bring_about(state, now) {
            self.log.event(
                "error",
                "failed to make a certificate",
                json!({ "error": chain(&error) }),
            );
        }
    }

    fn bring_about(&self, state: &mut State, now: UnixTime) -> Result<(), CertificateError> {
        self.offer_internal(state, now);
        self.offer_fixed(state, now);
        if state.settings.tls.mode != Mode::Acme {
            self.serving.withdraw(Source::Acme, now);
        }
        if state.store.is_some() {
            self.serving.withdraw(Source::Throwaway, now);
        } else {
            self.serving.withdraw(Source::Internal, now);
            if !self.serving.has(Source::Throwaway) {
                let made = throwaway::make(&subject(&state.settings))?;
                self.serving.offer(Source::Throwaway, made, now);
            }
        }
        self.serving.settle(now);
        self.report(state);
        Ok(())
    }

    fn offer_internal(&self, state: &mut State, now: UnixTime) {
        let outcome = self.sign(state, now);
        let broken = match outcome {
            Ok(unsaved) => unsaved.as_ref().map(|error| chain(error)),
            Err(error) => {
                state.store = None;
                self.authority.store(None);
                Some(chain(&error))
            }
        };
        // Said once, not at each try.
        if let Some(error) = broken.as_ref().filter(|_| broken != state.broken) {
            self.log.event(
                "error",
                "the internal certificate is not as it should be",
                json!({ "error": error }),
            );
        }
        state.broken = broken;
    }

    /// The authority and its certificate for the server. Returns why the latter could not be kept, if so.
    fn sign(&self, state: &mut State, now: UnixTime) -> Result<Option<StoreError>, StoreError> {
        let Some(site) = &state.settings.site else {
            state.store = None;
            self.authority.store(None);
            return Ok(None);
        };
        let wanted = subject(&state.settings);
        let store = match state.store.take() {
            Some(store) => store,
            None => {
                let (store, opened) = Store::open(
                    &state.settings.state_dir,
                    &wanted.names,
                    site.address(),
                    now,
                )?;
                self.tell(&opened);
                store.publish(&state.settings.public_dir)?;
                let authority = store.authority();
                self.authority.store(Some(Arc::new(Published {
                    pem: authority.pem.clone(),
                    sha256: fingerprint(&authority.der),
                    constrained_to: authority.constraints.describe(),
                })));
                store
            }
        };
        let signed = store.leaf(&wanted, now)?;
        if let Some(why) = signed.why {
            self.log.event(
                "info",
                "made a new server certificate",
                json!({ "why": why.to_string() }),
            );
        }
        self.serving.offer(Source::Internal, signed.certified, now);
        state.store = Some(store);
        Ok(signed.unsaved)
    }

    fn tell(&self, opened: &Opened) {
        match opened {
            Opened::Found => {}
            Opened::Made => {
                self.log
                    .event("info", "made the internal certificate authority", json!({}));
            }
            Opened::MadeAgain => self.log.event(
                "warn",
                "the internal authority's certificate was damaged: made it again from its key; devices that trust it need nothing",
                json!({}),
            ),
            Opened::Replaced { outside } => self.log.event(
                "warn",
                "made a new internal certificate authority, because the former one may not sign for these names: every device must trust \
                 the new one, which is at /ca on port 80",
                json!({ "names": outside }),
            ),
        }
    }

    fn offer_fixed(&self, state: &mut State, now: UnixTime) {
        let refused = if state.settings.tls.mode == Mode::Static {
            match fixed::read(&state.settings, &state.secrets, now) {
                Ok(certified) => {
                    self.serving.offer(Source::Static, certified, now);
                    None
                }
                Err(error) => {
                    self.serving.withdraw(Source::Static, now);
                    Some(chain(&error))
                }
            }
        } else {
            self.serving.withdraw(Source::Static, now);
            None
        };
        if let Some(error) = refused.as_ref().filter(|_| refused != state.refused) {
            self.log.event(
                "error",
                "the certificate given in appliance.toml is not served; the internal one is",
                json!({ "error": error }),
            );
        }
        state.refused = refused;
    }

    /// Writes certificate.json where something in it changed.
    fn report(&self, state: &mut State) {
        let report = self.assess_report(state);
        if report.is_none() || report == state.reported {
            return;
        }
        let path = state.settings.public_dir.join("certificate.json");
        let written = serde_json::to_vec_pretty(&report)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                durable::write(&path, &bytes, 0o644, None).map_err(|error| chain(&error))
            });
        match written {
            Ok(()) => state.reported = report,
            Err(error) => self.log.event(
                "error",
                "failed to report about the certificate",
                json!({ "error": error }),
            ),
        }
    }

    fn assess_report(&self, state: &State) -> Option<Report> {
        let offer = self.serving.current()?;
        let der = offer.certified.end_entity_cert().ok()?;
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let (mode, mut renewal) = match state.settings.tls.mode {
            Mode::Acme => ("acme", state.ordered.clone()),
            Mode::Static => ("static", Renewal::default()),
            Mode::Internal => ("internal", Renewal::default()),
        };
        if offer.source == Source::Internal && state.settings.tls.mode == Mode::Internal {
            renewal.next_at = Some(due(&parsed));
        }
        renewal.error = renewal
            .error
            .or_else(|| state.refused.clone())
            .or_else(|| state.broken.clone());
        Some(Report {
            version: 1,
            mode: mode.to_owned(),
            serving: offer.source.name().to_owned(),
            names: super::internal::subject_of(&parsed).describe(),
            issuer: parsed.issuer().to_string(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            sha256: fingerprint(der),
            renewal,
            authority: state.store.as_ref().map(|store| Authority {
                sha256: fingerprint(&store.authority().der),
                constrained_to: store.authority().constraints.describe(),
                replaces: store.replaces().map(ToOwned::to_owned),
            }),
        })
    }
}

fn subject(settings: &Settings) -> Subject {
    Subject {
        names: settings.names.iter().cloned().collect(),
        addresses: settings.addresses.iter().copied().collect(),
    }
}

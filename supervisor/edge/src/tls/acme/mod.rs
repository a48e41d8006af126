//! Certificates from an ACME authority (RFC 8555): keeps the one that there is, and orders the next when `atalaya_core::renewal` says so.
//! Every attempt is written down before the authority is asked, so that neither a restart nor a full disk can become a storm.
//!
//! One pass ([`Acme::step`]), called every minute at least:
//!
//! ```text
//! window asked for (ARI) -> due? -- no --> wait
//!                            | yes
//!                            v
//!          attempt written down -- failed (disk) --> nothing is asked; wait
//!                            | done
//!                            v
//!          account -> order -> proofs -> signed -> kept on disk -> offered to new connections
//!                            | any step failed: reason, Retry-After and count are written down; wait longer
//! ```
//!
//! Must not decide what is served, which is `Certificates`' business, and reads no clock: the time is passed in.

mod cache;
mod client;
mod dns;
mod extended;
mod held;
mod order;
mod ordinary;
mod proof;
mod run;
pub mod transport;

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use atalaya_core::renewal::{Facts, Life, Next, Window, plan};
use base64::Engine;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use self::cache::{Cache, Record};
use self::held::Held;
pub use self::run::Orders;
use crate::proxy::chain;
use crate::settings::{self, Secrets, Settings};
use crate::tls::challenges::Challenges;
use crate::tls::report::Renewal;

/// Seconds until the authority is asked again for its window after it gave none: RFC 9773 section 4.3.3.
const WINDOW_RETRY: i64 = 6 * 3600;
/// What an authority that wants patience gets where its Retry-After is not known.
const PATIENCE: i64 = 3600;

/// What is ordered, and of whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The site's own first.
    pub names: Vec<String>,
    pub acme: settings::Acme,
    pub secrets: Secrets,
    pub state_dir: PathBuf,
}

impl Wanted {
    /// None where the settings want no order, or the site's address is not known yet.
    pub fn from_settings(settings: &Settings, secrets: &Secrets) -> Option<Self> {
        if settings.tls.mode != settings::Mode::Acme {
            return None;
        }
        let site = settings.site.as_ref()?;
        let mut names = Vec::new();
        if site.address().is_none() {
            names.push(site.host().to_owned());
        }
        for name in &settings.tls.acme.names {
            let name = name.to_ascii_lowercase();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        (!names.is_empty()).then(|| Self {
            names,
            acme: settings.tls.acme.clone(),
            secrets: secrets.clone(),
            state_dir: settings.state_dir.clone(),
        })
    }

    /// Attempts count for one of these; the reader of the file learns nothing of the secrets.
    fn fingerprint(&self) -> String {
        let acme = settings::Acme {
            not_before: 0,
            ..self.acme.clone()
        };
        let mut digest = Sha256::new();
        digest.update(format!("{:?} {acme:?}", self.names));
        for secret in [&self.secrets.dns_key, &self.secrets.external_account_hmac] {
            digest.update(secret.as_deref().unwrap_or_default());
            digest.update([0]);
        }
        digest
            .finalize()
            .iter()
            .fold(String::new(), |mut text, byte| {
                // Writing into a string does not fail.
                write!(text, "{byte:02x}").ok();
                text
            })
    }
}

/// The time, and whether it can be believed.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Seconds since 1970.
    pub now: i64,
    pub trusted: bool,
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Waited,
    /// This machine has no way to the authority: nothing was tried, and soon it is looked again.
    Offline,
    Issued,
    /// In words for people.
    Failed(String),
}

pub struct Acme {
    wanted: Wanted,
    challenges: Challenges,
    cache: Cache,
    record: Record,
    held: Option<Held>,
    /// The certificate is not on disk yet: why.
    unsaved: Option<String>,
    window: Option<Window>,
    /// When to ask for the window.
    window_at: i64,
}

impl Acme {
    /// Reads what is on disk; asks nobody.
    pub fn open(wanted: Wanted, challenges: Challenges) -> Self {
        let cache = Cache::new(&wanted.state_dir);
        let fingerprint = wanted.fingerprint();
        let record = cache
            .record()
            .filter(|record| record.wanted == fingerprint)
            .unwrap_or_else(|| Record::new(&fingerprint));
        let held = cache.pair().and_then(|pair| Held::read(pair).ok());
        Self {
            wanted,
            challenges,
            cache,
            record,
            held,
            unsaved: None,
            window: None,
            window_at: 0,
        }
    }

    /// The certificate that there is, if it is for the site; it may have expired.
    pub fn certificate(&self) -> Option<Arc<CertifiedKey>> {
        let held = self.held.as_ref()?;
        let site = self.wanted.names.get(..1)?;
        held.covers(site).then(|| Arc::clone(&held.certified))
    }

    pub fn life(&self) -> Option<Life> {
        self.held.as_ref().map(|held| held.life)
    }

    /// How it goes, for status.
    pub fn renewal(&self, moment: Moment) -> Renewal {
        let next_at = match self.next(moment) {
            Next::Now => Some(moment.now),
            Next::At(at) => Some(at),
            Next::ClockNotTrusted => None,
        };
        let waits_for_clock = (next_at.is_none())
            .then(|| "the clock is not set yet; no certificate is ordered before".to_owned());
        Renewal {
            next_at,
            last_attempt_at: self.record.attempts.last_at,
            error: (self.record.error.clone())
                .or_else(|| self.unsaved.clone())
                .or(waits_for_clock),
            failures: self.record.attempts.failures,
        }
    }

    /// Does what is due.
    pub async fn step(&mut self, moment: Moment) -> Step {
        self.save();
        if !moment.trusted {
            return Step::Waited;
        }
        self.ask_window(moment.now).await;
        match self.next(moment) {
            Next::At(_) | Next::ClockNotTrusted => Step::Waited,
            Next::Now => self.attempt(moment.now).await,
        }
    }

    fn next(&self, moment: Moment) -> Next {
        let usable = self.usable();
        plan(&Facts {
            now: moment.now,
            clock_trusted: moment.trusted,
            life: usable.map(|held| held.life),
            window: self.window.filter(|_| usable.is_some()),
            attempts: &self.record.attempts,
            // Before there is a certificate, differs between machines all the same: their names differ.
            chance: usable.map_or_else(
                || chance(self.record.wanted.as_bytes()),
                |held| chance(&held.leaf),
            ),
        })
    }

    /// The certificate that there is, if it is what is wanted now.
    fn usable(&self) -> Option<&Held> {
        self.held.as_ref().filter(|held| {
            held.pair.directory == self.wanted.acme.directory && held.covers(&self.wanted.names)
        })
    }

    /// A certificate that could not be written is written as soon as there is room.
    fn save(&mut self) {
        if let (Some(_), Some(held)) = (&self.unsaved, &self.held) {
            self.unsaved = match self.cache.write_pair(&held.pair) {
                Ok(()) => None,
                Err(error) => Some(chain(&error)),
            };
        }
    }

    async fn ask_window(&mut self, now: i64) {
        // A clock that was set back does not put it off for ever.
        let put_off = now < self.window_at && self.window_at <= now + 2 * 86_400;
        let Some(leaf) = self.usable().map(|held| held.leaf.clone()) else {
            self.window = None;
            return;
        };
        if put_off {
            return;
        }
        match order::window(&self.wanted, &self.cache, &leaf).await {
            Some((window, again)) => {
                self.window = Some(window);
                self.window_at = now.saturating_add(again);
            }
            // What it said before still holds.
            None => self.window_at = now.saturating_add(WINDOW_RETRY),
        }
    }

    async fn attempt(&mut self, now: i64) -> Step {
        // At the machine's start the network comes later than the edge. An attempt would count, and the next one be minutes away.
        if let Some(error) = transport::offline(&self.wanted.acme.directory).await {
            let directory = &self.wanted.acme.directory;
            self.record.error = Some(format!(
                "this machine has no way to the authority {directory}: {error}"
            ));
            return Step::Offline;
        }
        let before = self.record.clone();
        let mut begun = before.clone();
        begun.attempts = begun.attempts.begun(now);
        if let Err(error) = self.cache.write_record(&begun) {
            let error = chain(&client::Failure::from(error));
            self.record.error = Some(error.clone());
            return Step::Failed(error);
        }
        self.record = begun;
        // That the authority knows windows means that it wants to be told which certificate an order replaces.
        let replaces = self.usable().filter(|_| self.window.is_some());
        let replaces = replaces.map(|held| held.leaf.clone());
        let outcome = order::place(
            &self.wanted,
            &self.cache,
            &self.challenges,
            &before,
            replaces.as_deref(),
        )
        .await;
        self.record.challenge = outcome.challenge;
        let step = match outcome.result {
            Ok(held) => {
                // A certificate's window is its own.
                (self.window, self.window_at) = (None, 0);
                self.unsaved = self
                    .cache
                    .write_pair(&held.pair)
                    .err()
                    .map(|error| chain(&error));
                self.held = Some(held);
                self.record.attempts.failures = 0;
                self.record.error = None;
                self.record.asked_for_patience = false;
                Step::Issued
            }
            Err(failed) => {
                let patience = failed.failure.asks_for_patience();
                if let Some(seconds) = failed.retry_after.or(patience.then_some(PATIENCE)) {
                    let attempts = self.record.attempts.clone();
                    self.record.attempts = attempts.held_back(now, seconds);
                    self.record.asked_for_patience = true;
                }
                let error = chain(&failed.failure);
                self.record.error = Some(error.clone());
                Step::Failed(error)
            }
        };
        // That it began is on disk already. Without its outcome a restart only waits longer.
        self.cache.write_record(&self.record).ok();
        step
    }
}

/// A number that stays the same for the same bytes.
fn chance(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

fn base64_text(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn base64url_text(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

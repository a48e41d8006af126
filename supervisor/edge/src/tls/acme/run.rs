//! Runs the passes: reads the clock, hands certificates and reports on, and begins anew when the settings change.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use serde_json::json;
use tokio::sync::watch;

use super::{Acme, Moment, Step, Wanted};
use crate::log::Log;
use crate::settings::{Secrets, Settings};
use crate::tls::certificates::Certificates;
use crate::tls::challenges::Challenges;

/// Between two passes. Often, because the clock may be set by years soon after the first start.
const PASS: Duration = Duration::from_secs(60);

/// Where there is no way to the authority yet: the network may come in a moment.
const OFFLINE_PASS: Duration = Duration::from_secs(5);

/// The thread that orders; told of new settings by [`Orders::apply`].
pub struct Orders {
    wanted: watch::Sender<Option<Wanted>>,
}

impl Orders {
    pub fn start(
        settings: &Settings,
        secrets: &Secrets,
        challenges: Challenges,
        certificates: Arc<Certificates>,
        log: Log,
    ) -> std::io::Result<Self> {
        let (wanted, changes) = watch::channel(Wanted::from_settings(settings, secrets));
        // A runtime of its own: what is written and read here waits for the disk, and no connection may wait for that.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("acme".to_owned())
            .spawn(move || runtime.block_on(follow(changes, challenges, certificates, log)))?;
        Ok(Self { wanted })
    }

    /// An order that is under way for other settings is given up.
    pub fn apply(&self, settings: &Settings, secrets: &Secrets) {
        let wanted = Wanted::from_settings(settings, secrets);
        self.wanted.send_if_modified(|now| {
            let differs = *now != wanted;
            *now = wanted;
            differs
        });
    }
}

async fn follow(
    mut changes: watch::Receiver<Option<Wanted>>,
    challenges: Challenges,
    certificates: Arc<Certificates>,
    log: Log,
) {
    loop {
        let wanted = changes.borrow_and_update().clone();
        let order = async {
            match wanted {
                Some(wanted) => order(wanted, &challenges, &certificates, &log).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = order => {}
            changed = changes.changed() => if changed.is_err() {
                return;
            }
        }
        challenges.clear();
    }
}

/// Never ends by itself.
async fn order(wanted: Wanted, challenges: &Challenges, certificates: &Certificates, log: &Log) {
    let (build, names) = (wanted.acme.not_before, wanted.names.clone());
    let mut acme = Acme::open(wanted, challenges.clone());
    offer(&acme, certificates);
    let mut passes = tokio::time::interval(PASS);
    passes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        passes.tick().await;
        certificates.set_renewal(acme.renewal(moment(build)));
        let step = acme.step(moment(build)).await;
        let renewal = acme.renewal(moment(build));
        let days_left = acme
            .life()
            .map(|life| (life.not_after - moment(build).now) / 86_400);
        match step {
            Step::Waited => {}
            Step::Offline => passes.reset_after(OFFLINE_PASS),
            Step::Issued => {
                offer(&acme, certificates);
                log.event(
                    "info",
                    "got a certificate",
                    json!({ "names": names, "days": days_left, "next_at": renewal.next_at }),
                );
            }
            Step::Failed(error) => log.event(
                "error",
                "failed to get a certificate",
                json!({
                    "names": names, "error": error, "failures": renewal.failures,
                    "next_at": renewal.next_at, "days_left": days_left,
                }),
            ),
        }
        certificates.set_renewal(renewal);
    }
}

fn offer(acme: &Acme, certificates: &Certificates) {
    match acme.certificate() {
        Some(certified) => certificates.offer_ordered(certified, UnixTime::now()),
        None => certificates.withdraw_ordered(UnixTime::now()),
    }
}

/// The clock is believed once it is later than the image's build, or when the kernel says that something keeps it right.
fn moment(build: u64) -> Moment {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    Moment {
        now: i64::try_from(now).unwrap_or(i64::MAX),
        trusted: (build > 0 && now >= build) || atalaya_sys::host::clock_is_synchronised(),
    }
}

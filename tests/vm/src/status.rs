//! The appliance's own reports, JSON lines on the status port: each one kept with its time, and folded into one
//! [`Snapshot`] of the boot that runs now. A report of another boot begins a new snapshot.
//!
//! The appliance repeats its whole state now and then, so a lost line delays a wait and breaks nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::VmError;

/// What is booted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Boot {
    /// The appliance's version.
    pub version: String,
    /// The build's id.
    pub build: String,
    /// "a" or "b".
    pub slot: String,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// The version of Mattermost.
    pub mattermost: String,
    /// Whether that is the stand-in.
    pub standin: bool,
}

/// One unit, as last reported.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Unit {
    /// Its name.
    pub unit: String,
    /// Its state.
    pub state: UnitState,
    /// Whether others may rely on it now.
    #[serde(default)]
    pub ready: bool,
    /// Its main process.
    #[serde(default)]
    pub pid: Option<i32>,
    /// How often it has been started in this boot.
    #[serde(default)]
    pub run: Option<u64>,
    /// Why it is in this state, where that is not obvious.
    #[serde(default)]
    pub reason: Option<String>,
    /// Time since power-on of the report, in milliseconds (CLOCK_BOOTTIME).
    #[serde(default)]
    pub t_ms: Option<u64>,
}

/// A unit's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names are the supervisor's own")]
pub enum UnitState {
    Stopped,
    Waiting,
    Starting,
    Running,
    Stopping,
    Backoff,
    Done,
    Failed,
}

/// The certificate of the appliance's own authority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Ca {
    /// The certificate, PEM.
    pub pem: String,
    /// Its SHA-256 fingerprint, as shown to people.
    pub sha256: String,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What is booted.
    Boot(Boot),
    /// A unit's state.
    Unit(Unit),
    /// The addresses at which it can be reached.
    Address {
        /// Network addresses.
        addresses: Vec<String>,
        /// The address that browsers use.
        site: Option<String>,
    },
    /// Its certificate authority.
    Ca(Ca),
    /// Whether users are admitted.
    Admit {
        /// Whether they are.
        admit: bool,
    },
    /// It is going down.
    Stopping {
        /// "reboot", "poweroff" or "halt".
        action: String,
    },
}

/// A report and when it came.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Time since the machine was started.
    pub after: Duration,
    /// The report.
    pub event: Event,
}

/// The state of the boot that runs now, as far as it was reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What is booted; none: nothing was reported yet.
    pub boot: Option<Boot>,
    /// The units by name.
    pub units: BTreeMap<String, Unit>,
    /// Network addresses.
    pub addresses: Vec<String>,
    /// The address that browsers use.
    pub site: Option<String>,
    /// The certificate authority.
    pub ca: Option<Ca>,
    /// Whether users are admitted.
    pub admit: bool,
    /// Set when it is going down.
    pub stopping: Option<String>,
}

impl Snapshot {
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Boot(boot) => {
                if self
                    .boot
                    .as_ref()
                    .is_some_and(|known| known.boot_id != boot.boot_id)
                {
                    *self = Snapshot::default();
                }
                self.boot = Some(boot.clone());
            }
            Event::Unit(unit) => {
                self.units.insert(unit.unit.clone(), unit.clone());
            }
            Event::Address { addresses, site } => {
                self.addresses.clone_from(addresses);
                self.site.clone_from(site);
            }
            Event::Ca(ca) => self.ca = Some(ca.clone()),
            Event::Admit { admit } => self.admit = *admit,
            Event::Stopping { action } => self.stopping = Some(action.clone()),
        }
    }

    /// Whether the unit runs and is ready.
    #[must_use]
    pub fn is_ready(&self, unit: &str) -> bool {
        self.units.get(unit).is_some_and(|unit| unit.ready)
    }

    /// The unit's main process.
    #[must_use]
    pub fn pid(&self, unit: &str) -> Option<i32> {
        self.units.get(unit).and_then(|unit| unit.pid)
    }

    /// The id of this boot.
    #[must_use]
    pub fn boot_id(&self) -> Option<&str> {
        self.boot.as_ref().map(|boot| boot.boot_id.as_str())
    }

    /// The units and their states, for a person.
    #[must_use]
    pub fn summary(&self) -> String {
        let units = self.units.values().map(|unit| {
            let ready = if unit.ready { " ready" } else { "" };
            let reason = unit
                .reason
                .as_deref()
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            format!("{} {:?}{ready}{reason}", unit.unit, unit.state)
        });
        let units = units.collect::<Vec<_>>().join(", ");
        let boot = self
            .boot
            .as_ref()
            .map_or("no boot reported", |boot| boot.version.as_str());
        format!("{boot}; admit: {}; {units}", self.admit)
    }
}

/// The reports of a machine.
#[derive(Debug, Clone)]
pub struct Status {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    log: Mutex<Log>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    snapshot: Snapshot,
    events: Vec<Recorded>,
    unreadable: Vec<String>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    pub(crate) fn open(stream: UnixStream, started: Instant) -> Result<Status, VmError> {
        let shared = Arc::new(Shared {
            started,
            log: Mutex::default(),
            more: Condvar::new(),
        });
        let reader = Arc::clone(&shared);
        thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || read_reports(stream, &reader))
            .map_err(VmError::io("start a thread to read", "the status port"))?;
        Ok(Status { shared })
    }

    /// The state now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.lock().snapshot.clone()
    }

    /// Every report since the machine was started, of all its boots.
    #[must_use]
    pub fn events(&self) -> Vec<Recorded> {
        self.shared.lock().events.clone()
    }

    /// Lines that were no report: a fault of the appliance, or of this crate.
    #[must_use]
    pub fn unreadable(&self) -> Vec<String> {
        self.shared.lock().unreadable.clone()
    }

    /// Waits until the predicate holds and gives the state in which it did. None: not in time, or QEMU ended.
    #[must_use]
    pub fn wait_for(
        &self,
        timeout: Duration,
        predicate: impl Fn(&Snapshot) -> bool,
    ) -> Option<Snapshot> {
        let deadline = Instant::now() + timeout;
        let mut log = self.shared.lock();
        loop {
            if predicate(&log.snapshot) {
                return Some(log.snapshot.clone());
            }
            if log.closed {
                return None;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            log = self
                .shared
                .more
                .wait_timeout(log, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The machine was reset: what was known is about a boot that is over.
    pub(crate) fn forget(&self) {
        self.shared.lock().snapshot = Snapshot::default();
        self.shared.more.notify_all();
    }
}

fn read_reports(stream: UnixStream, shared: &Shared) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        let mut log = shared.lock();
        match serde_json::from_str::<Event>(&line) {
            Ok(event) => {
                log.snapshot.apply(&event);
                log.events.push(Recorded {
                    after: shared.started.elapsed(),
                    event,
                });
            }
            Err(error) => log.unreadable.push(format!("{line} ({error})")),
        }
        drop(log);
        shared.more.notify_all();
    }
    shared.lock().closed = true;
    shared.more.notify_all();
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BOOT: &str = r#"{"event":"boot","version":"0.1.0","build":"b","slot":"a","boot_id":"one","mattermost":"11.7.9","standin":true}"#;

    fn open() -> (UnixStream, Status) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (theirs, Status::open(ours, Instant::now()).unwrap())
    }

    fn say(stream: &mut UnixStream, line: &str) {
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
    }

    #[test]
    fn reports_fold_into_one_state() {
        let (mut guest, status) = open();
        say(&mut guest, BOOT);
        say(
            &mut guest,
            r#"{"event":"unit","unit":"postgres","state":"Running","ready":true,"pid":12,"run":1,"reason":null,"t_ms":5}"#,
        );
        say(&mut guest, r#"{"event":"admit","admit":true}"#);
        let state = status
            .wait_for(Duration::from_secs(5), |state| state.admit)
            .unwrap();
        assert!(state.is_ready("postgres"));
        assert_eq!(state.pid("postgres"), Some(12));
        assert_eq!(status.events().len(), 3);
    }

    #[test]
    fn another_boot_begins_anew_and_the_same_boot_does_not() {
        let (mut guest, status) = open();
        say(&mut guest, BOOT);
        say(&mut guest, r#"{"event":"admit","admit":true}"#);
        say(&mut guest, BOOT);
        assert!(
            status
                .wait_for(Duration::from_secs(5), |state| state.admit)
                .is_some()
        );
        say(&mut guest, &BOOT.replace("one", "two"));
        assert!(
            status
                .wait_for(Duration::from_secs(5), |state| state.boot_id()
                    == Some("two")
                    && !state.admit)
                .is_some()
        );
    }

    #[test]
    fn an_unknown_line_is_kept_aside() {
        let (mut guest, status) = open();
        say(&mut guest, "rubbish");
        say(&mut guest, r#"{"event":"admit","admit":true}"#);
        assert!(
            status
                .wait_for(Duration::from_secs(5), |state| state.admit)
                .is_some()
        );
        assert_eq!(status.unreadable().len(), 1);
    }

    #[test]
    fn the_end_of_the_machine_ends_the_wait() {
        let (guest, status) = open();
        drop(guest);
        assert!(
            status
                .wait_for(Duration::from_secs(60), |state| state.admit)
                .is_none()
        );
    }
}

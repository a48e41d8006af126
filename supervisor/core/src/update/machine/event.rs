//! What can happen to an update, what it waits for, and what is to be done about it.

use serde::{Deserialize, Serialize};

use crate::update::assess::OtherSlot;
use crate::update::record::{Reason, Record};
use crate::update::task::{self, Asked, EspReport, Outcome, Source, Staged};

/// What can happen. The first four are asked for by somebody and may be refused; the others are answers, and one that nobody waits for changes
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Install a bundle. `shown` is the source for people, without what may be secret in it. With `arm` the machine goes on to the new version
    /// when it is in place, else it waits for [`Event::Arm`].
    Begin {
        source: Source,
        shown: String,
        asked: Asked,
        arm: bool,
    },
    /// Go on to the version that is in place.
    Arm,
    /// Go back to the version that was kept, on the data that it left.
    Rollback(OtherSlot),
    /// End it, before anything is at stake.
    Cancel,
    /// What is in /data/gen, and whether space is short: what nobody needs is dropped.
    Tidy { present: Vec<u32>, short: bool },
    /// `install` has ended; what is in the slot now.
    Installed(Outcome<Staged>, OtherSlot),
    /// `copy` has ended.
    Copied(Outcome<task::Copied>),
    /// `esp` has ended.
    Entries(Outcome<EspReport>),
    /// The unit `probe` has ended.
    Probed(Result<(), Failure>),
    /// The services are stopped (in order: with the database shut down), with the network interfaces that there are; or why they are not.
    Stopped(Result<Vec<String>, Failure>),
    /// Everything that this mode starts is ready.
    Ready,
    /// The trial has failed in a way that only the driver sees: a unit that does not become ready, a missing interface, a limit passed.
    Broken(Failure),
    /// The record could not be written, and nothing after it was done.
    Unrecorded(String),
}

/// What failed, in one sentence, with the last lines of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub what: String,
    pub log: Vec<String>,
}

/// What this boot is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing.
    Rest,
    /// This version runs for the first time here, and looks for its own entry on the boot partition.
    Finding,
    /// The boot partition is compared with the record. Users are in.
    Healing,
    /// The bundle is verified and written to the other slot.
    Installing,
    /// The probe goes through the running version: what fails here is no fault of the new one.
    Baseline,
    /// The space is checked and uploads are copied while everybody works.
    Beforehand,
    /// Users are out; the units stop.
    Closing,
    /// The data are copied.
    Copying,
    /// The record says `Armed`; the new entry is put on the boot partition.
    Arming,
    /// That failed; the boot partition is put back.
    Disarming,
    /// The machine restarts.
    Leaving,
    /// Trial: the loader did not count this boot; the entry gets its counter.
    Recounting,
    /// Trial: the data are copied again, because an earlier boot has written into the copy.
    CopyingAnew,
    /// Trial: the units start.
    Starting,
    /// Trial: a post goes through.
    Probing,
    /// Trial: passed; the entry loses its counter.
    Blessing,
    /// This version is given up: its entry is taken away.
    GivingUp,
    /// Taken back without a word from the new version: what did the loader count?
    Looking,
    /// Taken back: the new version's entry is taken away.
    TakingBack,
    /// Taken back, users are admitted; until the units are ready nobody is served.
    Returning,
    /// A person has to decide.
    Stranded,
}

/// What is known of this boot only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub phase: Phase,
    /// What was to be done on the way into this phase was done. The driver sets it.
    #[serde(default)]
    pub done: bool,
    /// The loader counts the entry that was started: a restart cannot go on for ever.
    #[serde(default)]
    pub counted: bool,
    /// The running version is the one that was kept, and the data are not its own.
    #[serde(default)]
    pub previous: bool,
    /// Somebody wants the update to end.
    #[serde(default)]
    pub cancelled: bool,
    /// It goes back to the kept version.
    #[serde(default)]
    pub way_back: bool,
    /// All units were ready before anybody waited for it.
    #[serde(default)]
    pub ready: bool,
    /// The network interfaces when the services were stopped.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// When users were shut out, seconds since 1970.
    #[serde(default)]
    pub closed: Option<u64>,
    /// It failed while the boot partition was being written, which is waited for.
    #[serde(default)]
    pub failure: Option<Reason>,
}

impl Run {
    pub const fn of(phase: Phase) -> Self {
        Self {
            phase,
            done: false,
            counted: false,
            previous: false,
            cancelled: false,
            way_back: false,
            ready: false,
            interfaces: Vec::new(),
            closed: None,
            failure: None,
        }
    }
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Durable before anything that follows.
    WriteRecord(Box<Record>),
    /// Its answer is an event. What is under way already is waited for.
    Start(Work),
    /// End it early; its answer is still waited for.
    Cancel(Work),
    /// All that use data, in order; [`Event::Stopped`].
    StopServices,
    /// All that this mode allows; [`Event::Ready`].
    StartServices,
    /// What the trial held back: the network, and with it everything that sends.
    Release,
    /// Users are let in, or see `why`.
    Admit {
        open: bool,
        why: String,
    },
    /// Leave the sign that this boot is no trial any more, for init: /run/atalaya/blessed.
    MarkBlessed,
    /// Stop everything in order and restart.
    Reboot(String),
    Tell(Notice),
}

/// A one-shot unit with its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// With [`super::rules`] for the rest of the request.
    Install {
        source: Source,
        slot: crate::update::record::Slot,
        asked: Asked,
    },
    Copy(task::Copy),
    Esp(task::Esp),
    /// Nobody waits for it.
    Drop(task::Drop),
    Probe,
}

/// What people are told, on the console, in the log and by the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The version is in place and waits for a word.
    Staged(String),
    /// It ended before anything was at stake.
    Failed(Reason),
    /// The new version has not passed; the former one is started.
    GivingUp(Reason),
    /// Users are on the new version.
    Opened(String),
    /// The former version serves again.
    TakenBack(Reason),
    /// Something has to be looked at by a person; nothing ends because of it.
    Alarm(String),
    /// No unit that uses data was started.
    Stranded(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub record: Record,
    pub run: Run,
    pub effects: Vec<Effect>,
}

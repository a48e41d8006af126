//! The fields of a unit file, with their units and defaults; the JSON Schema in docs is made of them. Values with a syntax
//! of their own are in `values`; what must hold between fields is in `check`.

mod running;
mod sandbox;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::{Mode, Rlimit, SignalName};

pub use running::{
    Handover, Liveness, LivenessKind, Ready, ReadyKind, Reload, Restart, RestartPolicy, Stop,
};
pub use sandbox::{DataMount, Resources, Sandbox};

/// Anything that is supervised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// From the file's name, never from the file.
    #[serde(skip_deserializing)]
    pub name: String,
    /// What people read.
    pub description: String,
    /// A service runs until it is stopped; a one-shot ends by itself, and is Done.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The program, by absolute path, and its arguments. No shell looks at them.
    pub exec: Vec<String>,
    /// A name in the image's /etc/passwd; with its own group.
    #[serde(default = "default_user")]
    pub user: String,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Units that must be ready (a one-shot: Done) before this one starts. It is stopped before they are.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Order only: wait until these have settled, in whatever way.
    #[serde(default)]
    pub after: Vec<String>,
    /// Started at boot.
    #[serde(default = "yes")]
    pub wanted: bool,
    /// What happens when one of `requires` goes away while this runs.
    #[serde(default)]
    pub on_requirement_lost: RequirementLost,
    /// Only with `sandbox.data`: what happens while there is no room on /data.
    #[serde(default)]
    pub on_full_disk: FullDisk,
    /// Working directory: an absolute path.
    #[serde(default = "default_directory")]
    pub directory: String,
    /// All that the program finds in its environment: nothing is inherited.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Lines of KEY=VALUE, read at each start.
    #[serde(default)]
    pub environment_file: Option<String>,
    /// In octal.
    #[serde(default = "default_umask")]
    pub umask: Mode,
    /// -1000 (never) to 1000 (first).
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = -1000, max = 1000)))]
    pub oom_score_adj: i16,
    /// Soft and hard limit at once.
    #[serde(default)]
    pub rlimits: BTreeMap<Rlimit, u64>,
    /// Made once per boot and never again, because others bind them.
    #[serde(default)]
    pub runtime_directories: Vec<RuntimeDirectory>,
    /// Sockets that atalayad opens and passes on (LISTEN_FDS), so that a restart refuses no connection.
    #[serde(default)]
    pub listen: Vec<Listen>,
    /// Files that the unit alone may read, below $CREDENTIALS_DIRECTORY.
    #[serde(default)]
    pub credentials: Vec<CredentialFile>,
    #[serde(default)]
    pub ready: Ready,
    #[serde(default)]
    pub liveness: Option<Liveness>,
    #[serde(default)]
    pub reload: Option<Reload>,
    #[serde(default)]
    pub handover: Option<Handover>,
    /// One-shots only: run again and again.
    #[serde(default)]
    pub timer: Option<Timer>,
    #[serde(default)]
    pub stop: Stop,
    #[serde(default)]
    pub restart: Restart,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub sandbox: Sandbox,
}

/// How long processes may take to die of SIGKILL before that is worth a word, in milliseconds. They die at once unless they
/// wait for a device.
pub const KILL_LIMIT_MS: u64 = 10_000;

impl Unit {
    /// How long a stop may take in all, in milliseconds: the first signal, the second, SIGKILL. What is left after that
    /// cannot be killed, and nobody waits for it.
    pub fn stop_bound_ms(&self) -> u64 {
        let second = if self.stop.then == SignalName::Kill {
            0
        } else {
            self.stop.then_timeout_s.saturating_mul(1000)
        };
        (self.stop.timeout_s.saturating_mul(1000))
            .saturating_add(second)
            .saturating_add(KILL_LIMIT_MS)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Service,
    Oneshot,
}

/// What a unit does when one that it requires goes away while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RequirementLost {
    /// It runs on, and is expected to find its way back by itself.
    #[default]
    Keep,
    /// It is stopped, and started again when the requirement is back.
    Restart,
}

/// What a unit that writes to /data does while there is no room on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FullDisk {
    /// Where it runs it runs on; it is not started before there is room.
    #[default]
    Wait,
    /// It is stopped in order, and started when there is room.
    Stop,
    /// It can do its work without writing.
    Run,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuntimeDirectory {
    /// Below /run.
    pub path: String,
    pub mode: Mode,
}

/// A listening TCP socket. Its address stands here or in a rendered TOML file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Its name in LISTEN_FDNAMES.
    pub name: String,
    /// IP address and port.
    #[serde(default)]
    pub address: Option<String>,
    /// The rendered file and the key in it, read at each start.
    #[serde(default)]
    pub file: Option<String>,
    /// The key: a string with an IP address and a port.
    #[serde(default)]
    pub key: Option<String>,
}

/// A secret for the unit: copied at each start into memory that is its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// Its name below $CREDENTIALS_DIRECTORY.
    pub name: String,
    /// Where atalayad finds it.
    pub source: String,
}

/// When a one-shot is run again. All times are of a clock that nobody sets (CLOCK_BOOTTIME).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// From the time at which all that it requires is ready to the first run, in seconds.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 0, max = 31536000)))]
    pub first_s: u64,
    /// From the end of one run to the next, in seconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 31536000)))]
    pub every_s: u64,
    /// Up to so many seconds later, by chance.
    #[serde(default)]
    #[cfg_attr(test, schemars(range(min = 0, max = 31536000)))]
    pub spread_s: u64,
}

fn yes() -> bool {
    true
}

fn default_user() -> String {
    "root".to_owned()
}

fn default_directory() -> String {
    "/".to_owned()
}

fn default_umask() -> Mode {
    Mode(0o077)
}

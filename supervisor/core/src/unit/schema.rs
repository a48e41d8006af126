//! The fields of a unit file, with their units and defaults. Values with a syntax of their own are in `values`; what
//! must hold between fields is in `check`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::{Capability, DataSource, MemoryMax, Mode, Rlimit, SignalName};

/// Anything that is supervised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// From the file's name, never from the file.
    #[serde(skip_deserializing)]
    pub name: String,
    /// What people read.
    pub description: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The program, by absolute path, and its arguments. No shell looks at them.
    pub exec: Vec<String>,
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
    #[serde(default)]
    pub on_requirement_lost: RequirementLost,
    #[serde(default = "default_directory")]
    pub directory: String,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Lines of KEY=VALUE, read at each start.
    #[serde(default)]
    pub environment_file: Option<String>,
    #[serde(default = "default_umask")]
    pub umask: Mode,
    /// -1000 (never) to 1000 (first).
    #[serde(default)]
    pub oom_score_adj: i16,
    /// Soft and hard limit at once.
    #[serde(default)]
    pub rlimits: BTreeMap<Rlimit, u64>,
    /// Made once per boot and never again, because others bind them.
    #[serde(default)]
    pub runtime_directories: Vec<RuntimeDirectory>,
    #[serde(default)]
    pub ready: Ready,
    #[serde(default)]
    pub stop: Stop,
    #[serde(default)]
    pub restart: Restart,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub sandbox: Sandbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Service,
    Oneshot,
}

/// What a unit does when one that it requires goes away while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequirementLost {
    /// It runs on, and is expected to find its way back by itself.
    #[default]
    Keep,
    /// It is stopped, and started again when the requirement is back.
    Restart,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeDirectory {
    /// Below /run.
    pub path: String,
    pub mode: Mode,
}

/// How it is known that others may rely on the unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ready {
    pub kind: ReadyKind,
    /// For `tcp`: IP address and port to connect to.
    pub address: Option<String>,
    /// For `http`: plain http to an IP address; an answer of 200 is ready.
    pub url: Option<String>,
    /// For `exec`: run as the unit itself, in its sandbox; exit status 0 is ready.
    pub command: Vec<String>,
    /// Time between two checks until the unit is ready, in milliseconds.
    pub interval_ms: u64,
    /// The same from then on, where `watch` is on.
    pub watch_interval_ms: u64,
    /// A start that takes longer has failed, in seconds; 0 is no limit. For a one-shot it is the limit of its run.
    pub timeout_s: u64,
    /// Go on checking (tcp, http, exec): a unit that runs can lose its readiness and get it back.
    pub watch: bool,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            kind: ReadyKind::Started,
            address: None,
            url: None,
            command: Vec::new(),
            interval_ms: 200,
            watch_interval_ms: 1000,
            timeout_s: 0,
            watch: true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadyKind {
    /// READY=1 by sd_notify.
    Notify,
    Tcp,
    Http,
    Exec,
    /// As soon as its program runs.
    Started,
}

impl ReadyKind {
    /// Whether atalayad asks the unit, rather than being told.
    pub fn is_polled(self) -> bool {
        match self {
            Self::Tcp | Self::Http | Self::Exec => true,
            Self::Notify | Self::Started => false,
        }
    }
}

/// The way down: `signal`, after `timeout_s` `then`, after `then_timeout_s` SIGKILL to all that is in the cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    pub signal: SignalName,
    /// Seconds.
    pub timeout_s: u64,
    pub then: SignalName,
    /// Seconds.
    pub then_timeout_s: u64,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: SignalName::Term,
            timeout_s: 15,
            then: SignalName::Kill,
            then_timeout_s: 5,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    pub policy: RestartPolicy,
    /// First pause, in milliseconds. It doubles up to `max_ms`; a quarter either way is left to chance.
    pub min_ms: u64,
    pub max_ms: u64,
    /// Starts within `window_s` seconds; one more and the unit is Failed.
    pub limit: u32,
    pub window_s: u64,
    /// After so many seconds of running the pause begins at `min_ms` again.
    pub healthy_s: u64,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::OnFailure,
            min_ms: 100,
            max_ms: 30_000,
            limit: 8,
            window_s: 120,
            healthy_s: 30,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    OnFailure,
    Always,
    Never,
}

/// Limits of the unit's cgroup (v2).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    pub memory_max: Option<MemoryMax>,
    /// On running out of memory all of the unit dies, not one process of it.
    pub memory_oom_group: bool,
    pub tasks_max: Option<u32>,
    /// 1 to 10000; 100 is everybody's.
    pub cpu_weight: Option<u32>,
}

/// What the unit sees and may do. The default is: nothing of /data, no device but the harmless, no capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// The hidden shell is bound over /bin/sh.
    pub shell: bool,
    /// false: a network of its own with nothing but a loopback.
    pub network: bool,
    pub pid_namespace: bool,
    /// In the bounding and the ambient set.
    pub capabilities: Vec<Capability>,
    /// Every capability, /data and the real /dev; for the few that set the machine up.
    pub privileged: bool,
    /// The real /dev.
    pub devices: bool,
    pub data: Vec<DataMount>,
    pub data_read: Vec<DataMount>,
    /// Those of the mounts above from which programs may be executed.
    pub exec_paths: Vec<String>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            shell: false,
            network: true,
            pid_namespace: false,
            capabilities: Vec::new(),
            privileged: false,
            devices: false,
            data: Vec::new(),
            data_read: Vec::new(),
            exec_paths: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataMount {
    pub source: DataSource,
    /// Where the unit sees it.
    pub path: String,
    /// Make the source where it is missing: mode 0700, owned by the unit's user.
    #[serde(default)]
    pub create: bool,
    /// Emptied before each start of the unit.
    #[serde(default)]
    pub empty: bool,
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

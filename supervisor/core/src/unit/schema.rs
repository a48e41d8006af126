//! The fields of a unit file, with their units and defaults. Values with a syntax of their own are in `values`; what
//! must hold between fields is in `check`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::values::{Capability, DataSource, MemoryMax, Mode, Rlimit, SignalName};

/// Anything that is supervised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        let second = match self.stop.then {
            SignalName::Kill => 0,
            _ => self.stop.then_timeout_s.saturating_mul(1000),
        };
        (self.stop.timeout_s.saturating_mul(1000))
            .saturating_add(second)
            .saturating_add(KILL_LIMIT_MS)
    }
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

/// A listening TCP socket. Its address stands here or in a rendered TOML file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(default)]
    pub key: Option<String>,
}

/// A secret for the unit: copied at each start into memory that is its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialFile {
    /// Its name below $CREDENTIALS_DIRECTORY.
    pub name: String,
    /// Where atalayad finds it.
    pub source: String,
}

/// How it is known that the unit is not stuck. It counts only while all that it requires is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Liveness {
    pub kind: LivenessKind,
    /// For `http`: as for readiness.
    #[serde(default)]
    pub url: Option<String>,
    /// For `exec`: as for readiness.
    #[serde(default)]
    pub command: Vec<String>,
    /// Time between two checks, in milliseconds (http, exec).
    #[serde(default = "default_liveness_interval")]
    pub interval_ms: u64,
    /// An answer that takes longer is a failure; for `watchdog`: so long without WATCHDOG=1 and it is stuck. Milliseconds.
    #[serde(default = "default_liveness_timeout")]
    pub timeout_ms: u64,
    /// So many failures in a row, and the unit is restarted (http, exec).
    #[serde(default = "default_threshold")]
    pub threshold: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LivenessKind {
    /// WATCHDOG=1 by sd_notify.
    Watchdog,
    Http,
    Exec,
}

/// How the unit takes up a changed configuration while it runs: by a signal to its main process, or by a command that is
/// run in its sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    #[serde(default)]
    pub signal: Option<SignalName>,
    #[serde(default)]
    pub command: Vec<String>,
    /// For `signal`: the unit says READY=1 when it has read its configuration; otherwise the reload is done with the signal.
    /// Not given: as it is for `ready.kind`.
    #[serde(default)]
    pub notifies: Option<bool>,
    /// A reload that takes longer has failed; the unit runs on. Seconds.
    #[serde(default = "default_reload_timeout")]
    pub timeout_s: u64,
}

/// When a one-shot is run again. All times are of a clock that nobody sets (CLOCK_BOOTTIME).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    /// From the time at which all that it requires is ready to the first run, in seconds.
    #[serde(default)]
    pub first_s: u64,
    /// From the end of one run to the next, in seconds.
    pub every_s: u64,
    /// Up to so many seconds later, by chance.
    #[serde(default)]
    pub spread_s: u64,
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
    /// For `exec`: run as the unit itself, in its sandbox; exit status 0 is ready. For `notify` it may be given too: then it
    /// is run from READY=1 on, because a unit can lose its readiness without a word. Its last line of output is the reason.
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

impl Ready {
    /// Whether atalayad asks while the unit runs.
    pub fn is_asked(&self) -> bool {
        self.kind.is_polled() || !self.command.is_empty()
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
    /// First pause, in milliseconds. It doubles up to `max_ms`; a quarter either way is left to chance. 0: no pause at all,
    /// only `limit` bounds the restarts.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    pub memory_max: Option<MemoryMax>,
    /// On running out of memory all of the unit dies, not one process of it.
    pub memory_oom_group: bool,
    pub tasks_max: Option<u32>,
    /// 1 to 10000; 100 is everybody's.
    pub cpu_weight: Option<u32>,
    /// Hundredths of one processor: 150 is one and a half.
    pub cpu_percent: Option<u32>,
    /// 1 to 10000; 100 is everybody's.
    pub io_weight: Option<u32>,
}

/// What the unit sees and may do. The default is: nothing of /data, no device but the harmless, no capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// The hidden shell is bound over /bin/sh.
    pub shell: bool,
    /// false: a network of its own with nothing but a loopback.
    pub network: bool,
    /// Shares System V and POSIX memory with the machine: only for those whose locks against a second start need it.
    pub machine_ipc: bool,
    /// Sees the processes of other users in /proc.
    pub all_processes: bool,
    /// Groups of system calls beside the common ones, or single ones; all others end in EPERM.
    pub syscalls: Vec<String>,
    /// Places below /run that it may write to, besides its own runtime directories.
    pub writable: Vec<String>,
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
            machine_ipc: false,
            all_processes: false,
            syscalls: Vec::new(),
            writable: Vec::new(),
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

fn default_liveness_interval() -> u64 {
    10_000
}

fn default_liveness_timeout() -> u64 {
    5_000
}

fn default_threshold() -> u32 {
    3
}

fn default_reload_timeout() -> u64 {
    30
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

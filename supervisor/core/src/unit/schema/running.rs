//! How a unit is known to be ready and alive, how it is reloaded, stopped and started again.

use serde::{Deserialize, Serialize};

use crate::unit::values::SignalName;

/// How it is known that the unit is not stuck. It counts only while all that it requires is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    #[cfg_attr(test, schemars(range(min = 100, max = 3600000)))]
    pub interval_ms: u64,
    /// An answer that takes longer is a failure; for `watchdog`: so long without WATCHDOG=1 and it is stuck. Milliseconds.
    #[serde(default = "default_liveness_timeout")]
    #[cfg_attr(test, schemars(range(min = 10, max = 3600000)))]
    pub timeout_ms: u64,
    /// So many failures in a row, and the unit is restarted (http, exec).
    #[serde(default = "default_threshold")]
    #[cfg_attr(test, schemars(range(min = 1, max = 100)))]
    pub threshold: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    #[cfg_attr(test, schemars(range(min = 1, max = 3600)))]
    pub timeout_s: u64,
}

/// How a restart that somebody asks for is carried out while the unit runs and is ready: told by the signal, its main
/// process starts its successor, which says MAINPID and READY=1. The old one finishes what it has begun and ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Handover {
    pub signal: SignalName,
    /// A process that has no successor after that is stopped and started the usual way. Seconds.
    #[serde(default = "default_reload_timeout")]
    #[cfg_attr(test, schemars(range(min = 1, max = 3600)))]
    pub timeout_s: u64,
}

/// How it is known that others may rely on the unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    #[cfg_attr(test, schemars(range(min = 10, max = 60000)))]
    pub interval_ms: u64,
    /// The same from then on, where `watch` is on.
    #[cfg_attr(test, schemars(range(min = 10, max = 600000)))]
    pub watch_interval_ms: u64,
    /// A start that takes longer has failed, in seconds; 0 is no limit. For a one-shot it is the limit of its run.
    #[cfg_attr(test, schemars(range(min = 0, max = 86400)))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    pub signal: SignalName,
    /// Seconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 3600)))]
    pub timeout_s: u64,
    pub then: SignalName,
    /// Seconds.
    #[cfg_attr(test, schemars(range(min = 1, max = 3600)))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    pub policy: RestartPolicy,
    /// First pause, in milliseconds. It doubles up to `max_ms`; a quarter either way is left to chance. 0: no pause at all,
    /// only `limit` bounds the restarts.
    #[cfg_attr(test, schemars(range(min = 0, max = 3600000)))]
    pub min_ms: u64,
    #[cfg_attr(test, schemars(range(min = 0, max = 3600000)))]
    pub max_ms: u64,
    /// Starts within `window_s` seconds; one more and the unit is Failed.
    #[cfg_attr(test, schemars(range(min = 1, max = 1000)))]
    pub limit: u32,
    #[cfg_attr(test, schemars(range(min = 1, max = 86400)))]
    pub window_s: u64,
    /// After so many seconds of running the pause begins at `min_ms` again.
    #[cfg_attr(test, schemars(range(min = 0, max = 86400)))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    OnFailure,
    Always,
    Never,
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

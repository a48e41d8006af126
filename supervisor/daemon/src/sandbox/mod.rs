//! The sandbox of one run: what the helper is told ([`Spec`]) and how it obeys. atalayad writes the spec and executes the
//! helper, a process of its own with one thread, which builds the sandbox around itself and becomes the unit's program.
//! It takes no decision: everything it does stands in the spec, in this order: limits, mount namespace, network, user,
//! capabilities, no_new_privs, program.

mod identity;
mod view;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag, openat};
use serde::{Deserialize, Serialize};

/// Where the unit finds the first of its sockets (sd_listen_fds(3)).
pub const FIRST_SOCKET: i32 = 3;

/// Behind the unit's sockets: the spec, as JSON in a memfd. Its successor takes the report of a failure; that it closes
/// when the program is executed means success.
pub fn spec_fd(sockets: usize) -> i32 {
    FIRST_SOCKET.saturating_add(i32::try_from(sockets).unwrap_or(i32::MAX - FIRST_SOCKET - 1))
}

/// The helper's exit status after a failure.
pub const EXIT_FAILED: i32 = 126;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub exec: Vec<String>,
    /// All of it; nothing is inherited.
    pub environment: BTreeMap<String, String>,
    pub directory: String,
    pub umask: u32,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub oom_score_adj: i16,
    pub rlimits: BTreeMap<atalaya_core::unit::Rlimit, u64>,
    pub capabilities: Vec<String>,
    pub privileged: bool,
    pub devices: bool,
    pub network: bool,
    /// The hidden shell, if the unit may have it.
    pub shell: Option<String>,
    /// Hidden behind an empty directory, unless privileged.
    pub hide: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Names of what is passed from [`FIRST_SOCKET`] on.
    pub sockets: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub source: String,
    pub path: String,
    pub read_only: bool,
    pub exec: bool,
}

/// What the helper reports of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub stage: Stage,
    pub error: String,
}

/// At what the helper failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Spec,
    Limits,
    Mounts,
    Network,
    User,
    Capabilities,
    Exec,
}

/// A failure with the stage at which it happened.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub stage: Stage,
    pub message: String,
}

impl Stage {
    fn fail(self, what: &str, source: impl std::fmt::Display) -> Failure {
        Failure {
            stage: self,
            message: format!("failed to {what}: {source}"),
        }
    }
}

/// Reads the spec, builds the sandbox and executes the program. Returns only on failure.
pub fn enter(spec: OwnedFd, report: &OwnedFd) -> Failure {
    match try_enter(spec, report) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn try_enter(spec: OwnedFd, report: &OwnedFd) -> Result<std::convert::Infallible, Failure> {
    let spec = read_spec(spec)
        .map_err(|error| Stage::Spec.fail("read the sandbox's description", error))?;
    // Before anything is hidden or given up.
    identity::set_limits(&spec)?;
    view::build(&spec)?;
    if !spec.network {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|error| Stage::Network.fail("make a network namespace", error))?;
        atalaya_sys::host::loopback_up()
            .map_err(|error| Stage::Network.fail("bring up the loopback", error.chain()))?;
    }
    identity::become_user(&spec)?;
    // The report must survive everything but the exec.
    nix::fcntl::fcntl(
        report,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .map_err(|error| Stage::Exec.fail("close the report on exec", error))?;
    identity::execute(&spec)
}

fn read_spec(fd: OwnedFd) -> io::Result<Spec> {
    let mut file = File::from(fd);
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(io::Error::from)
}

/// A handle on `path` that outlives its being hidden.
fn hold(path: &str) -> nix::Result<OwnedFd> {
    openat(
        nix::fcntl::AT_FDCWD,
        path,
        OFlag::O_PATH | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )
}

/// The name under which a held path can still be mounted.
fn held_path(fd: &OwnedFd) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn is_directory(fd: &OwnedFd) -> bool {
    nix::sys::stat::fstatat(fd.as_fd(), "", AtFlags::AT_EMPTY_PATH).is_ok_and(|stat| {
        stat.st_mode & nix::sys::stat::SFlag::S_IFMT.bits() == nix::sys::stat::SFlag::S_IFDIR.bits()
    })
}

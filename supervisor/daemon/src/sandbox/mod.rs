//! The sandbox of one run: what the helper is told ([`Spec`]) and how it obeys. atalayad writes the spec and executes the
//! helper, a process of its own with one thread, which builds the sandbox around itself and becomes the unit's program.
//! It takes no decision: everything it does stands in the spec, in this order: limits, mount namespace, IPC and network
//! namespaces, credentials, groups and user, capabilities, no_new_privs, Landlock, system calls, program.

mod credentials;
mod devices;
mod filter;
mod identity;
mod landlock;
mod limits;
pub mod syscalls;
mod view;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

pub use credentials::Credentials;
pub use landlock::{Rules as LandlockRules, Tcp, WANTED_ABI};
pub use limits::limits;

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
    /// Where /dev/log leads, unless the unit has the real /dev.
    pub syslog: String,
    pub network: bool,
    /// System V and POSIX queues, semaphores and memory of its own.
    pub own_ipc: bool,
    /// /proc shows the processes of other users.
    pub all_processes: bool,
    /// The hidden shell, if the unit may have it.
    pub shell: Option<String>,
    /// Hidden behind an empty directory, unless privileged.
    pub hide: Vec<String>,
    pub mounts: Vec<Mount>,
    /// What stays writable of the machine: files and directories.
    pub writable: Vec<String>,
    pub credentials: Option<Credentials>,
    /// None: all of them.
    pub syscalls: Option<Vec<i64>>,
    pub landlock: Option<LandlockRules>,
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
    Namespaces,
    Credentials,
    User,
    Capabilities,
    Landlock,
    Syscalls,
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

fn try_enter(spec: OwnedFd, report: &OwnedFd) -> Result<Infallible, Failure> {
    let spec = read_spec(spec)
        .map_err(|error| Stage::Spec.fail("read the sandbox's description", error))?;
    // What the helper makes on the way is for others to see.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    limits::set(&spec)?;
    let secrets = credentials::read(&spec)?;
    view::build(&spec)?;
    if spec.own_ipc {
        unshare(CloneFlags::CLONE_NEWIPC)
            .map_err(|error| Stage::Namespaces.fail("make an IPC namespace", error))?;
    }
    if !spec.network {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| Stage::Namespaces.fail("make a network namespace", error))?;
        atalaya_sys::host::loopback_up()
            .map_err(|error| Stage::Namespaces.fail("bring up the loopback", error.chain()))?;
    }
    credentials::show(&spec, &secrets)?;
    drop(secrets);
    identity::become_user(&spec)?;
    landlock::restrict(&spec)?;
    // The report must survive everything but the exec.
    nix::fcntl::fcntl(
        report,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .map_err(|error| Stage::Exec.fail("close the report on exec", error))?;
    // Rust ignores SIGPIPE, and a program would inherit that.
    atalaya_sys::spawn::reset_signals();
    let program = identity::prepare(&spec)?;
    filter::install(&spec)?;
    program.execute()
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

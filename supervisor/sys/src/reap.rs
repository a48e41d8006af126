//! Reaping, for the one process that reaps: look at a zombie, read its cgroup, take exactly that one.
//!
//! nix's waitid cannot represent a death by a real-time signal (it answers EINVAL and the zombie stays), hence libc.

use crate::{Context, Result};
use std::io;
use std::mem::zeroed;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal { signal: i32, core: bool },
}

/// A child that has ended and still waits to be reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zombie {
    pub pid: i32,
    pub ending: Ending,
}

/// A child that has ended, without reaping it; `None` if there is none now (or no child at all).
///
/// Peeking again returns the same one, so each must be reaped before the next peek.
pub fn peek() -> Result<Option<Zombie>> {
    wait(libc::P_ALL, 0, libc::WNOWAIT).context("look for", "ended children")
}

/// Whether the caller has any child at all, running or ended.
pub fn any_child() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: siginfo_t is plain data for which zeroes are valid; waitid writes only into it.
    let result = unsafe {
        let mut info: libc::siginfo_t = zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, flags)
    };
    result == 0
}

/// Reaps exactly `pid`; `None` if it has not ended.
pub fn reap(pid: i32) -> Result<Option<Zombie>> {
    wait(libc::P_PID, pid.unsigned_abs(), 0).context("reap process", pid)
}

/// The cgroup v2 path of a process, zombies included, such as `/units/postgres.3`.
pub fn cgroup_of(pid: i32) -> Result<String> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).context("read", &path)?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(|line| line.strip_suffix(" (deleted)").unwrap_or(line).to_owned())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        .context("find the cgroup in", &path)
}

fn wait(kind: libc::idtype_t, id: u32, extra: i32) -> io::Result<Option<Zombie>> {
    // __WALL: a child made with exit_signal 0 that never reached exec is invisible without it.
    let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL | extra;
    loop {
        // SAFETY: siginfo_t is plain data for which zeroes are valid; waitid writes only into it.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = zeroed();
            (libc::waitid(kind, id, &raw mut info, flags), info)
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(error),
            }
        }
        // SAFETY: waitid filled the fields of a child event, or left them zero.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let ending = match info.si_code {
            libc::CLD_KILLED => Ending::Signal {
                signal: status,
                core: false,
            },
            libc::CLD_DUMPED => Ending::Signal {
                signal: status,
                core: true,
            },
            _ => Ending::Code(status),
        };
        return Ok(Some(Zombie { pid, ending }));
    }
}

//! A restart that interrupts nothing: told by SIGUSR2, the running edge starts its successor and gives it the listening sockets. Once that
//! one serves it says so to the supervisor (MAINPID, READY=1) and to its predecessor, which accepts nothing more, finishes what it has begun
//! and ends. A successor that does not come up changes nothing.
//!
//! ```text
//! SIGUSR2 -> start the successor -> it listens on the same sockets -> a byte in the pipe -> the old one drains and ends
//!                                -> it ends instead (end of the pipe)                    -> the old one goes on
//! ```

use std::io::{Error, ErrorKind, PipeReader, Read, Result, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;

use atalaya_sys::fds::take_inherited;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use sd_notify::NotifyState;

/// `NAME=DESCRIPTOR` with spaces between, for a successor: the sockets, and the pipe in which it says that it serves.
const VARIABLE: &str = "ATALAYA_EDGE_HANDOVER";
const PIPE: &str = "ready";

/// What a run has from the one before it.
pub struct Inheritance {
    pub sockets: Vec<(String, OwnedFd)>,
    pub predecessor: Predecessor,
}

/// The run before this one, which waits for a word.
#[derive(Debug)]
pub struct Predecessor(OwnedFd);

impl Predecessor {
    /// It may go now.
    ///
    /// # Errors
    /// It is gone already.
    pub fn relieve(self) -> Result<()> {
        std::fs::File::from(self.0).write_all(b"r")
    }
}

/// To be called once, before anything else opens descriptors. None: no run of this program has started this one.
///
/// # Errors
/// What was announced is not open.
pub fn inherit() -> Result<Option<Inheritance>> {
    let Ok(text) = std::env::var(VARIABLE) else {
        return Ok(None);
    };
    let (mut sockets, mut predecessor) = (Vec::new(), None);
    for (name, number) in text.split(' ').filter_map(|part| part.split_once('=')) {
        let number = number
            .parse()
            .map_err(|_| Error::new(ErrorKind::InvalidData, VARIABLE))?;
        let descriptor = take_inherited(number).map_err(|error| error.source)?;
        if name == PIPE {
            predecessor = Some(Predecessor(descriptor));
        } else {
            sockets.push((name.to_owned(), descriptor));
        }
    }
    Ok(predecessor.map(|predecessor| Inheritance {
        sockets,
        predecessor,
    }))
}

/// Returns when the supervisor has processed all that was said to it before (BARRIER of sd_notify(3)), or does not do so in time: then it
/// is not there, and the next one asks who is.
pub fn await_supervisor() {
    const LIMIT_MS: u16 = 10_000;
    let Ok((processed, ours)) = pipe() else {
        return;
    };
    if sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[ours.as_fd()]).is_ok() {
        drop(ours);
        let mut polled = [PollFd::new(processed.as_fd(), PollFlags::empty())];
        // Interrupted or late: the predecessor has waited long enough.
        poll(&mut polled, LIMIT_MS).ok();
    }
}

/// Starts the successor and waits, without a limit of its own, until it serves: the supervisor's patience is the limit. Blocks.
///
/// # Errors
/// It could not be started, or ended before it served.
pub fn hand_over(sockets: &[(&str, OwnedFd)]) -> Result<()> {
    let (mut ready, pipe) = start(sockets)?;
    drop(pipe);
    let mut word = [0];
    if ready.0.read(&mut word)? == 1 {
        // It outlives this process; until then nobody else could take its exit status.
        std::thread::spawn(move || ready.1.wait());
        return Ok(());
    }
    let status = ready.1.wait()?;
    Err(Error::other(format!("it ended before it served: {status}")))
}

type Started = (PipeReader, std::process::Child);

fn start(sockets: &[(&str, OwnedFd)]) -> Result<(Started, OwnedFd)> {
    let (ready, word) = pipe()?;
    let word = OwnedFd::from(word);
    let mut passed = Vec::new();
    for (name, descriptor) in sockets
        .iter()
        .map(|(name, socket)| (*name, socket))
        .chain([(PIPE, &word)])
    {
        // Of a copy, so that this process's own stays closed on exec; nothing else is started by this process.
        let copy = descriptor.as_fd().try_clone_to_owned()?;
        fcntl(&copy, FcntlArg::F_SETFD(FdFlag::empty()))?;
        passed.push((name, copy));
    }
    let text = passed
        .iter()
        .map(|(name, copy)| format!("{name}={}", copy.as_raw_fd()))
        .collect::<Vec<_>>()
        .join(" ");
    let successor = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, text)
        // Of this process: the successor's number is another.
        .env_remove("WATCHDOG_PID")
        .spawn()?;
    Ok(((ready, successor), word))
}

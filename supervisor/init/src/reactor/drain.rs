//! Reads what units say while there is no atalayad: the kept log pipes, so that no writer waits, and the kept notify
//! sockets, so that no sender does. What is kept of it is decided in `supervise::meanwhile`.

use crate::machine::cgroups;
use crate::supervise::kept::Kept;
use crate::supervise::meanwhile::{LOG_LIMIT, Meanwhile, parse_note};
use atalaya_sys::notify;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::read;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Per socket and round, so that a babbling unit cannot keep PID 1 from the rest.
const MESSAGES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Log,
    Notify,
    /// Nothing more will come, or it is for nobody to read (a pidfd): it would be ready for ever.
    Finished,
}

/// Which descriptors have been seen, by record and place.
#[derive(Debug, Default)]
pub struct Drain {
    seen: BTreeMap<(String, usize), Source>,
    buffer: Vec<u8>,
}

impl Drain {
    /// What to wait on.
    pub fn fds<'a>(&self, kept: &'a Kept<OwnedFd>) -> Vec<BorrowedFd<'a>> {
        runs(kept)
            .filter(|(name, place, _)| {
                self.seen.get(&((*name).to_owned(), *place)) != Some(&Source::Finished)
            })
            .map(|(_, _, fd)| fd)
            .collect()
    }

    /// Another reads from now on.
    pub fn stop(&mut self) {
        self.seen.clear();
        self.buffer = Vec::new();
    }

    /// Takes what there is now.
    pub fn turn(&mut self, kept: &Kept<OwnedFd>, meanwhile: &mut Meanwhile) {
        self.buffer.resize(LOG_LIMIT, 0);
        for (name, place, fd) in runs(kept) {
            let source = self
                .seen
                .entry((name.to_owned(), place))
                .or_insert_with(|| assess(fd));
            let goes_on = match source {
                Source::Log => drain_log(name, fd, &mut self.buffer, meanwhile),
                Source::Notify => drain_notes(name, fd, meanwhile),
                Source::Finished => continue,
            };
            if !goes_on {
                *source = Source::Finished;
            }
        }
    }
}

/// What the records of runs hold; `err/` is that of a pipe for stderr alone.
fn runs(kept: &Kept<OwnedFd>) -> impl Iterator<Item = (&str, usize, BorrowedFd<'_>)> {
    kept.all()
        .filter(|(name, _)| name.starts_with("run/") || name.starts_with("err/"))
        .flat_map(|(name, record)| {
            let fds = record.fds.iter().enumerate();
            fds.map(move |(place, fd)| (name.as_str(), place, fd.as_fd()))
        })
}

/// A run's pipe is its log, its socket is for notify messages. atalayad's own ends do not block either; one that might is left
/// alone.
fn assess(fd: BorrowedFd<'_>) -> Source {
    let kind = fstat(fd).map_or(SFlag::empty(), |status| {
        SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT
    });
    let source = match kind {
        SFlag::S_IFIFO => Source::Log,
        SFlag::S_IFSOCK => Source::Notify,
        _ => return Source::Finished,
    };
    match fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
        Ok(_) => source,
        Err(_) => Source::Finished,
    }
}

/// Whether more may come.
fn drain_log(name: &str, fd: BorrowedFd<'_>, buffer: &mut [u8], into: &mut Meanwhile) -> bool {
    match read(fd, buffer) {
        Ok(0) => false,
        Ok(count) => {
            // What it says on stderr stands among the rest of its words.
            let run = name.replacen("err/", "run/", 1);
            into.log(&run, buffer.get(..count).unwrap_or_default());
            true
        }
        Err(errno) => matches!(errno, nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR),
    }
}

/// Whether more may come. A sender has to be in the run's own cgroup; descriptors that came along are closed.
fn drain_notes(name: &str, fd: BorrowedFd<'_>, into: &mut Meanwhile) -> bool {
    let run = name.trim_start_matches("run/");
    for _ in 0..MESSAGES {
        let received = match notify::recv(fd) {
            Ok(received) => received,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let Some(sender) = received.credentials.filter(|_| !received.truncated) else {
            continue;
        };
        let own = cgroups::unit_of(sender.pid).is_ok_and(|unit| unit.as_deref() == Some(run));
        if own && let Some(text) = parse_note(&received.bytes) {
            into.note(name, sender.pid, text);
        }
    }
    true
}

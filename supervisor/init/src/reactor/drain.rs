//! Reads what units say while there is no atalayad: the kept log pipes, so that no writer waits, and the kept notify
//! sockets, so that no sender does. What is kept of it is decided in `supervise::meanwhile`.

use crate::machine::cgroups;
use crate::supervise::kept::Kept;
use crate::supervise::meanwhile::{LOG_LIMIT, Meanwhile, parse_note};
use atalaya_sys::notify;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::read;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The order of descriptors in a run's record, as atalayad keeps them; its pidfd comes third and is not read.
const LOG: usize = 0;
const NOTIFY: usize = 1;
/// Per socket and round, so that a babbling unit cannot keep PID 1 from the rest.
const MESSAGES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Open,
    /// Nothing more will come; it would be ready for ever.
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
                .or_insert_with(|| {
                    // atalayad's own ends do not block either; should this fail, the descriptor is left alone.
                    match fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
                        Ok(_) => Source::Open,
                        Err(_) => Source::Finished,
                    }
                });
            if *source == Source::Finished {
                continue;
            }
            let goes_on = if place == LOG {
                drain_log(name, fd, &mut self.buffer, meanwhile)
            } else {
                drain_notes(name, fd, meanwhile)
            };
            if !goes_on {
                *source = Source::Finished;
            }
        }
    }
}

/// Both log pipes (`err/` holds that of stderr alone) and the notify socket.
fn runs(kept: &Kept<OwnedFd>) -> impl Iterator<Item = (&str, usize, BorrowedFd<'_>)> {
    kept.all()
        .filter(|(name, _)| name.starts_with("run/") || name.starts_with("err/"))
        .flat_map(|(name, record)| {
            let places = if name.starts_with("err/") {
                LOG + 1
            } else {
                NOTIFY + 1
            };
            record
                .fds
                .iter()
                .take(places)
                .enumerate()
                .map(move |(place, fd)| (name.as_str(), place, fd.as_fd()))
        })
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

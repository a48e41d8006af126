//! PID 1's end of the link: what is to be said waits here until the socket takes it, what is heard is decoded and kept.

use crate::supervise::kept::{KeepError, Kept};
use crate::supervise::meanwhile::Meanwhile;
use crate::supervise::statuses::Statuses;
use atalaya_core::link::{self, FromInit, ToInit};
use atalaya_sys::seqpacket;
use nix::poll::PollFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What comes in.
#[derive(Debug)]
pub enum Heard {
    Message(ToInit),
    /// To be told; the message is ignored.
    Problem(String),
    Nothing,
}

#[derive(Debug)]
enum Outgoing {
    Message(FromInit),
    /// The record kept under this name when its turn comes.
    Kept(String),
    /// What the run kept under this name logged meanwhile.
    Drained(String),
}

/// The socket to the present atalayad, and what outlives it.
#[derive(Debug, Default)]
pub struct Link {
    socket: Option<OwnedFd>,
    pub kept: Kept<OwnedFd>,
    /// What the kept runs said while there was no atalayad.
    pub meanwhile: Meanwhile,
    outbox: VecDeque<Outgoing>,
    /// It has said hello in our version, so that statuses may be told.
    greeted: bool,
    /// One line about bad messages per atalayad is enough.
    complained: bool,
}

impl Link {
    /// A new atalayad is at the other end.
    pub fn connect(&mut self, socket: OwnedFd) {
        self.disconnect();
        self.socket = Some(socket);
        self.complained = false;
    }

    pub fn disconnect(&mut self) {
        self.socket = None;
        self.outbox.clear();
        self.greeted = false;
    }

    pub fn greet(&mut self, welcome: FromInit) {
        self.outbox.clear();
        self.push(welcome);
        for name in self.kept.names() {
            self.outbox.push_back(Outgoing::Kept(name.clone()));
            let Some(said) = self.meanwhile.find(name) else {
                continue;
            };
            if said.has_log() {
                self.outbox.push_back(Outgoing::Drained(name.clone()));
            }
            for note in said.notes() {
                self.outbox.push_back(Outgoing::Message(FromInit::Notified {
                    name: name.clone(),
                    pid: note.pid,
                    text: note.text.clone(),
                }));
            }
        }
        self.push(FromInit::KeptEnd);
        self.greeted = true;
    }

    pub fn refuse(&mut self, welcome: FromInit) {
        self.outbox.clear();
        self.greeted = false;
        self.push(welcome);
    }

    pub fn push(&mut self, message: FromInit) {
        self.outbox.push_back(Outgoing::Message(message));
    }

    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// What to wait for on the socket.
    pub fn interest(&self, statuses: &Statuses) -> PollFlags {
        let waiting = !self.outbox.is_empty() || (self.greeted && statuses.next().is_some());
        if waiting {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        }
    }

    /// Sends as much as the socket takes; a line to tell if something could not be sent.
    pub fn send(&mut self, statuses: &mut Statuses) -> Option<String> {
        let socket = self.socket.as_ref()?;
        let mut problem = None;
        while let Some(outgoing) = self.outbox.front() {
            let outcome = match outgoing {
                Outgoing::Message(message) => send(socket, message, &[]),
                Outgoing::Kept(name) => match self.kept.find(name) {
                    Some(kept) => {
                        let message = FromInit::Kept {
                            name: name.clone(),
                            record: kept.record.clone(),
                        };
                        let fds: Vec<BorrowedFd<'_>> = kept.fds.iter().map(AsFd::as_fd).collect();
                        send(socket, &message, &fds)
                    }
                    None => Ok(()), // dropped meanwhile
                },
                Outgoing::Drained(name) => match self.meanwhile.find(name) {
                    Some(said) => hand_over(socket, name, &said.log(), said.dropped()),
                    None => Ok(()),
                },
            };
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return problem,
                // It is gone: its death will be noticed by the reaper.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return problem,
                Err(error) => {
                    problem = Some(format!("failed to send a message to atalayad: {error}"))
                }
            }
            self.outbox.pop_front();
        }
        while self.greeted
            && let Some((seq, message)) = statuses.next()
        {
            if send(socket, &message, &[]).is_err() {
                break;
            }
            statuses.mark_told(seq);
        }
        problem
    }

    /// The next thing heard; records and acknowledgements have already been dealt with when it returns.
    pub fn receive(&mut self, statuses: &mut Statuses) -> Heard {
        let Some(socket) = &self.socket else {
            return Heard::Nothing;
        };
        let received = match seqpacket::recv_with_fds(socket.as_fd(), link::LIMIT) {
            Ok(Some(received)) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
            Ok(None) | Err(_) => {
                // It closed its end. If it lives on, it is silent from here and will be killed for it.
                self.socket = None;
                return Heard::Nothing;
            }
        };
        if received.truncated {
            return self.complain("a message that is too long");
        }
        match link::decode::<ToInit>(&received.bytes) {
            // One that speaks another version may not touch what is kept.
            Ok(message) if self.greeted => match self.take(&message, received.fds, statuses) {
                Ok(()) => Heard::Message(message),
                Err(error) => self.complain(&format!("a record that is not kept: {error}")),
            },
            Ok(message) => Heard::Message(message),
            Err(_) => self.complain("a message that is not understood"),
        }
    }

    fn take(
        &mut self,
        message: &ToInit,
        fds: Vec<OwnedFd>,
        statuses: &mut Statuses,
    ) -> Result<(), KeepError> {
        if self.outbox.is_empty() {
            // It speaks after it was told everything: now it has what was said meanwhile.
            self.meanwhile.clear();
        }
        match message {
            ToInit::Keep { name, record, stop } => {
                return self
                    .kept
                    .keep(name.clone(), record.clone(), stop.clone(), fds);
            }
            ToInit::Drop { name } => {
                self.kept.drop(name);
                self.meanwhile.forget(name);
            }
            ToInit::Ack { seq } => statuses.acknowledge(*seq),
            ToInit::Hello { .. } | ToInit::Heartbeat | ToInit::Shutdown { .. } => {}
        }
        Ok(())
    }

    fn complain(&mut self, what: &str) -> Heard {
        if std::mem::replace(&mut self.complained, true) {
            // Not told again, but counted as a sign of life.
            return Heard::Message(ToInit::Ack { seq: 0 });
        }
        Heard::Problem(format!("atalayad sent {what}"))
    }
}

/// Without a memory file the bytes are lost, and counted as such.
fn hand_over(socket: &OwnedFd, name: &str, log: &[u8], dropped: u64) -> io::Result<()> {
    let file = memory_file(log).ok();
    let lost = if file.is_some() { 0 } else { log.len() as u64 };
    let message = FromInit::Drained {
        name: name.to_owned(),
        dropped: dropped + lost,
    };
    let fds: Vec<BorrowedFd<'_>> = file.iter().map(AsFd::as_fd).collect();
    send(socket, &message, &fds)
}

/// To be read from its beginning.
fn memory_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"drained", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn send(socket: &OwnedFd, message: &FromInit, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = link::encode(message).map_err(io::Error::other)?;
    seqpacket::send_with_fds(socket.as_fd(), &bytes, fds)
}

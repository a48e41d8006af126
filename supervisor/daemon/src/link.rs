//! The way to init. Without one (`--no-init`, for tests) the same messages are made here: children are reaped in this
//! process and nothing is kept.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use atalaya_core::link::{FD_ENV, FromInit, LIMIT, Status, ToInit, VERSION, decode, encode};
use atalaya_sys::reap::{self, Ending};
use atalaya_sys::seqpacket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A message with what came along.
#[derive(Debug)]
pub struct Message {
    pub message: FromInit,
    pub fds: Vec<OwnedFd>,
}

pub enum Link {
    /// SEQPACKET, which tokio does not know; only its readiness and its descriptor are used.
    Init(UnixDatagram),
    Alone {
        children: Signal,
        next: u64,
    },
}

impl Link {
    /// Takes over the socket that init has passed.
    ///
    /// # Errors
    /// There is none.
    pub fn inherited() -> Result<Self> {
        let number = std::env::var(FD_ENV)
            .with_context(|| format!("{FD_ENV} is not set: atalayad is started by init"))?;
        let number = number
            .parse()
            .with_context(|| format!("{FD_ENV} is not a number"))?;
        let socket = atalaya_sys::fds::take_inherited(number)?;
        let socket = std::os::unix::net::UnixDatagram::from(socket);
        Ok(Self::Init(UnixDatagram::from_std(socket)?))
    }

    /// # Errors
    /// The runtime cannot watch for SIGCHLD.
    pub fn alone() -> Result<Self> {
        Ok(Self::Alone {
            children: signal(SignalKind::child())?,
            next: 1,
        })
    }

    pub fn is_alone(&self) -> bool {
        matches!(self, Self::Alone { .. })
    }

    /// Says hello and takes in all that init has kept. Exits that it tells meanwhile are among the messages.
    ///
    /// # Errors
    /// init speaks another version, or is gone.
    pub async fn greet(&mut self) -> Result<Vec<Message>> {
        if self.is_alone() {
            return Ok(Vec::new());
        }
        self.send(&ToInit::Hello { version: VERSION }, &[])?;
        let mut messages = Vec::new();
        loop {
            let message = self.receive().await?;
            match &message.message {
                FromInit::Welcome { version, .. } if *version != VERSION => {
                    bail!(
                        "init speaks version {version} of their protocol and atalayad version {VERSION}"
                    );
                }
                FromInit::KeptEnd => return Ok(messages),
                FromInit::Welcome { .. }
                | FromInit::Kept { .. }
                | FromInit::Drained { .. }
                | FromInit::Notified { .. }
                | FromInit::Exited { .. }
                | FromInit::Request { .. } => messages.push(message),
            }
        }
    }

    /// The next message. Can be dropped while it waits without losing one.
    ///
    /// # Errors
    /// init is gone, which cannot be: the machine would be too.
    pub async fn receive(&mut self) -> Result<Message> {
        match self {
            Self::Init(socket) => loop {
                socket.readable().await?;
                let received = match socket.try_io(Interest::READABLE, || {
                    seqpacket::recv_with_fds(socket.as_fd(), LIMIT)
                }) {
                    Ok(Some(received)) => received,
                    Ok(None) => bail!("init has closed the link"),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error).context("failed to read the link to init"),
                };
                // A message that cannot be read is of a later version or damaged: nothing depends on guessing.
                if !received.truncated
                    && let Ok(message) = decode(&received.bytes)
                {
                    return Ok(Message {
                        message,
                        fds: received.fds,
                    });
                }
            },
            Self::Alone { children, next } => loop {
                if let Some(zombie) = reap::peek()? {
                    let cgroup = reap::cgroup_of(zombie.pid).unwrap_or_default();
                    reap::reap(zombie.pid)?;
                    let status = match zombie.ending {
                        Ending::Code(code) => Status::Code(code),
                        Ending::Signal { signal, .. } => Status::Signal(signal),
                    };
                    let cgroup = cgroup.rsplit('/').next().unwrap_or_default().to_owned();
                    *next += 1;
                    let message = FromInit::Exited {
                        seq: *next,
                        pid: zombie.pid,
                        cgroup,
                        status,
                    };
                    return Ok(Message {
                        message,
                        fds: Vec::new(),
                    });
                }
                if children.recv().await.is_none() {
                    bail!("the runtime no longer tells of SIGCHLD");
                }
            },
        }
    }

    /// When this returns, init has the message, whatever becomes of atalayad.
    ///
    /// # Errors
    /// init does not read, or the message is too long.
    pub fn send(&self, message: &ToInit, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let Self::Init(socket) = self else {
            return Ok(());
        };
        let bytes = encode(message)?;
        for _ in 0..20 {
            match seqpacket::send_with_fds(socket.as_fd(), &bytes, fds) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Its queue is full: it reads as soon as it runs.
                    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut polled, PollTimeout::from(500_u16))
                        .context("failed to wait for init")?;
                }
                Err(error) => return Err(error).context("failed to send to init"),
            }
        }
        bail!("init has not read the link for 10 s")
    }
}

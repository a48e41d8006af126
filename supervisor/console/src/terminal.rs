//! One terminal: opened without becoming anybody's controlling terminal, and never waited for. What it does not take now is kept
//! and written when it does; a terminal that was stopped (Ctrl-S, Scroll Lock) stops nobody else.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

pub struct Terminal {
    device: AsyncFd<File>,
    /// How it was, while it is raw.
    saved: Option<Termios>,
    /// What it has not taken yet.
    pending: Vec<u8>,
}

impl Terminal {
    /// # Errors
    /// It cannot be opened, or is no terminal.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(path)?;
        tcgetattr(&file)?;
        // The new way asks for `unsafe` because a descriptor might be closed while it is registered; a File owns its own.
        #[allow(deprecated)]
        let device = AsyncFd::new(file)?;
        Ok(Self {
            device,
            saved: None,
            pending: Vec::new(),
        })
    }

    /// Keys come one by one and are not echoed.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn make_raw(&mut self) -> io::Result<()> {
        let before = tcgetattr(self.device.get_ref())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(self.device.get_ref(), SetArg::TCSANOW, &raw)?;
        self.saved.get_or_insert(before);
        Ok(())
    }

    /// # Errors
    /// The terminal is gone.
    pub fn restore(&mut self) -> io::Result<()> {
        if let Some(before) = self.saved.take() {
            tcsetattr(self.device.get_ref(), SetArg::TCSANOW, &before)?;
        }
        Ok(())
    }

    pub fn queue(&mut self, text: &str) {
        self.pending.extend_from_slice(text.as_bytes());
    }

    /// Whether it has taken all.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Waits until the terminal has said something (the bytes) or has taken something (none).
    ///
    /// # Errors
    /// The terminal is gone.
    pub async fn turn(&mut self) -> io::Result<Vec<u8>> {
        let interest = if self.pending.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        let mut guard = self.device.ready_mut(interest).await?;
        let ready = guard.ready();
        if ready.is_writable() && !self.pending.is_empty() {
            match guard.get_inner_mut().write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    guard.clear_ready_matching(Ready::WRITABLE);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if ready.is_readable() || ready.is_read_closed() {
            let mut bytes = [0; 256];
            match guard.get_inner_mut().read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => return Ok(bytes.iter().take(count).copied().collect()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    guard.clear_ready_matching(Ready::READABLE);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// Writes what is left, for at most `limit`; what it does not take then is thrown away.
    pub async fn flush(&mut self, limit: Duration) {
        let write_all = async {
            while !self.is_idle() {
                if self.turn().await.is_err() {
                    return;
                }
            }
        };
        // Too late is as good as done: it is being given back.
        tokio::time::timeout(limit, write_all).await.ok();
        self.pending.clear();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever comes next wants lines, echo and new lines as they were.
        self.restore().ok();
    }
}

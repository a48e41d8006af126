//! File descriptors that came into the process as plain numbers.

use crate::{Context, Result};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes over a descriptor that the parent left open under `number` (an environment variable names it), close-on-exec.
///
/// To be called once per number, at start, before anything else in the process opens or closes descriptors.
///
/// # Errors
/// `EBADF` if nothing is open under that number.
pub fn take_inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_SETFD on any number touches no memory; a number that is not open gives EBADF.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error())
            .context("take over the inherited descriptor", number);
    }
    // SAFETY: it is open (checked above), and by this function's contract nobody else in the process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes over what systemd's protocol passes: `count` descriptors from 3 on (`LISTEN_FDS`).
pub fn take_listen_fds(count: u16) -> Result<Vec<OwnedFd>> {
    (3..3 + RawFd::from(count)).map(take_inherited).collect()
}

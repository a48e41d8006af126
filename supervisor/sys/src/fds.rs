//! File descriptors that came into the process as plain numbers.

use crate::{Context, Result};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// Whether both are the same open file (one was duplicated from the other). False where the kernel does not tell.
#[must_use]
pub fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let pid = std::process::id();
    // SAFETY: kcmp only compares numbers that this process has open; it touches no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            pid,
            pid,
            KCMP_FILE,
            one.as_raw_fd(),
            other.as_raw_fd(),
        )
    };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_duplicate_is_the_same_and_a_second_opening_is_not() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let duplicate = file.try_clone().unwrap();
        let other = std::fs::File::open("/dev/null").unwrap();
        assert!(is_same(file.as_fd(), duplicate.as_fd()));
        assert!(!is_same(file.as_fd(), other.as_fd()));
    }
}

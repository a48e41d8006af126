//! Processes by descriptor: a pid can be used again, a pidfd cannot name another process.

use crate::error::check;
use crate::{Context, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Opens the process `pid` (readable for poll once it has ended; close-on-exec).
pub fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: two integers go in, a new descriptor or -1 comes out.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
        .context("open process", pid)?;
    // SAFETY: the kernel just made it for us; descriptors fit an i32.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends `signal` to exactly that process. `ESRCH` if it has ended and was reaped.
pub fn send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: no siginfo is passed (null), so only integers are read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result).context("signal a process with", signal)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_signal_reaches_the_process_behind_the_descriptor() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let handle = open(child.id().try_into().unwrap()).unwrap();
        send_signal(handle.as_fd(), libc::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert_eq!(
            send_signal(handle.as_fd(), 0).unwrap_err().errno(),
            libc::ESRCH
        );
    }
}

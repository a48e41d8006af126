//! Facts about the running machine, and the switches that belong to no other room.

use crate::error::check;
use crate::{Context, Result};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Milliseconds of CLOCK_BOOTTIME: since power-on, with suspended time, never set back.
pub fn boottime_ms() -> u64 {
    boottime_us() / 1000
}

/// The same in microseconds.
pub fn boottime_us() -> u64 {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        Ok(time) => {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
            seconds * 1_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0) / 1000
        }
        Err(_) => 0, // the clock exists since Linux 2.6.39
    }
}

/// Whether something (chronyd) keeps the clock right, as the kernel knows it. Not where a filter keeps the question from the kernel.
pub fn clock_is_synchronised() -> bool {
    // SAFETY: timex is plain data, and without `modes` the call only fills it in.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    state >= 0 && state != libc::TIME_ERROR
}

/// Bytes of memory that the kernel manages.
pub fn memory_total() -> Result<u64> {
    let info = nix::sys::sysinfo::sysinfo().context("read", "the size of memory")?;
    Ok(info.ram_total())
}

/// Which Landlock the kernel enforces; `None`: none, or it is switched off.
pub fn landlock_abi() -> Option<i32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel reads no memory and gives a number back.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0usize,
            VERSION,
        )
    };
    i32::try_from(abi).ok().filter(|abi| *abi > 0)
}

/// Takes a swap out of use; what is in it is read back into memory first.
pub fn swap_off(path: &Path) -> Result<()> {
    let text = CString::new(path.as_os_str().as_bytes())
        .map_err(io::Error::from)
        .context("use as a path", path.display())?;
    // SAFETY: the path is zero-terminated and lives until the call returns.
    check(unsafe { libc::swapoff(text.as_ptr()) }.into()).context("swap off", path.display())?;
    Ok(())
}

/// Brings `lo` of the current network namespace up.
pub fn loopback_up() -> Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("create", "a socket for lo")?;
    // SAFETY: ifreq is plain data; the name is zero-terminated, and the kernel reads only that and the flags.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).context("bring up", "lo");
    }
    Ok(())
}

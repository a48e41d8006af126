//! /dev/watchdog: once opened it resets the machine unless it is petted.

use crate::{Context, Result};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

nix::ioctl_read!(wdioc_getbootstatus, b'W', 2, libc::c_int);
nix::ioctl_read!(wdioc_keepalive, b'W', 5, libc::c_int);
nix::ioctl_readwrite!(wdioc_settimeout, b'W', 6, libc::c_int);

/// `WDIOF_CARDRESET` of linux/watchdog.h: the card caused the last reboot.
pub const CARD_RESET: i32 = 0x20;

/// An armed watchdog. Dropping it does not disarm it (that takes the "magic close" that nobody writes here).
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    name: String,
}

impl Watchdog {
    /// Opens and thereby arms it.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let device = OpenOptions::new()
            .write(true)
            .open(path)
            .context("open watchdog", &name)?;
        Ok(Self { device, name })
    }

    /// Takes over one that was left open across exec.
    pub fn from_file(device: File, name: String) -> Self {
        Self { device, name }
    }

    /// The descriptor, to be kept across exec.
    pub fn file(&self) -> &File {
        &self.device
    }

    /// Sets the limit in seconds; returns what the device made of it.
    pub fn set_timeout(&self, seconds: u16) -> Result<i32> {
        let mut value = i32::from(seconds);
        // SAFETY: the device reads and writes one int, which lives here.
        unsafe { wdioc_settimeout(self.device.as_raw_fd(), &raw mut value) }
            .context("set the limit of watchdog", &self.name)?;
        Ok(value)
    }

    /// Puts the counter back.
    pub fn pet(&self) -> Result<()> {
        let mut ignored = 0;
        // SAFETY: the request is declared with an int argument; the kernel does not touch it.
        unsafe { wdioc_keepalive(self.device.as_raw_fd(), &raw mut ignored) }
            .context("pet watchdog", &self.name)?;
        Ok(())
    }

    /// Why the machine started, as far as the device knows (see [`CARD_RESET`]).
    pub fn boot_status(&self) -> Result<i32> {
        let mut status = 0;
        // SAFETY: the device writes one int, which lives here.
        unsafe { wdioc_getbootstatus(self.device.as_raw_fd(), &raw mut status) }
            .context("read the boot status of watchdog", &self.name)?;
        Ok(status)
    }
}

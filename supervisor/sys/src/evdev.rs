//! Input devices, as far as a power button needs them.

use crate::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `KEY_POWER` of linux/input-event-codes.h.
pub const KEY_POWER: u16 = 116;
const EV_KEY: u16 = 1;
/// KEY_MAX (0x2ff) + 1 bits.
const KEY_BYTES: usize = 96;
/// `struct input_event` on x86-64: timeval 16, type 2, code 2, value 4.
const EVENT: usize = 24;

/// `EVIOCGBIT(EV_KEY, len)`: which keys a device has.
const fn key_bits_request() -> libc::c_ulong {
    nix::request_code_read!(b'E', 0x20 + EV_KEY as u8, KEY_BYTES) as libc::c_ulong
}

/// Opens an input device without waiting.
pub fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .context("open input device", path.display())
}

/// Whether the device has the key `code` at all.
pub fn has_key(device: &File, code: u16) -> Result<bool> {
    let mut bits = [0u8; KEY_BYTES];
    // SAFETY: the request carries the buffer's length; the kernel writes at most so many bytes.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), key_bits_request(), bits.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error()).context("ask", "an input device for its keys");
    }
    Ok(bits
        .get(usize::from(code) / 8)
        .is_some_and(|byte| byte & (1 << (code % 8)) != 0))
}

/// Reads all that is there; whether `code` was pressed among it. `None`: the device is gone.
pub fn pressed(mut device: &File, code: u16) -> Option<bool> {
    let mut pressed = false;
    let mut buffer = [0u8; EVENT * 64];
    loop {
        match device.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => pressed |= contains_press(&buffer[..count], code),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(pressed),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn contains_press(bytes: &[u8], code: u16) -> bool {
    bytes.chunks_exact(EVENT).any(|event| {
        let kind = u16::from_ne_bytes([event[16], event[17]]);
        let key = u16::from_ne_bytes([event[18], event[19]]);
        let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
        kind == EV_KEY && key == code && value == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0u8; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_press_of_the_key_counts() {
        assert!(contains_press(
            &[event(0, 0, 0), event(1, 116, 1)].concat(),
            KEY_POWER
        ));
        assert!(!contains_press(&event(1, 116, 0), KEY_POWER)); // release
        assert!(!contains_press(&event(1, 30, 1), KEY_POWER)); // another key
        assert!(!contains_press(&event(1, 116, 1)[..20], KEY_POWER)); // torn
    }
}

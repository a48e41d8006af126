//! device-mapper by ioctl, as far as dm-verity needs it: no libdevmapper, no udev.

use crate::{Context, Result};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

const CONTROL: &str = "/dev/mapper/control";
/// `struct dm_ioctl` of linux/dm-ioctl.h.
const HEADER: usize = 312;
const BUFFER: usize = 16 * 1024;
/// `struct dm_target_spec`.
const TARGET: usize = 40;
const READ_ONLY: u32 = 1;

const DEV_CREATE: u8 = 3;
const DEV_REMOVE: u8 = 4;
const DEV_SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;
const TABLE_STATUS: u8 = 12;

/// A verity device, all that its table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    pub data_device: String,
    pub hash_device: String,
    pub data_block_size: u32,
    pub hash_block_size: u32,
    pub data_blocks: u64,
    /// Where the hash tree starts on the hash device, in hash blocks.
    pub hash_start: u64,
    pub algorithm: String,
    /// Lower-case hexadecimal.
    pub root_hash: String,
    /// Lower-case hexadecimal; empty for none.
    pub salt: String,
    /// Such as `panic_on_corruption`.
    pub options: Vec<String>,
}

impl Verity {
    /// The target's parameters, as Documentation/admin-guide/device-mapper/verity.rst orders them.
    pub fn parameters(&self) -> String {
        let salt = if self.salt.is_empty() {
            "-"
        } else {
            &self.salt
        };
        let mut text = format!(
            "1 {} {} {} {} {} {} {} {} {salt}",
            self.data_device,
            self.hash_device,
            self.data_block_size,
            self.hash_block_size,
            self.data_blocks,
            self.hash_start,
            self.algorithm,
            self.root_hash,
        );
        if !self.options.is_empty() {
            text.push_str(&format!(
                " {} {}",
                self.options.len(),
                self.options.join(" ")
            ));
        }
        text
    }

    fn sectors(&self) -> u64 {
        self.data_blocks * u64::from(self.data_block_size) / 512
    }
}

/// Creates the read-only device `name`; returns its number as (major, minor). devtmpfs shows it as /dev/dm-N.
///
/// # Errors
/// The step that failed; a device that was made but got no table is removed again.
pub fn create_verity(name: &str, verity: &Verity) -> Result<(u32, u32)> {
    let control = open_control()?;
    let device = call(&control, DEV_CREATE, "create dm device", name, 0, None)?;
    let table = target("verity", verity.sectors(), &verity.parameters());
    let outcome = call(
        &control,
        TABLE_LOAD,
        "load the verity table of",
        name,
        READ_ONLY,
        Some(&table),
    )
    .and_then(|_| call(&control, DEV_SUSPEND, "activate", name, READ_ONLY, None));
    if let Err(error) = outcome {
        // The first error is the one to tell.
        drop(call(
            &control,
            DEV_REMOVE,
            "remove dm device",
            name,
            0,
            None,
        ));
        return Err(error);
    }
    Ok((device.major, device.minor))
}

/// The status line of the first target: `V` while verity has seen no corruption, `C` after.
pub fn status(name: &str) -> Result<String> {
    let reply = call(
        &open_control()?,
        TABLE_STATUS,
        "read the status of",
        name,
        0,
        None,
    )?;
    Ok(reply.text)
}

/// Removes the device `name`; `EBUSY` while it is open.
pub fn remove(name: &str) -> Result<()> {
    call(
        &open_control()?,
        DEV_REMOVE,
        "remove dm device",
        name,
        0,
        None,
    )?;
    Ok(())
}

fn open_control() -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(Path::new(CONTROL))
        .context("open", CONTROL)
}

struct Reply {
    major: u32,
    minor: u32,
    text: String,
}

fn target(kind: &str, sectors: u64, parameters: &str) -> Vec<u8> {
    let mut bytes = vec![0u8; TARGET];
    bytes[8..16].copy_from_slice(&sectors.to_ne_bytes());
    bytes[24..24 + kind.len()].copy_from_slice(kind.as_bytes());
    bytes.extend(parameters.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn call(
    control: &File,
    command: u8,
    operation: &'static str,
    name: &str,
    flags: u32,
    table: Option<&[u8]>,
) -> Result<Reply> {
    let payload = table.unwrap_or_default();
    if name.len() > 127 || HEADER + payload.len() > BUFFER {
        return Err(io::Error::from_raw_os_error(libc::E2BIG)).context(operation, name);
    }
    let mut buffer = vec![0u8; BUFFER];
    put(&mut buffer, 0, 4); // version 4.0.0
    put(&mut buffer, 12, BUFFER as u32);
    put(&mut buffer, 16, HEADER as u32);
    put(&mut buffer, 20, u32::from(table.is_some()));
    put(&mut buffer, 28, flags);
    buffer[48..48 + name.len()].copy_from_slice(name.as_bytes());
    buffer[HEADER..HEADER + payload.len()].copy_from_slice(payload);
    let request = nix::request_code_readwrite!(0xfd, command, HEADER) as libc::c_ulong;
    // SAFETY: the header says how long the buffer is; the kernel reads and writes no further than that.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), request, buffer.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error()).context(operation, name);
    }
    let number = u64::from_ne_bytes(buffer[40..48].try_into().unwrap_or_default());
    let text = buffer[HEADER + TARGET..]
        .split(|byte| *byte == 0)
        .next()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .unwrap_or_default();
    Ok(Reply {
        // huge_encode_dev: minor's low byte, 12 bits of major, the rest of minor
        major: ((number >> 8) & 0xfff) as u32,
        minor: ((number & 0xff) | ((number >> 12) & 0xfff00)) as u32,
        text,
    })
}

fn put(buffer: &mut [u8], offset: usize, value: u32) {
    buffer[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verity_table_is_as_the_kernel_documents_it() {
        let verity = Verity {
            data_device: "254:2".into(),
            hash_device: "254:3".into(),
            data_block_size: 4096,
            hash_block_size: 4096,
            data_blocks: 1000,
            hash_start: 1,
            algorithm: "sha256".into(),
            root_hash: "ab".into(),
            salt: String::new(),
            options: vec!["panic_on_corruption".into(), "panic_on_error".into()],
        };
        assert_eq!(
            verity.parameters(),
            "1 254:2 254:3 4096 4096 1000 1 sha256 ab - 2 panic_on_corruption panic_on_error"
        );
        assert_eq!(verity.sectors(), 8000);
        let table = target("verity", 8000, "xyz");
        assert_eq!(table.len(), 48);
        assert_eq!(&table[24..30], b"verity");
    }
}

//! A file system whose disk no longer answers: FUSE, whose server (this) takes requests and says nothing. Whoever waits
//! for it waits in the kernel, out of SIGKILL's reach.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

/// Opcodes of linux/fuse.h.
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;

pub struct SilentDisk {
    device: File,
    /// `None` once it answers everything with EIO.
    unanswered: Arc<Mutex<Option<Vec<u64>>>>,
    asked: Receiver<()>,
}

impl SilentDisk {
    /// The server, and the descriptor to mount with.
    pub fn open() -> (Self, File) {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let unanswered = Arc::new(Mutex::new(Some(Vec::new())));
        let (tell, asked) = channel();
        let (server, list) = (device.try_clone().unwrap(), unanswered.clone());
        std::thread::spawn(move || {
            let mut server = server;
            let mut buffer = vec![0u8; 1 << 18];
            loop {
                match server.read(&mut buffer) {
                    Ok(count) if count >= 40 => {}
                    // Not mounted yet.
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                        std::thread::yield_now();
                        continue;
                    }
                    _ => return,
                }
                let opcode = u32::from_ne_bytes(buffer[4..8].try_into().unwrap());
                let unique = u64::from_ne_bytes(buffer[8..16].try_into().unwrap());
                match opcode {
                    INIT => answer(&server, unique, 0, &init()),
                    GETATTR => answer(&server, unique, 0, &attributes()),
                    FORGET | INTERRUPT => {}
                    _ => match &mut *list.lock().unwrap() {
                        Some(list) => {
                            list.push(unique);
                            tell.send(()).ok();
                        }
                        None => answer(&server, unique, -libc::EIO, &[]),
                    },
                }
            }
        });
        let server = Self {
            device: device.try_clone().unwrap(),
            unanswered,
            asked,
        };
        (server, device)
    }

    pub fn wait_for_a_request(&self) {
        self.asked
            .recv_timeout(std::time::Duration::from_secs(60))
            .unwrap();
    }

    /// The disk is torn out: everything fails now.
    pub fn release(&self) {
        for unique in self.unanswered.lock().unwrap().take().unwrap_or_default() {
            answer(&self.device, unique, -libc::EIO, &[]);
        }
    }
}

impl Drop for SilentDisk {
    fn drop(&mut self) {
        self.release();
    }
}

fn answer(mut device: &File, unique: u64, error: i32, payload: &[u8]) {
    let mut bytes = Vec::new();
    bytes.extend((16 + payload.len() as u32).to_ne_bytes());
    bytes.extend(error.to_ne_bytes());
    bytes.extend(unique.to_ne_bytes());
    bytes.extend(payload);
    // The request may have been given up.
    drop(device.write(&bytes));
}

/// `struct fuse_init_out`, version 7.31.
fn init() -> [u8; 64] {
    let mut out = [0u8; 64];
    out[0..4].copy_from_slice(&7u32.to_ne_bytes());
    out[4..8].copy_from_slice(&31u32.to_ne_bytes());
    out[20..24].copy_from_slice(&4096u32.to_ne_bytes()); // max_write
    out
}

/// `struct fuse_attr_out` of an empty folder.
fn attributes() -> [u8; 104] {
    let mut out = [0u8; 104];
    out[0..8].copy_from_slice(&3600u64.to_ne_bytes());
    out[16..24].copy_from_slice(&1u64.to_ne_bytes()); // ino
    out[76..80].copy_from_slice(&0o40755u32.to_ne_bytes());
    out[80..84].copy_from_slice(&2u32.to_ne_bytes()); // nlink
    out
}

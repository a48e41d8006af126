//! What the machine says about itself to the host it runs on: JSON lines on the virtio-serial port `atalaya.status`. Nothing
//! is read from it. The lines say states, not changes, so the whole can be said again at any time.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use atalaya_core::link::Action;
use nix::fcntl::OFlag;
use serde::Serialize;

const NAME: &str = "atalaya.status";

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Boot {
        version: String,
        build: String,
        slot: String,
        boot_id: String,
        mattermost: String,
        standin: bool,
    },
    Unit {
        unit: String,
        state: &'static str,
        ready: bool,
        pid: Option<i32>,
        run: u32,
        reason: Option<String>,
        t_ms: u64,
    },
    Address {
        addresses: Vec<String>,
        site: Option<String>,
    },
    Ca {
        pem: String,
        sha256: String,
    },
    Admit {
        admit: bool,
    },
    Stopping {
        action: Action,
    },
}

/// The port, once there is one.
#[derive(Default)]
pub struct Port {
    file: Option<File>,
    /// What the port did not take, less than a line's rest included, so that lines stay whole.
    pending: Vec<u8>,
}

/// More than this unread, and the host is not listening: it is thrown away, in whole lines, in bytes.
const PENDING_LIMIT: usize = 256 * 1024;

impl Port {
    /// Whether it is open now; it may appear late, when its driver is loaded.
    pub fn open(&mut self) -> bool {
        if self.file.is_none() {
            self.file = find().and_then(|path| {
                let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
                OpenOptions::new()
                    .write(true)
                    .custom_flags(flags.bits())
                    .open(path)
                    .ok()
            });
        }
        self.file.is_some()
    }

    pub fn say(&mut self, event: &Event) {
        if self.file.is_none() {
            return;
        }
        if self.pending.len() < PENDING_LIMIT
            && let Ok(line) = serde_json::to_vec(event)
        {
            self.pending.extend_from_slice(&line);
            self.pending.push(b'\n');
        }
        self.flush();
    }

    /// Writes what the port takes now.
    pub fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        while !self.pending.is_empty() {
            match file.write(&self.pending) {
                Ok(0) | Err(_) => break,
                Ok(written) => drop(self.pending.drain(..written)),
            }
        }
    }
}

fn find() -> Option<PathBuf> {
    let by_name = PathBuf::from("/dev/virtio-ports").join(NAME);
    if by_name.exists() {
        return Some(by_name);
    }
    fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .filter_map(Result::ok)
        .find_map(|entry| {
            let name = fs::read_to_string(entry.path().join("name")).ok()?;
            (name.trim() == NAME).then(|| PathBuf::from("/dev").join(entry.file_name()))
        })
}

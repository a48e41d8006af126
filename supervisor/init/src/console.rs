//! Lines for the person in front of the machine: every console the kernel uses, each behind a bounded buffer.
//!
//! A write never waits: a terminal stopped by Ctrl-S or a dead serial line must not stop PID 1. What does not fit is
//! dropped, oldest first, and counted. The same lines go to the kernel's log, from where atalayad takes them.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// As much as a slow serial line (115,200 baud) shows in a second and a half.
const LIMIT: usize = 16 * 1024;
/// /dev/console is only the last of them; a screen and a serial line are both in front of somebody.
const ACTIVE: &str = "/sys/class/tty/console/active";
const KERNEL_LOG: &str = "/dev/kmsg";
/// The kernel refuses longer records (LOG_LINE_MAX of kernel/printk/printk.c), in bytes.
const RECORD_LIMIT: usize = 900;

/// All consoles.
#[derive(Debug, Default)]
pub struct Console {
    screens: Vec<Screen>,
    kernel_log: Option<File>,
}

/// One console, or nothing while it cannot be opened: lines then wait in its buffer.
#[derive(Debug, Default)]
struct Screen {
    path: PathBuf,
    device: Option<File>,
    waiting: VecDeque<u8>,
    dropped: u64,
}

impl Console {
    /// The consoles that the kernel uses now.
    pub fn new() -> Self {
        let active = std::fs::read_to_string(ACTIVE).unwrap_or_default();
        let mut screens: Vec<Screen> = active
            .split_ascii_whitespace()
            .map(|name| Screen::open_at(Path::new("/dev").join(name)))
            .filter(|screen| screen.device.is_some())
            .collect();
        if screens.is_empty() {
            screens.push(Screen::open_at(PathBuf::from("/dev/console")));
        }
        Self {
            screens,
            // Writing there never waits. Without it the screens have the lines.
            kernel_log: OpenOptions::new().write(true).open(KERNEL_LOG).ok(),
        }
    }

    /// One line: time since power-on, stage, text.
    pub fn say(&mut self, stage: &str, text: &str) {
        let now = atalaya_sys::host::boottime_ms();
        let line = format!("[{:>5}.{:03}] {stage}: {text}\n", now / 1000, now % 1000);
        self.write(line.as_bytes());
        if let Some(log) = &mut self.kernel_log {
            // One write is one record; one that is refused is only missing there.
            log.write_all(&record(stage, text)).ok();
        }
    }

    /// Bytes as they are (a child's output).
    pub fn write(&mut self, bytes: &[u8]) {
        for screen in &mut self.screens {
            screen.write(bytes);
        }
    }

    /// Writes what can be written now.
    pub fn flush(&mut self) {
        for screen in &mut self.screens {
            screen.flush();
        }
    }

    /// The descriptors to wait on for writing, where something waits.
    pub fn blocked(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.screens
            .iter()
            .filter(|screen| !screen.waiting.is_empty())
            .filter_map(|screen| screen.device.as_ref().map(AsFd::as_fd))
    }
}

impl Screen {
    fn open_at(path: PathBuf) -> Self {
        let mut screen = Self {
            path,
            ..Self::default()
        };
        screen.open();
        screen
    }

    fn open(&mut self) {
        // It must not become the controlling terminal of PID 1, nor wait for a carrier.
        self.device = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(&self.path)
            .ok();
    }

    fn write(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        self.flush();
        if self.waiting.len() > LIMIT {
            let excess = self.waiting.len() - LIMIT;
            self.waiting.drain(..excess);
            self.dropped += excess as u64;
        }
    }

    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if self.device.is_none() {
            self.open();
        }
        if self.dropped > 0 && self.waiting.len() < LIMIT / 2 {
            let note = format!("[console: {} bytes were dropped]\n", self.dropped);
            self.dropped = 0;
            for byte in note.bytes().rev() {
                self.waiting.push_front(byte);
            }
        }
        while let Some(device) = &mut self.device {
            let (front, _) = self.waiting.as_slices();
            if front.is_empty() {
                return;
            }
            match device.write(front) {
                Ok(0) => return,
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Gone (a USB serial line pulled out): try to open it again the next time.
                Err(_) => {
                    self.device = None;
                    return;
                }
            }
        }
    }
}

/// As the kernel's log takes it: facility daemon, informational, so that `quiet` keeps it off the screens.
fn record(stage: &str, text: &str) -> Vec<u8> {
    let mut record = format!("<30>init: {stage}: {text}");
    let end = (0..=RECORD_LIMIT.min(record.len()))
        .rev()
        .find(|end| record.is_char_boundary(*end));
    record.truncate(end.unwrap_or(0));
    // Without it the kernel keeps the record open until the next one comes.
    record.push('\n');
    record.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_as_long_as_the_kernel_takes_it_and_whole_in_its_characters() {
        assert_eq!(record("data", "ready"), b"<30>init: data: ready\n");
        let long = record("data", &"\u{e9}".repeat(1000));
        assert!(long.len() <= RECORD_LIMIT + 1 && std::str::from_utf8(&long).is_ok());
    }

    #[test]
    fn a_console_that_does_not_take_anything_costs_a_bounded_buffer() {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let stopped = Screen {
            device: Some(File::from(writer)),
            ..Screen::default()
        };
        let mut console = Console {
            screens: vec![stopped],
            kernel_log: None,
        };
        for _ in 0..10_000 {
            console.say("test", "a line that nobody reads");
        }
        assert!(console.screens[0].waiting.len() <= LIMIT);
        assert!(console.screens[0].dropped > 0);
        assert_eq!(console.blocked().count(), 1);
        drop(reader);
    }
}

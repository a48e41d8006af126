//! Lines for the person in front of the machine: /dev/console behind a bounded buffer.
//!
//! A write never waits: a terminal stopped by Ctrl-S or a dead serial line must not stop PID 1. What does not fit is
//! dropped, oldest first, and counted.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// As much as a slow serial line (115,200 baud) shows in a second and a half.
const LIMIT: usize = 16 * 1024;
const PATH: &str = "/dev/console";

/// The console, or nothing while there is none: lines then wait in the buffer.
#[derive(Debug, Default)]
pub struct Console {
    device: Option<File>,
    waiting: VecDeque<u8>,
    dropped: u64,
}

impl Console {
    pub fn new() -> Self {
        let mut console = Self::default();
        console.open();
        console
    }

    /// One line: time since power-on, stage, text.
    pub fn say(&mut self, stage: &str, text: &str) {
        let now = atalaya_sys::host::boottime_ms();
        let line = format!("[{:>5}.{:03}] {stage}: {text}\n", now / 1000, now % 1000);
        self.write(line.as_bytes());
    }

    /// Bytes as they are (a child's output).
    pub fn write(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        self.flush();
        if self.waiting.len() > LIMIT {
            let excess = self.waiting.len() - LIMIT;
            self.waiting.drain(..excess);
            self.dropped += excess as u64;
        }
    }

    /// Writes what can be written now.
    pub fn flush(&mut self) {
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
                Err(error) => match error.kind() {
                    std::io::ErrorKind::WouldBlock => return,
                    std::io::ErrorKind::Interrupted => {}
                    // Gone (a USB serial line pulled out): try to open it again the next time.
                    _ => {
                        self.device = None;
                        return;
                    }
                },
            }
        }
    }

    /// The descriptor to wait on for writing, while something waits.
    pub fn blocked(&self) -> Option<BorrowedFd<'_>> {
        if self.waiting.is_empty() {
            return None;
        }
        self.device.as_ref().map(AsFd::as_fd)
    }

    fn open(&mut self) {
        // The console must not become the controlling terminal of PID 1.
        self.device = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(PATH)
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_that_does_not_take_anything_costs_a_bounded_buffer() {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        let mut console = Console {
            device: Some(File::from(writer)),
            ..Console::default()
        };
        for _ in 0..10_000 {
            console.say("test", "a line that nobody reads");
        }
        assert!(console.waiting.len() <= LIMIT);
        assert!(console.dropped > 0);
        assert!(console.blocked().is_some());
        drop(reader);
    }
}

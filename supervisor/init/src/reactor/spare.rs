//! Descriptors put by for the day on which none is free: PID 1 must still be able to read which unit a zombie belonged to
//! and to start atalayad.

use atalaya_sys::Result;
use std::fs::File;

/// What starting atalayad takes at once: a socket pair, /dev/null, a cgroup, a pidfd; and some to spare.
const COUNT: usize = 8;

/// Opened early, so that their numbers are low: they are free again below any later limit.
#[derive(Debug)]
pub struct Spare {
    files: Vec<File>,
}

impl Spare {
    pub fn new() -> Self {
        let mut spare = Self { files: Vec::new() };
        spare.fill();
        spare
    }

    /// Does it; if no descriptor was free for it, once more with those that were put by.
    pub fn lend<T>(&mut self, mut action: impl FnMut() -> Result<T>) -> Result<T> {
        let outcome = match action() {
            Err(error) if matches!(error.errno(), libc::EMFILE | libc::ENFILE) => {
                self.files.clear();
                action()
            }
            other => other,
        };
        self.fill();
        outcome
    }

    /// For good: what comes now may need them all.
    pub fn give_up(&mut self) {
        self.files.clear();
    }

    fn fill(&mut self) {
        while self.files.len() < COUNT {
            match File::open("/dev/null") {
                Ok(file) => self.files.push(file),
                Err(_) => return,
            }
        }
    }
}

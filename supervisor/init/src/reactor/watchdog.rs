//! Feeds the hardware watchdog that stage 1 has armed.

use crate::console::Console;
use crate::stage1::WATCHDOG_ENV;
use atalaya_sys::fds;
use atalaya_sys::watchdog::{CARD_RESET, Watchdog};
use std::fs::File;
use std::path::Path;

const DEVICE: &str = "/dev/watchdog0";
const LIMIT_S: u16 = 60;
const PERIOD_MS: u64 = 10_000;

/// The watchdog, if the machine has one.
#[derive(Debug, Default)]
pub struct Feeder {
    watchdog: Option<Watchdog>,
    next: u64,
    has_reset: bool,
}

impl Feeder {
    /// Takes over the descriptor from stage 1, or opens the device.
    pub fn take_over(console: &mut Console) -> Self {
        let inherited = std::env::var(WATCHDOG_ENV)
            .ok()
            .and_then(|number| number.parse().ok());
        let watchdog = match inherited {
            Some(number) => fds::take_inherited(number)
                .map(|fd| Some(Watchdog::from_file(File::from(fd), DEVICE.to_owned()))),
            None if Path::new(DEVICE).exists() => Watchdog::open(Path::new(DEVICE)).map(Some),
            None => Ok(None),
        };
        let watchdog = watchdog.unwrap_or_else(|error| {
            console.say("watchdog", &error.chain());
            None
        });
        if let Some(Err(error)) = watchdog
            .as_ref()
            .map(|watchdog| watchdog.set_timeout(LIMIT_S))
        {
            console.say("watchdog", &error.chain());
        }
        let has_reset = watchdog
            .as_ref()
            .and_then(|watchdog| watchdog.boot_status().ok())
            .is_some_and(|status| status & CARD_RESET != 0);
        if has_reset {
            console.say(
                "watchdog",
                "the watchdog restarted the machine: it had hung before",
            );
        }
        Self {
            watchdog,
            next: 0,
            has_reset,
        }
    }

    /// Whether it caused the last restart.
    pub fn has_reset(&self) -> bool {
        self.has_reset
    }

    pub fn deadline(&self) -> Option<u64> {
        self.watchdog.as_ref().map(|_| self.next)
    }

    /// Feeds it if it is time. One that refuses is told about and left: it will restart the machine.
    pub fn feed(&mut self, now: u64, console: &mut Console) {
        if now < self.next {
            return;
        }
        self.next = now + PERIOD_MS;
        if let Some(Err(error)) = self.watchdog.as_ref().map(Watchdog::pet) {
            console.say("watchdog", &error.chain());
        }
    }
}

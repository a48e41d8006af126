//! /usr/sbin/poweroff, reboot and halt: ask PID 1 by signal. The kernel itself runs the first two (ACPI, thermal).

use atalaya_core::link::{Action, Source};
use atalaya_sys::pidfd;
use std::os::fd::AsFd;

/// Signal numbers are systemd's: SIGRTMIN (34 with glibc) and 3, 4, 5 above it.
pub const HALT: i32 = 37;
pub const POWEROFF: i32 = 38;
pub const REBOOT: i32 = 39;

/// What a signal to PID 1 asks for.
pub fn request_of(signal: i32) -> Option<(Action, Source)> {
    match signal {
        // The kernel's, on Ctrl-Alt-Del.
        libc::SIGINT => Some((Action::Reboot, Source::CtrlAltDel)),
        libc::SIGTERM | libc::SIGPWR | POWEROFF => Some((Action::Poweroff, Source::Signal)),
        REBOOT => Some((Action::Reboot, Source::Signal)),
        HALT => Some((Action::Halt, Source::Signal)),
        _ => None,
    }
}

/// Runs under the name in `argv0`; the exit status.
pub fn run(argv0: &str) -> i32 {
    let signal = match argv0.rsplit('/').next().unwrap_or_default() {
        "poweroff" => POWEROFF,
        "reboot" => REBOOT,
        "halt" => HALT,
        other => {
            eprintln!("{other}: to be called as poweroff, reboot or halt; nothing was done");
            return 2;
        }
    };
    match pidfd::open(1).and_then(|init| pidfd::send_signal(init.as_fd(), signal)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!(
                "{}; the machine goes on running; this needs root",
                error.chain()
            );
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_c_librarys() {
        assert_eq!(
            [HALT, POWEROFF, REBOOT],
            [3, 4, 5].map(|offset| libc::SIGRTMIN() + offset)
        );
        assert_eq!(request_of(REBOOT), Some((Action::Reboot, Source::Signal)));
        assert_eq!(request_of(libc::SIGHUP), None);
    }
}

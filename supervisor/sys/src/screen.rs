//! Who writes to a terminal now: a program that draws a screen on it takes it, and others leave it alone for so long. What
//! is held is a lock on a file named after the terminal; it ends with its holder, however that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg, OFlag};

/// Where the locks are, on the appliance. Only the screens' user writes there.
pub const DIRECTORY: &str = "/run/atalaya-console";

/// The terminal is ours until this is dropped.
#[derive(Debug)]
pub struct Lease {
    _lock: Flock<File>,
}

/// Takes the terminal `tty` (such as `ttyS0`).
///
/// # Errors
/// The file cannot be made or locked.
pub fn take(directory: &Path, tty: &str) -> io::Result<Lease> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(directory.join(tty))?;
    // Those who look hold it for a moment only.
    Flock::lock(file, FlockArg::LockExclusive)
        .map(|lock| Lease { _lock: lock })
        .map_err(|(_, error)| error.into())
}

/// Whether somebody draws on it now.
pub fn is_taken(directory: &Path, tty: &str) -> bool {
    let opened = OpenOptions::new()
        .read(true)
        // Whatever lies there: it is neither followed nor waited for.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(directory.join(tty));
    let Ok(file) = opened else { return false };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(lock) => {
            drop(lock);
            false
        }
        Err((_, error)) => error == nix::errno::Errno::EWOULDBLOCK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_taken_for_as_long_as_the_lease_lives() {
        let directory = std::env::temp_dir().join(format!("atalaya-screen-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        assert!(!is_taken(&directory, "ttyS0"), "nobody was ever there");
        let lease = take(&directory, "ttyS0").unwrap();
        assert!(is_taken(&directory, "ttyS0"));
        assert!(!is_taken(&directory, "tty1"), "each has its own");
        drop(lease);
        assert!(!is_taken(&directory, "ttyS0"));
        // Nobody can make those who look wait, or look elsewhere.
        nix::unistd::mkfifo(&directory.join("hvc0"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(!is_taken(&directory, "hvc0"));
        std::os::unix::fs::symlink("ttyS0", directory.join("tty2")).unwrap();
        assert!(!is_taken(&directory, "tty2"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

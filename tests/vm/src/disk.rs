//! Disks: a raw file, one whose writes are thrown away or recorded, or one that is served: by nbdkit, which can stop
//! answering while the machine runs, or by [`crate::CrashDisk`].

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::VmError;
use crate::process::{Invocation, Process};

/// nbdkit makes its sockets at once.
const SOCKET_LIMIT: Duration = Duration::from_secs(20);
/// Before it answers that it pauses, it finishes what it has begun.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A raw disk.
#[derive(Debug, Clone)]
pub struct Disk {
    pub(crate) place: Place,
    pub(crate) read_only: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    /// A file that is not changed: what is written is gone when QEMU has ended, and not before.
    ThrownAway(PathBuf),
    /// A file, and where every write and flush is logged.
    Recorded(PathBuf, PathBuf),
    /// The socket of a server.
    Served(PathBuf),
}

impl Disk {
    /// A disk that the guest may write.
    pub fn new(path: impl Into<PathBuf>) -> Disk {
        Disk {
            place: Place::File(path.into()),
            read_only: false,
        }
    }

    /// A disk that the guest may write, and the file stays as it is: many machines can begin with one. What is written
    /// outlives the guest's restarts and not QEMU's end.
    pub fn thrown_away(path: impl Into<PathBuf>) -> Disk {
        Disk {
            place: Place::ThrownAway(path.into()),
            read_only: false,
        }
    }

    /// A disk that the guest may write, and a log of it for [`crate::WriteLog`]. The log is made anew.
    pub fn recorded(path: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Disk {
        Disk {
            place: Place::Recorded(path.into(), log.into()),
            read_only: false,
        }
    }

    pub(crate) fn served(socket: PathBuf) -> Disk {
        Disk {
            place: Place::Served(socket),
            read_only: false,
        }
    }

    /// A disk that the guest can only read.
    pub fn read_only(path: impl Into<PathBuf>) -> Disk {
        Disk {
            place: Place::File(path.into()),
            read_only: true,
        }
    }
}

/// Serves a raw file as a disk that can stop answering. Dropping it takes the disk away.
#[derive(Debug)]
pub struct DiskServer {
    // Before the directory, so that it is gone before its sockets are.
    _process: Process,
    directory: TempDir,
}

impl DiskServer {
    /// Begins to serve the file.
    pub fn start(file: &Path) -> Result<DiskServer, VmError> {
        let directory = tempfile::Builder::new()
            .prefix("atalaya-disk-")
            .tempdir()
            .map_err(VmError::io("make", "a temporary directory"))?;
        let at = |name: &str| directory.path().join(name);
        let mut control = std::ffi::OsString::from("pause-control=");
        control.push(at("control"));
        let words = ["nbdkit", "--foreground", "--exit-with-parent", "--unix"].map(PathBuf::from);
        let mut words = Vec::from(words);
        words.extend([at("socket"), "--filter=pause".into(), "file".into()]);
        words.extend([file.to_owned(), control.into()]);
        let process = Process::start(Invocation {
            words,
            environment: Vec::new(),
            messages: at("messages"),
        })?;
        let deadline = Instant::now() + SOCKET_LIMIT;
        while !(at("socket").exists() && at("control").exists()) {
            let said = || std::fs::read_to_string(at("messages")).unwrap_or_default();
            if process.exit().is_some() || Instant::now() > deadline {
                return Err(VmError::Protocol {
                    peer: "nbdkit",
                    answer: said(),
                });
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(DiskServer {
            _process: process,
            directory,
        })
    }

    /// The disk, for a machine.
    #[must_use]
    pub fn disk(&self) -> Disk {
        Disk::served(self.directory.path().join("socket"))
    }

    /// Finishes what the disk has begun and answers nothing from then on.
    pub fn pause(&self) -> Result<(), VmError> {
        self.say(b"p", b"P")
    }

    /// Answers again, also what was asked meanwhile.
    pub fn resume(&self) -> Result<(), VmError> {
        self.say(b"r", b"R")
    }

    fn say(&self, word: &[u8; 1], expected: &[u8; 1]) -> Result<(), VmError> {
        let mut answer = [0];
        let mut talk = || -> std::io::Result<()> {
            let mut control = UnixStream::connect(self.directory.path().join("control"))?;
            control.set_read_timeout(Some(ANSWER_LIMIT))?;
            control.write_all(word)?;
            control.read_exact(&mut answer)
        };
        talk().map_err(VmError::io("give an order to", "nbdkit"))?;
        if answer == *expected {
            return Ok(());
        }
        Err(VmError::Protocol {
            peer: "nbdkit",
            answer: String::from_utf8_lossy(&answer).into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_disk_can_be_stopped_and_let_go() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let server = DiskServer::start(file.path()).unwrap();
        server.pause().unwrap();
        server.resume().unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_its_name() {
        let error = DiskServer::start(Path::new("/no/such/disk")).unwrap_err();
        assert!(error.to_string().contains("/no/such/disk"), "{error}");
    }
}

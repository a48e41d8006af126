//! cgroup v2 directories: make, limit, kill, look, remove.

use crate::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A cgroup by its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Names the cgroup at `path`; touches nothing.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Makes the directory; that it exists already is no error.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.context("create cgroup", path.display())?,
        }
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For `spawn::Spec::cgroup`.
    pub fn open(&self) -> Result<OwnedFd> {
        open(
            &self.path,
            OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .context("open cgroup", self.path.display())
    }

    /// Writes one control file, such as (`memory.max`, `536870912`).
    pub fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.path.join(file);
        // One write call: the kernel takes a control file's value as a whole. Never O_CREAT.
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut handle| handle.write_all(value.as_bytes()))
            .context("write", format_args!("{value} to {}", path.display()))
    }

    /// Reads one control file.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.path.join(file);
        std::fs::read_to_string(&path).context("read", path.display())
    }

    /// Moves a process here.
    pub fn add(&self, pid: i32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// SIGKILL to every process in it and below, also to those that fork meanwhile.
    pub fn kill(&self) -> Result<()> {
        self.write("cgroup.kill", "1")
    }

    /// Whether a process, zombies of the whole group excepted, is in it or below. A cgroup that is gone has none.
    pub fn populated(&self) -> Result<bool> {
        match self.read("cgroup.events") {
            Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
            Err(error) if matches!(error.errno(), libc::ENOENT | libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The processes directly in it.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(self
            .read("cgroup.procs")?
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect())
    }

    /// Removes it and all below it, deepest first; they must be empty. That it is gone is no error.
    pub fn remove(&self) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(&self.path) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                Self::at(entry.path()).remove()?;
            }
        }
        match std::fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.context("remove cgroup", self.path.display()),
        }
    }
}

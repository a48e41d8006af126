//! The QEMU process: started in a process group of its own (a Ctrl-C at the terminal is the caller's to handle, not
//! QEMU's), ended with the caller, signalled only while it surely exists.
//!
//! One thread starts the process, waits for it and reaps it. It does both because the signal that ends QEMU with its
//! parent comes when the *thread* that started it is gone.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::VmError;

/// How QEMU ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(ExitStatus);

impl Exit {
    /// QEMU ended as asked: the guest switched off, or `quit`.
    #[must_use]
    pub fn success(&self) -> bool {
        self.0.success()
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    exit: Mutex<Option<Exit>>,
    ended: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Exit>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose words, with which environment, messages into which file.
pub(crate) struct Invocation {
    pub words: Vec<PathBuf>,
    pub environment: Vec<(&'static str, PathBuf)>,
    pub messages: PathBuf,
}

impl Process {
    pub(crate) fn start(invocation: Invocation) -> Result<Process, VmError> {
        let shared = Arc::new(Shared::default());
        let owner = Arc::clone(&shared);
        let (report, started) = mpsc::channel();
        thread::Builder::new()
            .name("qemu".to_owned())
            .spawn(move || own_process(&invocation, &owner, &report))
            .map_err(VmError::io("start", "the thread that waits for QEMU"))?;
        let pid = started
            .recv()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended")));
        Ok(Process {
            pid: pid.map_err(VmError::io("start", "QEMU"))?,
            shared,
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.shared.lock()
    }

    /// Waits up to `timeout` for the end.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<Exit> {
        let deadline = Instant::now() + timeout;
        let mut exit = self.shared.lock();
        while exit.is_none() {
            let left = deadline.checked_duration_since(Instant::now())?;
            exit = self
                .shared
                .ended
                .wait_timeout(exit, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *exit
    }

    /// Pulls the plug. The lock is held, so the pid cannot have been reaped and given to somebody else.
    pub(crate) fn kill(&self) {
        let exit = self.shared.lock();
        if exit.is_none() {
            // It can only fail because the process is already a zombie; the waiting thread sees to that.
            kill(self.pid, Signal::SIGKILL).ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.wait(Duration::from_secs(10));
    }
}

fn own_process(
    invocation: &Invocation,
    shared: &Shared,
    report: &mpsc::Sender<std::io::Result<Pid>>,
) {
    let child = messages_file(&invocation.messages).and_then(|messages| {
        // setpriv (util-linux, on every Debian) asks the kernel to end QEMU when this thread is gone; from here that
        // would take unsafe code between fork and exec.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .args(&invocation.words);
        command.envs(
            invocation
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
            .stdin(Stdio::null())
            .stdout(messages.try_clone()?)
            .stderr(messages);
        command.process_group(0).spawn()
    });
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            report.send(Err(error)).ok();
            return;
        }
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    report.send(Ok(pid)).ok();
    // Wait without reaping, and reap under the lock that kill() takes.
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
        == Err(nix::errno::Errno::EINTR)
    {}
    let mut exit = shared.lock();
    *exit = Some(Exit(
        child
            .wait()
            .unwrap_or_else(|_| ExitStatus::from_raw(0xff00)),
    ));
    drop(exit);
    shared.ended.notify_all();
}

fn messages_file(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(words: &[&str]) -> (tempfile::TempDir, Process) {
        let dir = tempfile::tempdir().unwrap();
        let words = words.iter().map(PathBuf::from).collect();
        let messages = dir.path().join("messages");
        let process = Process::start(Invocation {
            words,
            environment: Vec::new(),
            messages,
        })
        .unwrap();
        (dir, process)
    }

    #[test]
    fn the_end_is_seen_and_says_how() {
        let (_dir, process) = start(&["true"]);
        assert!(process.wait(Duration::from_secs(10)).unwrap().success());
        let (_dir, process) = start(&["false"]);
        assert!(!process.wait(Duration::from_secs(10)).unwrap().success());
    }

    #[test]
    fn it_has_its_own_process_group() {
        let (_dir, process) = start(&["sleep", "60"]);
        let pid = Pid::from_raw(process.pid());
        assert_eq!(nix::unistd::getpgid(Some(pid)).unwrap(), pid);
    }

    #[test]
    fn dropping_ends_it() {
        let (_dir, process) = start(&["sleep", "60"]);
        let pid = Pid::from_raw(process.pid());
        drop(process);
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
    }
}

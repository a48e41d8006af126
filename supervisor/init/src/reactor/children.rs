//! What PID 1 itself starts: the preparation of /data, and atalayad.

use crate::console::Console;
use crate::machine::cgroups::{self, DAEMON};
use atalaya_core::link::FD_ENV;
use atalaya_sys::cgroup::Cgroup;
use atalaya_sys::spawn::{Parent, Spec, clone_into};
use atalaya_sys::{Context, Result, pidfd, seqpacket};
use nix::fcntl::OFlag;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, pipe2};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DAEMON_PROGRAM: &str = "/usr/lib/atalaya/atalayad";
/// This program, whatever its path.
pub const SELF: &str = "/proc/self/exe";
const PATH: &str = "PATH=/usr/bin:/usr/sbin";
/// Making the partition and its file system take at most 7 minutes; the rest is for a log that is replayed.
const DATA_LIMIT_MS: u64 = 15 * 60_000;
/// Whether /data is there: `ready` or `absent`.
const DATA_ENV: &str = "ATALAYA_DATA";
const LINK_FD: i32 = 3;
const MODPROBE: &str = "/usr/sbin/modprobe";

/// A child that PID 1 waits for.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    handle: OwnedFd,
}

impl Child {
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd::send_signal(self.handle.as_fd(), signal)
    }

    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// The child that prepares /data.
#[derive(Debug)]
pub struct DataChild {
    pub child: Child,
    pub deadline: u64,
}

/// Starts this program in another role, with nothing open but /dev/null.
pub fn start_self(words: &[&str]) -> Result<Child> {
    start(SELF, "atalaya-init", words)
}

fn start(program: &str, name: &str, words: &[&str]) -> Result<Child> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("open", "/dev/null")?;
    let null = null.as_fd();
    let mut args = vec![text(name)?];
    for word in words {
        args.push(text(word)?);
    }
    let (pid, handle) = clone_into(&Spec {
        program: text(program)?,
        args,
        env: vec![text(PATH)?],
        fds: vec![(null, 0), (null, 1), (null, 2)],
        cgroup: None,
        parent: Parent::Caller,
        new_session: true,
    })?;
    Ok(Child { pid, handle })
}

/// The drivers behind which the kernel keeps what it said before a crash (pstore). Those of hardware that is not there load
/// and do nothing; options on the kernel's command line are modprobe's to read. Nobody waits for it.
pub fn load_crash_stores(console: &mut Console) {
    if let Err(error) = start(MODPROBE, MODPROBE, &["-q", "-a", "efi_pstore", "ramoops"]) {
        console.say("pstore", &error.chain());
    }
}

pub fn start_data(console: &mut Console, now: u64) -> Option<DataChild> {
    match start_self(&["prepare-data"]) {
        Ok(child) => Some(DataChild {
            child,
            deadline: now + DATA_LIMIT_MS,
        }),
        Err(error) => {
            console.say("data", &error.chain());
            None
        }
    }
}

/// Starts atalayad in its cgroup; returns it and PID 1's end of the link.
pub fn start_daemon(output: Option<&File>, data_ready: bool) -> Result<(Child, OwnedFd)> {
    let (ours, theirs) = seqpacket::pair()?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("open", "/dev/null")?;
    let output = output.map_or(null.as_fd(), AsFd::as_fd);
    let cgroup = Cgroup::at(cgroups::path(DAEMON));
    // Helpers of a dead atalayad; units are elsewhere.
    if cgroup.populated().unwrap_or(false) {
        cgroup.kill()?;
    }
    // A machine without cgroups is worth less, but still worth something.
    let directory = cgroup.open().ok();
    let state = if data_ready { "ready" } else { "absent" };
    let (pid, handle) = clone_into(&Spec {
        program: text(DAEMON_PROGRAM)?,
        args: vec![text(DAEMON_PROGRAM)?],
        env: vec![
            text(PATH)?,
            text(&format!("{FD_ENV}={LINK_FD}"))?,
            text(&format!("{DATA_ENV}={state}"))?,
        ],
        fds: vec![
            (null.as_fd(), 0),
            (output, 1),
            (output, 2),
            (theirs.as_fd(), LINK_FD),
        ],
        cgroup: directory.as_ref().map(AsFd::as_fd),
        parent: Parent::Caller,
        new_session: true,
    })?;
    protect_from_oom(pid);
    Ok((Child { pid, handle }, ours))
}

/// PID 1 and atalayad are never the ones to pay for memory. Where it cannot be set, nothing is lost but that.
fn protect_from_oom(pid: i32) {
    use std::io::Write;
    let path = format!("/proc/{pid}/oom_score_adj");
    drop(
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"-1000")),
    );
}

/// The pipe that carries what atalayad prints (its panics, above all) to the console; both ends non-blocking, so that
/// neither side can stop the other.
pub fn output_pipe(console: &mut Console) -> (Option<File>, Option<File>) {
    let outcome = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
    match outcome {
        Ok((reader, writer)) => (Some(File::from(reader)), Some(File::from(writer))),
        Err(errno) => {
            console.say(
                "init",
                &format!("failed to make a pipe for atalayad: {errno}"),
            );
            (None, None)
        }
    }
}

/// The kernel leaves a blocking console on 0 to 2; nothing may ever be written there by accident.
pub fn silence_standard_streams(console: &mut Console) {
    let outcome = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .and_then(|null| {
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            dup2_stderr(&null)?;
            Ok(())
        });
    if let Err(error) = outcome {
        console.say(
            "init",
            &format!("failed to silence the standard streams: {error}"),
        );
    }
}

fn text(value: &str) -> Result<CString> {
    CString::new(value)
        .map_err(io::Error::from)
        .context("use", value)
}

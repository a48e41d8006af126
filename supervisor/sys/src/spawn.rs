//! Starting a process with clone3, without inheriting anything that was not named.
//!
//! Between clone and exec the child only makes system calls on memory that the parent prepared: no allocation, no lock,
//! so that it is safe to call from a process with threads.

use crate::error::check;
use crate::{Context, Result};
use std::ffi::{CStr, CString};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// Exit status of a child that could not arrange its descriptors.
pub const EXIT_SETUP: i32 = 125;
/// Exit status of a child whose program could not be executed.
pub const EXIT_EXEC: i32 = 127;

/// Whose child the new process becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// The caller's, as usual.
    Caller,
    /// The caller's parent's (CLONE_PARENT): it lives on, unnoticed, when the caller dies. Not possible for PID 1.
    Grandparent,
}

/// What to start. Everything that is not here is reset: signal mask empty, all dispositions default (SIGPIPE too), no
/// descriptors but `fds`.
#[derive(Debug)]
pub struct Spec<'a> {
    /// An absolute path; PATH is not searched.
    pub program: CString,
    /// With argv[0].
    pub args: Vec<CString>,
    /// `KEY=VALUE`, complete.
    pub env: Vec<CString>,
    /// What is open in the new process: (source, number there), in any order, overlaps allowed. 0 to 2 too.
    pub fds: Vec<(BorrowedFd<'a>, i32)>,
    /// An open cgroup v2 directory in which it is born.
    pub cgroup: Option<BorrowedFd<'a>>,
    pub parent: Parent,
    /// A new session, without a controlling terminal.
    pub new_session: bool,
}

/// `struct clone_args` of linux/sched.h (version 2, 88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Starts the process; returns its pid and pidfd at once, before exec has happened.
///
/// A failure between clone and exec shows as exit status [`EXIT_SETUP`] or [`EXIT_EXEC`].
///
/// # Errors
/// clone3's own: `EAGAIN` (no room for a process), `EBUSY` (the cgroup has processes in sub-groups), `EINVAL`
/// (CLONE_PARENT from PID 1).
pub fn clone_into(spec: &Spec<'_>) -> Result<(i32, OwnedFd)> {
    let plan = Plan::new(spec);
    let mut pidfd: i32 = -1;
    let mut flags = libc::CLONE_PIDFD as u64;
    let mut exit_signal = libc::SIGCHLD as u64;
    if spec.parent == Parent::Grandparent {
        flags |= libc::CLONE_PARENT as u64;
        exit_signal = 0; // the kernel refuses any other here; exec sets SIGCHLD
    }
    let mut cgroup = 0;
    if let Some(directory) = spec.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = directory.as_raw_fd() as u64;
    }
    let arguments = CloneArgs {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal,
        cgroup,
        ..CloneArgs::default()
    };
    // SAFETY: the sigset_t are plain data filled by sigfillset and pthread_sigmask. Without CLONE_VM the child has a copy
    // of the memory and of this stack, so returning 0 there is like fork; it then calls only `become_program`, which
    // never returns and makes nothing but system calls on what `plan` holds. Signals are blocked around it, so that no
    // handler of the parent runs in the child.
    let result = unsafe {
        let mut all: libc::sigset_t = zeroed();
        let mut before: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let result = libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArgs>(),
        );
        if result == 0 {
            plan.become_program();
        }
        let result = check(result);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        result
    };
    let pid = result.context("start", spec.program.to_string_lossy())?;
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel has put a new descriptor there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((pid as i32, pidfd))
}

/// Gives this process the signals that a program expects to start with: default dispositions, nothing blocked. To be
/// called right before exec, in a process with one thread.
pub fn reset_signals() {
    // SAFETY: no handler is installed, only defaults; the set is plain data, filled before it is used.
    unsafe {
        reset_dispositions();
        let mut none: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// # Safety
/// The process's own handlers are gone afterwards.
unsafe fn reset_dispositions() {
    // The kernel's own `struct sigaction` (32 bytes, all zero is SIG_DFL): the C library's function leaves out 32 and 33,
    // which may be ignored too. KILL and STOP answer EINVAL: nothing to reset there.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: a system call on memory that outlives it.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                8,
            );
        }
    }
}

/// linux/sched.h; libc has it as an i32 that does not hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// All that the child needs, in memory before the clone.
struct Plan<'a> {
    program: &'a CStr,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    /// (source, number in the child)
    fds: Vec<(i32, i32)>,
    /// Lowest number that no descriptor of the child uses.
    first_free: i32,
    new_session: bool,
}

impl<'a> Plan<'a> {
    fn new(spec: &'a Spec<'_>) -> Self {
        let pointers = |list: &'a [CString]| {
            let mut pointers: Vec<_> = list.iter().map(|item| item.as_ptr()).collect();
            pointers.push(ptr::null());
            pointers
        };
        let fds: Vec<_> = spec
            .fds
            .iter()
            .map(|(fd, number)| (fd.as_raw_fd(), *number))
            .collect();
        Self {
            program: &spec.program,
            argv: pointers(&spec.args),
            envp: pointers(&spec.env),
            first_free: fds
                .iter()
                .map(|(_, number)| number + 1)
                .max()
                .unwrap_or(0)
                .max(3),
            fds,
            new_session: spec.new_session,
        }
    }

    /// Runs in the child only.
    ///
    /// # Safety
    /// To be called once, in a process that has just been cloned and has one thread.
    unsafe fn become_program(&self) -> ! {
        // SAFETY: only async-signal-safe calls on memory that was prepared before the clone; `fds` is walked by index,
        // and the temporary numbers live in a fixed array on the stack.
        unsafe {
            reset_dispositions();
            if self.new_session {
                libc::setsid();
            }
            if !self.arrange_fds() {
                libc::_exit(EXIT_SETUP);
            }
            let mut none: libc::sigset_t = zeroed();
            libc::sigemptyset(&raw mut none);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::execve(
                self.program.as_ptr(),
                self.argv.as_ptr(),
                self.envp.as_ptr(),
            );
            libc::_exit(EXIT_EXEC)
        }
    }

    /// First every source moves above all targets, then each gets its number, then all others are closed.
    ///
    /// # Safety
    /// As `become_program`.
    unsafe fn arrange_fds(&self) -> bool {
        let mut moved = [-1i32; MAX_FDS];
        if self.fds.len() > moved.len() {
            return false;
        }
        // SAFETY: descriptor calls on integers only.
        unsafe {
            for (index, (source, _)) in self.fds.iter().enumerate() {
                moved[index] = libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, self.first_free);
                if moved[index] < 0 {
                    return false;
                }
            }
            for (index, (_, number)) in self.fds.iter().enumerate() {
                if libc::dup2(moved[index], *number) < 0 {
                    return false;
                }
            }
            for number in 0..self.first_free {
                if !self.fds.iter().any(|(_, used)| *used == number) {
                    libc::close(number);
                }
            }
            libc::syscall(libc::SYS_close_range, self.first_free, libc::c_uint::MAX, 0);
        }
        true
    }
}

/// The most descriptors that a new process can be given.
pub const MAX_FDS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reap::{Ending, Zombie};
    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn text(value: &str) -> CString {
        CString::new(value).unwrap()
    }

    /// Waits for the pidfd, then reaps exactly this child.
    fn wait(pid: i32, pidfd: &OwnedFd) -> Ending {
        let mut polled = [nix::poll::PollFd::new(
            pidfd.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut polled, nix::poll::PollTimeout::NONE).unwrap();
        let Some(Zombie { ending, .. }) = crate::reap::reap(pid).unwrap() else {
            panic!("{pid} was not there to reap");
        };
        ending
    }

    fn shell<'a>(script: &str, fds: Vec<(BorrowedFd<'a>, i32)>) -> Spec<'a> {
        Spec {
            program: text("/bin/sh"),
            args: vec![text("sh"), text("-c"), text(script)],
            env: vec![text("GREETING=hello")],
            fds,
            cgroup: None,
            parent: Parent::Caller,
            new_session: true,
        }
    }

    #[test]
    fn only_the_named_descriptors_and_environment_arrive_even_when_numbers_are_swapped() {
        let (out_reader, out_writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (in_reader, in_writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        // A descriptor that a careless library left inheritable.
        let careless = nix::unistd::dup(&in_reader).unwrap();
        nix::unistd::write(&in_writer, b"from-stdin\n").unwrap();
        drop(in_writer);
        let spec = shell(
            "read line; echo $line $GREETING; env | wc -l; ls /proc/self/fd | tr '\\n' ' '; echo err >&2; exit 7",
            vec![
                (in_reader.as_fd(), 0),
                (out_writer.as_fd(), 2),
                (out_writer.as_fd(), 1),
            ],
        );
        let (pid, pidfd) = clone_into(&spec).unwrap();
        drop(spec);
        drop(out_writer);
        let mut output = String::new();
        File::from(out_reader).read_to_string(&mut output).unwrap();
        assert_eq!(wait(pid, &pidfd), Ending::Code(7));
        let mut lines = output.lines();
        assert_eq!(lines.next(), Some("from-stdin hello"));
        lines.next(); // the shell adds PWD and the like
        assert_eq!(lines.next(), Some("0 1 2 3 err")); // 3 is ls's own directory
        drop(careless);
    }

    #[test]
    fn the_signal_mask_and_dispositions_are_fresh() {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        // Rust's runtime ignores SIGPIPE in this very process.
        let spec = shell("exec cat /proc/self/status", vec![(writer.as_fd(), 1)]);
        let (pid, pidfd) = clone_into(&spec).unwrap();
        drop(spec);
        drop(writer);
        let mut output = String::new();
        File::from(reader).read_to_string(&mut output).unwrap();
        assert_eq!(wait(pid, &pidfd), Ending::Code(0));
        for name in ["SigBlk", "SigIgn", "SigCgt"] {
            let line = format!("{name}:\t0000000000000000");
            assert!(
                output.lines().any(|found| found == line),
                "{name} in\n{output}"
            );
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_told_by_its_exit_status() {
        let mut spec = shell("", Vec::new());
        spec.program = text("/nowhere/at/all");
        let (pid, pidfd) = clone_into(&spec).unwrap();
        assert_eq!(wait(pid, &pidfd), Ending::Code(EXIT_EXEC));
    }

    #[test]
    fn death_by_a_real_time_signal_is_reported() {
        let spec = shell("kill -40 $$", Vec::new());
        let (pid, pidfd) = clone_into(&spec).unwrap();
        assert_eq!(
            wait(pid, &pidfd),
            Ending::Signal {
                signal: 40,
                core: false
            }
        );
    }
}

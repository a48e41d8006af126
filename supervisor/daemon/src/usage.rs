//! What a run of a unit uses, and the processes of it that do not die: read from its cgroup and /proc when somebody asks,
//! never from the owner of state's loop. Decides nothing.

use std::fs;

use atalaya_sys::cgroup::Cgroup;
use serde::Serialize;

/// Since the run began. What the kernel does not count here is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Processor time, in microseconds.
    pub cpu_us: Option<u64>,
    /// Bytes of memory now, and at most.
    pub memory: Option<u64>,
    pub memory_peak: Option<u64>,
    /// Bytes from and to disks.
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Processes that the kernel has killed for lack of memory.
    pub oom_kills: Option<u64>,
}

impl Usage {
    /// Blocks for as long as a few reads of the kernel's own files take.
    pub fn read(cgroup: &Cgroup) -> Self {
        let number = |file: &str| cgroup.read(file).ok()?.trim().parse().ok();
        let keyed = |file: &str, key: &str| keyed(&cgroup.read(file).ok()?, key);
        let io = cgroup.read("io.stat").ok();
        Self {
            cpu_us: keyed("cpu.stat", "usage_usec"),
            memory: number("memory.current"),
            memory_peak: number("memory.peak"),
            read_bytes: io.as_deref().map(|text| sum(text, "rbytes=")),
            written_bytes: io.as_deref().map(|text| sum(text, "wbytes=")),
            tasks: number("pids.current"),
            oom_kills: keyed("memory.events", "oom_kill"),
        }
    }
}

/// The number behind `key` in lines of "key number".
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// Of all devices.
fn sum(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|field| field.strip_prefix(key)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// A process as far as it matters when it does not die.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    /// proc_pid_stat(5): `D` waits for a device.
    pub state: char,
    /// The kernel's function in which it waits.
    pub waits_in: Option<String>,
}

impl Process {
    pub fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, state) = parse_stat(&stat)?;
        let stack = fs::read_to_string(format!("/proc/{pid}/stack")).ok();
        let wchan = || fs::read_to_string(format!("/proc/{pid}/wchan")).ok();
        let waits_in = stack
            .and_then(|stack| top_of_stack(&stack))
            .or_else(wchan)
            .filter(|function| !function.is_empty() && function != "0");
        Some(Self {
            pid,
            name: name.chars().filter(|c| !c.is_control()).collect(),
            state,
            waits_in,
        })
    }

    /// For people.
    pub fn words(&self) -> String {
        let waits = self
            .waits_in
            .as_ref()
            .map(|function| format!(", waits in {function}"))
            .unwrap_or_default();
        format!(
            "process {} ({}) is in state {}{waits}",
            self.pid, self.name, self.state
        )
    }
}

/// All processes in the cgroup and below it.
pub fn processes(cgroup: &Cgroup) -> Vec<Process> {
    let mut found: Vec<Process> = cgroup
        .pids()
        .unwrap_or_default()
        .into_iter()
        .filter_map(Process::read)
        .collect();
    let below = fs::read_dir(cgroup.path()).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.extend(processes(&Cgroup::at(entry.path())));
    }
    found
}

/// The name may hold anything, closing brackets too.
fn parse_stat(stat: &str) -> Option<(&str, char)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    Some((name, tail.trim_start().chars().next()?))
}

/// The first line is "[<0>] io_schedule+0x46/0x80".
fn top_of_stack(stack: &str) -> Option<String> {
    let (_, function) = stack.lines().next()?.split_once("] ")?;
    function.split('+').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(keyed("low 0\noom 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(keyed("low 0\n", "oom_kill"), None);
        let io = "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=5 wbytes=1 rios=9\n";
        assert_eq!((sum(io, "rbytes="), sum(io, "wbytes=")), (15, 21));
        assert_eq!(parse_stat("12 (a) b (c) D 1 2 3"), Some(("a) b (c", 'D')));
        assert_eq!(
            top_of_stack("[<0>] io_schedule+0x46/0x80\n[<0>] next+1\n").as_deref(),
            Some("io_schedule")
        );
    }

    #[test]
    fn a_stopped_process_is_shown_with_its_state() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let target = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(target, nix::sys::signal::Signal::SIGSTOP).unwrap();
        nix::sys::wait::waitpid(target, Some(nix::sys::wait::WaitPidFlag::WUNTRACED)).unwrap();
        let process = Process::read(pid).unwrap();
        assert_eq!((process.name.as_str(), process.state), ("sleep", 'T'));
        assert!(
            process
                .words()
                .starts_with(&format!("process {pid} (sleep) is in state T"))
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

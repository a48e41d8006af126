//! What a test does to a machine to see it survive: programs of the agent's binary, `atalaya-agent WORD ...`. The image
//! has no shell and no tools that could.
//!
//! `eat`, `crowd` and `hang` first join a cgroup, as a process of that unit would have been born in it, and never end by
//! themselves: whoever is allowed too much is seen.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use nix::unistd::Pid;

use crate::examine::examine;

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;
const UNITS: &str = "/sys/fs/cgroup/units";

/// Carries out what the words say; gives a line for the caller.
pub fn act(words: &[String]) -> anyhow::Result<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["eat", cgroup, mib] => eat(Path::new(cgroup), mib.parse()?),
        ["crowd", cgroup, limit] => crowd(Path::new(cgroup), limit.parse()?),
        ["hang", cgroup, path] => hang(Path::new(cgroup), Path::new(path)),
        ["knock", address, file] => knock(address.parse()?, Path::new(file)),
        ["clock", seconds] => shift_clock(seconds.parse()?),
        ["freeze", unit] => freeze(unit),
        ["slay", cgroup, name] => slay(Path::new(cgroup), name),
        ["stab", pid] => stab(pid.parse()?),
        ["examine", disk] => Ok(serde_json::to_string(&examine(disk)?)?),
        ["take", device, bytes, path] => take(Path::new(device), bytes.parse()?, Path::new(path)),
        ["lay", path, text] => lay(Path::new(path), text),
        ["write", path, text] => {
            // Into a file of the kernel: it must exist, and one write is one order.
            let mut file = fs::OpenOptions::new().write(true).open(path)?;
            file.write_all(text.as_bytes())?;
            Ok(String::new())
        }
        _ => bail!("no such mischief: {words:?}"),
    }
}

fn join(cgroup: &Path) -> anyhow::Result<()> {
    let path = cgroup.join("cgroup.procs");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    file.write_all(b"0")
        .with_context(|| format!("failed to join {}", cgroup.display()))
}

fn wait_for_the_end() -> ! {
    loop {
        thread::park();
    }
}

/// Takes so much memory, page by page, and keeps it.
fn eat(cgroup: &Path, mib: usize) -> anyhow::Result<String> {
    join(cgroup)?;
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0_u8; MIB];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        eaten.push(block);
        std::hint::black_box(&eaten);
    }
    wait_for_the_end()
}

/// Starts threads, which are what `pids.max` counts, until it may not, and keeps them.
fn crowd(cgroup: &Path, limit: usize) -> anyhow::Result<String> {
    join(cgroup)?;
    for _ in 0..limit {
        let thread = thread::Builder::new().stack_size(64 << 10);
        match thread.spawn(|| wait_for_the_end()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_the_end(),
            Err(error) => return Err(error).context("failed to start a thread"),
        }
    }
    bail!("{limit} threads were started and none was refused")
}

/// Writes and syncs for ever: where the disk does not answer, no signal ends that.
fn hang(cgroup: &Path, path: &Path) -> anyhow::Result<String> {
    join(cgroup)?;
    let mut file = fs::File::create(path)?;
    loop {
        file.write_all(b"and again\n")?;
        file.sync_all()?;
    }
}

/// Connects again and again until the file says `enough` (it is empty for a moment before that), then replaces its text by
/// `N knocks, N refused`.
fn knock(address: SocketAddr, file: &Path) -> anyhow::Result<String> {
    let (mut knocks, mut refused) = (0, 0);
    while fs::read_to_string(file)?.trim() != "enough" {
        knocks += 1;
        if let Err(error) = TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            refused += 1;
            eprintln!("{error}");
        }
        thread::sleep(Duration::from_millis(2));
    }
    let told = format!("{knocks} knocks, {refused} refused");
    fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(file)?
        .write_all(told.as_bytes())?;
    Ok(told)
}

/// Stops every run of a unit as soon as there is one, for good: it never becomes ready, and does not end either.
fn freeze(unit: &str) -> anyhow::Result<String> {
    let start = format!("{unit}.");
    loop {
        let runs = fs::read_dir(UNITS).with_context(|| format!("failed to list {UNITS}"))?;
        for run in runs.flatten() {
            if run.file_name().to_string_lossy().starts_with(&start) {
                let file = run.path().join("cgroup.freeze");
                // It may be gone by now; then the next run is as good.
                if let Ok(mut file) = fs::OpenOptions::new().write(true).open(file) {
                    file.write_all(b"1").ok();
                }
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Kills each process of this name in a cgroup as soon as there is one, for good.
fn slay(cgroup: &Path, name: &str) -> anyhow::Result<String> {
    let members = cgroup.join("cgroup.procs");
    loop {
        let pids = fs::read_to_string(&members)
            .with_context(|| format!("failed to read {}", members.display()))?;
        for pid in pids.lines() {
            // It may be gone by now.
            let is = fs::read_to_string(format!("/proc/{pid}/comm"));
            if is.is_ok_and(|is| is.trim_end() == name) {
                kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL).ok();
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Replaces what a process is about to execute by instructions that end it: even PID 1, which no signal harms.
fn stab(pid: i32) -> anyhow::Result<String> {
    let syscall = format!("/proc/{pid}/syscall");
    let state =
        fs::read_to_string(&syscall).with_context(|| format!("failed to read {syscall}"))?;
    // While it waits in a system call: number, arguments, stack pointer, and where it will go on.
    let counter = state.split_whitespace().next_back().unwrap_or_default();
    let counter = counter.strip_prefix("0x").unwrap_or(counter);
    let counter = u64::from_str_radix(counter, 16).with_context(|| format!("it says {state:?}"))?;
    let memory = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .context("failed to open its memory")?;
    memory
        .write_all_at(&[0x0f, 0x0b], counter) // ud2
        .context("failed to write to its memory")?;
    Ok(String::new())
}

/// Copies so many bytes from the beginning of a disk into a file: a large one reaches the machine sooner as a disk.
fn take(device: &Path, bytes: u64, path: &Path) -> anyhow::Result<String> {
    let mut device = fs::File::open(device)
        .context("failed to open the disk")?
        .take(bytes);
    let mut file = fs::File::create(path).context("failed to make the file")?;
    std::io::copy(&mut device, &mut file).context("failed to copy")?;
    Ok(String::new())
}

/// Makes a file beside others, whose owner it gets: as if the one who reads it had made it.
fn lay(path: &Path, text: &str) -> anyhow::Result<String> {
    let folder = path.parent().context("it has no folder")?;
    let about =
        fs::metadata(folder).with_context(|| format!("{} is not there", folder.display()))?;
    let mut file = fs::File::create(path).context("failed to make it")?;
    chown(path, Some(about.uid()), Some(about.gid())).context("failed to give it away")?;
    file.write_all(text.as_bytes())
        .context("failed to write it")?;
    Ok(String::new())
}

fn shift_clock(seconds: i64) -> anyhow::Result<String> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).context("failed to read the clock")?;
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).context("failed to set the clock")?;
    Ok(then.tv_sec().to_string())
}

//! What a test does to a machine to see it survive: programs of the agent's binary, `atalaya-agent WORD ...`. The image
//! has no shell and no tools that could.
//!
//! `eat CGROUP MIB` and `crowd CGROUP LIMIT` first join the cgroup, as a process of that unit would have been born in it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// Carries out what the words say; gives a line for the caller.
pub fn act(words: &[String]) -> anyhow::Result<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["eat", cgroup, mib] => eat(Path::new(cgroup), mib.parse()?),
        ["crowd", cgroup, limit] => crowd(Path::new(cgroup), limit.parse()?),
        ["clock", seconds] => shift_clock(seconds.parse()?),
        ["write", path, text] => {
            // Into a file of the kernel: it must exist, and one write is one order.
            let mut file = fs::OpenOptions::new().write(true).open(path)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
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
    std::io::Write::write_all(&mut file, b"0")
        .with_context(|| format!("failed to join {}", cgroup.display()))
}

/// Takes so much memory, page by page, and keeps it until somebody ends it. It never ends by itself: whoever had too
/// much memory allowed is seen.
fn eat(cgroup: &Path, mib: usize) -> anyhow::Result<String> {
    join(cgroup)?;
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0_u8; MIB];
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        eaten.push(block);
    }
    loop {
        thread::sleep(Duration::from_secs(3600));
        std::hint::black_box(&eaten);
    }
}

/// Starts threads, which are what `pids.max` counts, until it may not, and says how many there were.
fn crowd(cgroup: &Path, limit: usize) -> anyhow::Result<String> {
    join(cgroup)?;
    for count in 0..limit {
        let thread = thread::Builder::new().stack_size(64 << 10);
        // Parked for ever: they end with this process.
        match thread.spawn(|| {
            loop {
                thread::park();
            }
        }) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(format!("{count}")),
            Err(error) => return Err(error).context("failed to start a thread"),
        }
    }
    bail!("{limit} threads were started and none was refused")
}

fn shift_clock(seconds: i64) -> anyhow::Result<String> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).context("failed to read the clock")?;
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).context("failed to set the clock")?;
    Ok(then.tv_sec().to_string())
}

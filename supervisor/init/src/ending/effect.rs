//! What a child of PID 1 does for it, because it may block or take long.

use atalaya_sys::{durable, mounts};
use std::path::Path;

/// Carries out one effect; the exit status.
pub fn run(words: &[&str]) -> i32 {
    let outcome = match words {
        ["sync"] => {
            nix::unistd::sync();
            Ok(())
        }
        ["unmount", target] => mounts::unmount(Path::new(target)),
        ["load", module] => atalaya_sys::modules::load(Path::new(module), c""),
        ["swap-off", path] => atalaya_sys::host::swap_off(Path::new(path)),
        ["remove", device] => atalaya_sys::dm::remove(device),
        ["write", path, text] => durable::write(Path::new(path), text.as_bytes(), 0o600, None),
        ["read-only", target] => mounts::remount_read_only(Path::new(target)),
        _ => return 2,
    };
    i32::from(outcome.is_err())
}

/// Pid, name and state of the processes that are left, for one line on the console.
pub fn describe_processes() -> String {
    let mut found: Vec<String> = std::fs::read_dir("/proc")
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok()?.parse::<i32>().ok())
                .filter(|pid| *pid > 1)
                .filter_map(describe)
                .collect()
        })
        .unwrap_or_default();
    found.truncate(8);
    found.join(", ")
}

/// `None` for kernel threads and for what has gone. Only `stat` is read: a process's command line is in its own memory,
/// and reading that can wait for the very device that the process waits for.
fn describe(pid: i32) -> Option<String> {
    parse_stat(
        pid,
        &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?,
    )
}

fn parse_stat(pid: i32, stat: &str) -> Option<String> {
    /// PF_KTHREAD of linux/sched.h.
    const KERNEL_THREAD: u64 = 0x20_0000;
    let (front, rest) = stat.rsplit_once(") ")?;
    let name = front.split_once('(')?.1;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    (flags & KERNEL_THREAD == 0).then(|| format!("{name} ({pid}, {state})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_described_and_kernel_threads_are_not() {
        let stat = "7 (a) b) D 1 7 7 0 -1 4194560 0 0";
        assert_eq!(parse_stat(7, stat).as_deref(), Some("a) b (7, D)"));
        assert_eq!(parse_stat(2, "2 (kthreadd) S 0 0 0 0 -1 2129984 0"), None);
        assert!(describe(std::process::id() as i32).is_some());
    }
}

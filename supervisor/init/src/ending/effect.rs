//! What a child of PID 1 does for it, because it may block or take long.

use atalaya_sys::mounts;
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

/// `None` for kernel threads, whose command line is empty, and for what has gone.
fn describe(pid: i32) -> Option<String> {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let name = command
        .split(|byte| *byte == 0)
        .next()
        .filter(|name| !name.is_empty())?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit(") ").next()?.chars().next()?;
    Some(format!(
        "{} ({pid}, {state})",
        String::from_utf8_lossy(name)
    ))
}

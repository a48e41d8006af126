//! What the kernel says about a process: children, memory, time on a processor.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// Its children, in the order of their birth.
pub fn children(pid: i32) -> anyhow::Result<Vec<i32>> {
    let text = read(pid, &format!("task/{pid}/children"))?;
    Ok(text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect())
}

/// The name that it was called by: init executes itself anew from memory, which changes what the kernel calls it.
pub fn name(pid: i32) -> anyhow::Result<String> {
    let words = read(pid, "cmdline")?;
    let program = words.split('\0').next().unwrap_or_default();
    Ok(program.rsplit('/').next().unwrap_or_default().to_owned())
}

/// Its proportional set size in KiB.
pub fn pss_kib(pid: i32) -> anyhow::Result<u64> {
    let text = read(pid, "smaps_rollup")?;
    parse_pss(&text).context("no Pss in smaps_rollup")
}

fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// How long it has been on a processor, all its threads together, in user space and in the kernel; in steps of 10 ms.
pub fn cpu_time(pid: i32) -> anyhow::Result<Duration> {
    let ticks = parse_cpu_ticks(&read(pid, "stat")?).context("/proc/PID/stat is not understood")?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    let per_second = per_second.and_then(|it| u64::try_from(it).ok());
    let millis = ticks * 1000 / per_second.context("the kernel's clock has no tick")?;
    Ok(Duration::from_millis(millis))
}

/// utime and stime (proc(5)). The name before them may hold anything, so the count begins behind its bracket.
fn parse_cpu_ticks(text: &str) -> Option<u64> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system) = (fields.next()?, fields.next()?);
    Some(user.parse::<u64>().ok()? + system.parse::<u64>().ok()?)
}

fn read(pid: i32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_kernel_are_read() {
        assert_eq!(
            parse_pss("Rss: 12 kB\nPss:   345 kB\nPss_Dirty: 1 kB\n"),
            Some(345)
        );
        assert_eq!(parse_pss("Rss: 12 kB\n"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 120 30 5 6 20 0";
        assert_eq!(parse_cpu_ticks(stat), Some(150));
        assert_eq!(parse_cpu_ticks("7 (a"), None);
    }

    #[test]
    fn this_process_is_known() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(pss_kib(pid).unwrap() > 0);
        assert!(!name(pid).unwrap().is_empty());
    }
}

//! What the kernel says about a process and its children: time on a processor, memory, descriptors.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// A program with all that it started.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pid: i32,
}

impl Usage {
    #[must_use]
    pub fn of(pid: i32) -> Usage {
        Usage { pid }
    }

    /// Its processes, its own first.
    fn pids(self) -> anyhow::Result<Vec<i32>> {
        let mut pids = vec![self.pid];
        let children = read(self.pid, &format!("task/{}/children", self.pid))?;
        pids.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
        Ok(pids)
    }

    /// Time on a processor, to the nanosecond, in user space and in the kernel.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(self) -> anyhow::Result<Duration> {
        let mut sum = Duration::ZERO;
        for pid in self.pids()? {
            let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?;
            sum += Duration::from(clock_gettime(clock)?);
        }
        Ok(sum)
    }

    /// Proportional set size, KiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn pss_kib(self) -> anyhow::Result<u64> {
        self.sum("smaps_rollup", "Pss:")
    }

    /// The largest resident set since [`Usage::reset_peak`], KiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn peak_kib(self) -> anyhow::Result<u64> {
        self.sum("status", "VmHWM:")
    }

    /// Forgets the peak.
    ///
    /// # Errors
    /// It has ended.
    pub fn reset_peak(self) -> anyhow::Result<()> {
        use std::io::Write;
        for pid in self.pids()? {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/{pid}/clear_refs"))?;
            file.write_all(b"5")?;
        }
        Ok(())
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// It has ended.
    pub fn descriptors(self) -> anyhow::Result<usize> {
        let mut sum = 0;
        for pid in self.pids()? {
            sum += fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        }
        Ok(sum)
    }

    fn sum(self, file: &str, key: &str) -> anyhow::Result<u64> {
        let mut sum = 0;
        for pid in self.pids()? {
            let text = read(pid, file)?;
            sum += kib(&text, key).with_context(|| format!("no {key} in /proc/{pid}/{file}"))?;
        }
        Ok(sum)
    }
}

fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
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
        assert_eq!(kib("Rss: 1 kB\nPss:   345 kB\n", "Pss:"), Some(345));
        assert_eq!(kib("Rss: 1 kB\n", "Pss:"), None);
        let own = Usage::of(i32::try_from(std::process::id()).unwrap());
        assert!(own.cpu().unwrap() > Duration::ZERO);
        assert!(own.pss_kib().unwrap() > 0 && own.peak_kib().unwrap() > 0);
        assert!(own.descriptors().unwrap() > 2);
    }
}

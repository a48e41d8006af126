//! Logging against svlogd, with the same writer and the same lines: how fast lines are taken, what a megabyte costs, and
//! how long a writer is ever held up.
//!
//! svlogd lets its writer wait; ours never does for long, and rather drops and counts. So each throughput stands beside the
//! share of lines that was kept.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::ground::{Ground, UNIT};
use crate::process::cpu_time;
use crate::programs::Programs;
use crate::reports::{Report, Reports, milliseconds};
use crate::table::Table;

const LIMIT: Duration = Duration::from_secs(300);
const MEGABYTE: f64 = 1e6;

/// What is written.
#[derive(Debug, Clone, Copy)]
struct Input {
    title: &'static str,
    size: u64,
    count: u64,
    /// Microseconds from line to line; 0: as fast as it goes.
    pace: u64,
    /// Another program fills and syncs the same disk meanwhile.
    busy: bool,
}

const INPUTS: [Input; 4] = [
    Input {
        title: "lines of 100 B, as fast as they go",
        size: 100,
        count: 400_000,
        pace: 0,
        busy: false,
    },
    Input {
        title: "lines of 4 KiB, as fast as they go",
        size: 4096,
        count: 10_000,
        pace: 0,
        busy: false,
    },
    Input {
        title: "2,000 lines of 100 B a second",
        size: 100,
        count: 20_000,
        pace: 500,
        busy: false,
    },
    Input {
        title: "the same while the disk is busy",
        size: 100,
        count: 20_000,
        pace: 500,
        busy: true,
    },
];

/// What came of it.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// How long the writer took.
    seconds: f64,
    /// Its longest write(2).
    longest_ms: f64,
    /// Of its lines.
    kept: f64,
    cpu: Duration,
}

pub fn measure(programs: &Programs) -> anyhow::Result<Vec<Table>> {
    let mut table = Table::new([
        "log",
        "",
        "MB/s",
        "lines kept, %",
        "CPU ms per MB kept",
        "longest stall of the writer, ms",
    ]);
    let bar = crate::progress("log", INPUTS.len() * 2);
    for input in INPUTS {
        for (who, outcome) in [
            ("svlogd", svlogd(programs, input)?),
            ("ours", {
                bar.inc(1);
                ours(programs, input)?
            }),
        ] {
            #[allow(clippy::cast_precision_loss)] // tens of megabytes
            let megabytes = (input.size * input.count) as f64 / MEGABYTE;
            table.row([
                input.title,
                who,
                &format!("{:.1}", megabytes / outcome.seconds),
                &format!("{:.1}", outcome.kept * 100.0),
                &format!(
                    "{:.1}",
                    outcome.cpu.as_secs_f64() * 1000.0 / (megabytes * outcome.kept)
                ),
                &format!("{:.1}", outcome.longest_ms),
            ]);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(vec![table])
}

fn role(input: Input) -> String {
    format!("lines {} {} {}", input.size, input.count, input.pace)
}

/// The writer's own report: when it began, when it ended, its longest write.
fn writer(report: &Report) -> anyhow::Result<(f64, f64)> {
    match report.numbers.as_slice() {
        [began, ended, longest] => Ok((
            milliseconds(*began, *ended) / 1000.0,
            milliseconds(0, *longest),
        )),
        _ => anyhow::bail!("{report:?} is no writer's"),
    }
}

fn ours(programs: &Programs, input: Input) -> anyhow::Result<Outcome> {
    let reports = Reports::open()?;
    let mut ground = Ground::new(programs, &reports)?;
    ground.unit("loud", &role(input), "user = \"bench\"\nwanted = false\n")?;
    ground.unit("quiet", "stay", "user = \"bench\"\n")?;
    ground.start()?;
    reports.collect("began", 2, LIMIT)?;
    let (init, atalayad) = (ground.init()?, ground.atalayad()?);
    let _busy = input.busy.then(|| Busy::start(&ground.data()));
    let before = cpu_time(atalayad)?;
    ground.post(init, "/v1/units/loud/start")?;
    reports.expect("loud", "began", LIMIT)?;
    let (seconds, longest_ms) = writer(&reports.expect("loud", "wrote", LIMIT)?)?;
    wait_still(&ground.data().join("logs"))?;
    let cpu = cpu_time(atalayad)?.saturating_sub(before);
    let text = ground
        .text(init, "/v1/logs?unit=loud")
        .context("the log cannot be read")?;
    Ok(Outcome {
        seconds,
        longest_ms,
        kept: share(&text, input.count),
        cpu,
    })
}

fn svlogd(programs: &Programs, input: Input) -> anyhow::Result<Outcome> {
    let reports = Reports::open()?;
    let folder = tempfile::Builder::new()
        .prefix("atalaya-bench-")
        .tempdir_in("/var/tmp")?;
    let log = folder.path().join("log");
    fs::create_dir(&log)?;
    // As many files of 1 MB as it likes.
    File::create(log.join("config"))?.write_all(b"s1000000\nn0\n")?;
    let _busy = input.busy.then(|| Busy::start(folder.path()));
    let mut reader = Ended(
        Command::new("svlogd")
            // With the time before each line, which ours has too.
            .args(["-tt"])
            .arg(&log)
            .stdin(Stdio::piped())
            .spawn()
            .context("failed to start svlogd: `image/setup bench`?")?,
    );
    let pid = i32::try_from(reader.0.id())?;
    let output = reader.0.stdin.take().context("svlogd has no input")?;
    let _writer = Ended(
        Command::new(&programs.unit)
            .env_clear()
            .env("BENCH_REPORT", reports.address())
            .env("BENCH_NAME", "loud")
            .env("BENCH_ROLE", role(input))
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .with_context(|| format!("failed to start {UNIT}"))?,
    );
    reports.expect("loud", "began", LIMIT)?;
    let (seconds, longest_ms) = writer(&reports.expect("loud", "wrote", LIMIT)?)?;
    wait_still(&log)?;
    let cpu = cpu_time(pid)?;
    let mut text = String::new();
    for entry in fs::read_dir(&log)? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name != "config" && name != "lock")
        {
            text.push_str(&String::from_utf8_lossy(&fs::read(path)?));
        }
    }
    Ok(Outcome {
        seconds,
        longest_ms,
        kept: share(&text, input.count),
        cpu,
    })
}

/// How much of the writer's lines is in a text, whatever stands around them: each has its number and then only x.
#[allow(clippy::cast_precision_loss)] // hundreds of thousands
fn share(text: &str, count: u64) -> f64 {
    let kept = text
        .lines()
        .filter(|line| line.contains(" xxxxxxxx"))
        .count();
    kept as f64 / count as f64
}

/// Waits until nothing below a folder has grown for two seconds: what was taken has been written.
fn wait_still(folder: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (mut last, mut since) = (size(folder), Instant::now());
    while since.elapsed() < Duration::from_secs(2) && begun.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(50));
        let now = size(folder);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(())
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A process that is ended when it is no longer needed.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Somebody else who writes to the same disk and syncs, again and again, until dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn start(folder: &Path) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let (path, heard) = (folder.join("busy"), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let block = vec![0x5a; 1 << 20];
            while !heard.load(Ordering::Relaxed) {
                let Ok(mut file) = File::create(&path) else {
                    return;
                };
                for _ in 0..128 {
                    drop(file.write_all(&block));
                }
                drop(file.sync_all());
            }
            drop(fs::remove_file(&path));
        });
        Busy {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_lines_are_counted_in_any_wrapping() {
        let text = "2026-11-22_10:00:00 000000000001 xxxxxxxxxxx\n{\"line\":\"000000000002 xxxxxxxxxxxx\"}\n\
                    {\"line\":\"3 lines were dropped\"}\n";
        assert_eq!(share(text, 4), 0.5);
    }

    #[test]
    fn a_writers_report_is_understood() {
        let report = |numbers: &[i64]| Report {
            name: "loud".into(),
            event: "wrote".into(),
            numbers: numbers.to_vec(),
        };
        assert_eq!(
            writer(&report(&[1_000_000_000, 3_500_000_000, 4_000_000])).unwrap(),
            (2.5, 4.0)
        );
        assert!(writer(&report(&[1])).is_err());
    }
}

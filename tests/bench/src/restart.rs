//! From kill -9 to the first instruction of the next instance: runit, s6 and ours, each with the same static program.
//!
//! Every instance lives 1.5 s before its kill, because runit and s6 hold back shorter lives. The supervisors take turns,
//! so that noise of this machine hits all of them.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ground::Ground;
use crate::peers::{self, Peer};
use crate::programs::Programs;
use crate::reports::{Reports, milliseconds, monotonic_ns};
use crate::stats::Sample;
use crate::table::Table;

/// How long each instance lives.
const LIFE: Duration = Duration::from_millis(1500);
const LIMIT: Duration = Duration::from_secs(20);

/// No pause, and a limit that the benchmark does not reach: what is measured is the supervisor, not its patience.
const RESTART: &str =
    "[restart]\npolicy = \"always\"\nmin_ms = 0\nmax_ms = 10\nlimit = 1000\nwindow_s = 86400\n";
/// The nearest to none that a unit can have: no user of its own, no filter, the machine's files.
const NO_SANDBOX: &str =
    "[sandbox]\nprivileged = true\ndevices = true\nall_processes = true\nmachine_ipc = true\n";

/// One supervisor's service: its name in the table, and its times in milliseconds.
struct Subject {
    name: &'static str,
    title: String,
    delay: &'static str,
    /// When the present instance began.
    since: Instant,
    times: Vec<f64>,
}

pub fn measure(programs: &Programs, rounds: usize) -> anyhow::Result<Vec<Table>> {
    let reports = Reports::open()?;
    let runit = Peer::start("runsv", "runit", programs, &reports)?;
    let mut subjects = vec![subject(
        "runit",
        format!("runit {} (runsv)", peers::version("runit")),
        "1 s after a life under 1 s",
    )];
    reports.expect("runit", "began", LIMIT)?;
    let s6 = Peer::start("s6-supervise", "s6", programs, &reports)?;
    subjects.push(subject(
        "s6",
        format!("s6 {} (s6-supervise)", peers::version("s6")),
        "1 s after every death",
    ));
    reports.expect("s6", "began", LIMIT)?;
    let mut ground = Ground::new(programs, &reports)?;
    ground.unit("plain", "stay", &format!("{RESTART}{NO_SANDBOX}"))?;
    ground.unit("boxed", "stay", &format!("user = \"bench\"\n{RESTART}"))?;
    ground.start()?;
    ground.wait_ready(2)?;
    reports.collect("began", 3, LIMIT)?;
    for (name, title) in [
        ("plain", "atalayad, no sandbox"),
        ("boxed", "atalayad, full sandbox"),
    ] {
        subjects.push(subject(name, title.to_owned(), "none (`min_ms = 0`)"));
    }

    let bar = crate::progress("restart", rounds);
    for _ in 0..rounds {
        for subject in &mut subjects {
            let left = LIFE.saturating_sub(subject.since.elapsed());
            std::thread::sleep(left);
            let pid = match subject.name {
                "runit" => runit.pid()?,
                "s6" => s6.pid()?,
                unit => ground.pid(unit)?,
            };
            let killed = monotonic_ns()?;
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            let report = reports.expect(subject.name, "began", LIMIT)?;
            subject.since = Instant::now();
            let began = report.numbers.first().copied().unwrap_or_default();
            subject.times.push(milliseconds(killed, began));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(vec![table(&subjects)])
}

fn subject(name: &'static str, title: String, delay: &'static str) -> Subject {
    Subject {
        name,
        title,
        delay,
        since: Instant::now(),
        times: Vec::new(),
    }
}

fn table(subjects: &[Subject]) -> Table {
    let mut table = Table::new([
        "restart after kill -9, ms",
        "built-in delay",
        "p50",
        "p99",
        "p50 against runit's",
        "0 to 20 ms",
    ]);
    let peer: Sample = subjects
        .iter()
        .take(1)
        .flat_map(|subject| subject.times.clone())
        .collect();
    for subject in subjects {
        let sample: Sample = subject.times.iter().copied().collect();
        table.row([
            &subject.title,
            subject.delay,
            &format!("{:.2}", sample.median()),
            &format!("{:.2}", sample.percentile(99.0)),
            &format!("{:.2}", sample.median() / peer.median()),
            &format!("`{}`", sample.plot(0.0, 20.0, 20)),
        ]);
    }
    table
}

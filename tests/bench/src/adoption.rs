//! How long units are without a supervisor when atalayad dies: from its kill to the moment at which its successor knows
//! all of them again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ground::{Ground, ready};
use crate::programs::Programs;
use crate::reports::{Reports, milliseconds, monotonic_ns};
use crate::stats::Sample;
use crate::table::Table;

const UNITS: usize = 10;
/// One less than what init takes for a fault (safe mode).
const DEATHS: usize = 4;
const LIMIT: Duration = Duration::from_secs(60);

pub fn measure(programs: &Programs) -> anyhow::Result<Vec<Table>> {
    let reports = Reports::open()?;
    let mut ground = Ground::new(programs, &reports)?;
    for number in 0..UNITS {
        ground.unit(&format!("u{number}"), "stay", "user = \"bench\"\n")?;
    }
    ground.start()?;
    reports.collect("began", UNITS + 1, LIMIT)?;
    ground.wait_ready(UNITS)?;
    let init = ground.init()?;
    let pids = pids(&ground)?;
    let (mut started, mut known) = (Vec::new(), Vec::new());
    let bar = crate::progress("adoption", DEATHS);
    for _ in 0..DEATHS {
        let killed = monotonic_ns()?;
        kill(Pid::from_raw(ground.atalayad()?), Signal::SIGKILL)?;
        let report = reports.expect("atalayad", "began", LIMIT)?;
        let began = report.numbers.first().copied().unwrap_or_default();
        started.push(milliseconds(killed, began));
        let deadline = Instant::now() + LIMIT;
        while ready(&ground.ask(init, "/v1/units").unwrap_or_default()) < UNITS {
            ensure!(Instant::now() < deadline, "units are not known again");
            std::thread::sleep(Duration::from_millis(1));
        }
        known.push(milliseconds(killed, monotonic_ns()?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    ensure!(pids == self::pids(&ground)?, "a unit was restarted");
    let mut table = Table::new(["atalayad killed with 10 units, ms", "median", "longest"]);
    for (what, times) in [
        ("its successor runs", started),
        ("all units are known again (goal 2000)", known),
    ] {
        let sample: Sample = times.into_iter().collect();
        table.row([
            what,
            &format!("{:.0}", sample.median()),
            &format!("{:.0}", sample.longest()),
        ]);
    }
    Ok(vec![table])
}

fn pids(ground: &Ground) -> anyhow::Result<Vec<i32>> {
    (0..UNITS)
        .map(|number| ground.pid(&format!("u{number}")))
        .collect()
}

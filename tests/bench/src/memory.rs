//! Memory of init and atalayad with few and with many units: the proportional set size, so that libraries which others use
//! too count in part.

use std::time::Duration;

use crate::ground::Ground;
use crate::process::pss_kib;
use crate::programs::Programs;
use crate::reports::Reports;
use crate::table::Table;

/// What was needed only to start has been given back by then.
const SETTLE: Duration = Duration::from_secs(5);

pub fn measure(programs: &Programs) -> anyhow::Result<Vec<Table>> {
    let mut table = Table::new([
        "memory (proportional set size), MiB",
        "units",
        "init",
        "atalayad",
    ]);
    let sizes = [10, 1000];
    let bar = crate::progress("memory", sizes.len());
    for size in sizes {
        let reports = Reports::open()?;
        let mut ground = Ground::new(programs, &reports)?;
        for number in 0..size {
            ground.unit(&format!("u{number}"), "stay", "user = \"bench\"\n")?;
        }
        ground.start()?;
        reports.collect("began", size + 1, Duration::from_secs(300))?;
        ground.wait_ready(size)?;
        std::thread::sleep(SETTLE);
        table.row([
            "services that wait",
            &size.to_string(),
            &mebibytes(pss_kib(ground.init()?)?),
            &mebibytes(pss_kib(ground.atalayad()?)?),
        ]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(vec![table])
}

#[allow(clippy::cast_precision_loss)] // a figure for people
fn mebibytes(kib: u64) -> String {
    format!("{:.2}", kib as f64 / 1024.0)
}

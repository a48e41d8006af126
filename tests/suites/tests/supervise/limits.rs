//! What a machine runs out of, and a clock that cannot be trusted.

use std::time::Duration;

use anyhow::ensure;
use atalaya_suites::appliance::run;
use atalaya_suites::inside::{AGENT, check_untouched, wait_reports};

use crate::Supervise;

const TEN_YEARS_S: i64 = 10 * 365 * 86_400;
/// The whole state is reported every ten seconds of the machine's own.
const REPORT: Duration = Duration::from_secs(40);

pub fn a_clock_ten_years_off_changes_nothing(of: &mut Supervise) -> anyhow::Result<()> {
    let before = of.wait_all_up()?;
    let lines = || -> anyhow::Result<Vec<String>> {
        let log = run(&of.vm, &["/usr/bin/atalaya", "logs", "-u", "postgres"])?;
        Ok(log.lines().map(str::to_owned).collect())
    };
    let said = lines()?;
    ensure!(!said.is_empty(), "PostgreSQL has said nothing");
    // There, as far again on the other side, and back to where it was.
    for shift in [TEN_YEARS_S, -2 * TEN_YEARS_S, TEN_YEARS_S] {
        run(&of.vm, &[AGENT, "clock", &shift.to_string()])?;
        wait_reports(&of.vm, 1, REPORT)?;
        check_untouched(&before, &of.vm.status().snapshot(), &[])?;
        let now = lines()?;
        ensure!(
            now.starts_with(&said),
            "lines of the log are gone; it begins with {:?}",
            now.first()
        );
    }
    Ok(())
}

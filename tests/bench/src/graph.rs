//! How long graphs of units take to start, against the same number of plain fork + exec in a loop.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::ground::Ground;
use crate::programs::Programs;
use crate::reports::{Reports, milliseconds, monotonic_ns};
use crate::table::Table;

const LIMIT: Duration = Duration::from_secs(300);
const SIZES: [usize; 2] = [100, 1000];

/// What the units of a graph are, and how they depend on each other.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// One-shots, each of which requires the one before.
    Chain,
    /// One-shots that all require the first.
    Wide,
    /// Services that all require the first.
    Services,
}

impl Shape {
    const ALL: [Shape; 3] = [Shape::Chain, Shape::Wide, Shape::Services];

    fn title(self) -> &'static str {
        match self {
            Shape::Chain => "one-shots in a chain",
            Shape::Wide => "one-shots side by side",
            Shape::Services => "services side by side",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Shape::Chain | Shape::Wide => "once",
            Shape::Services => "stay",
        }
    }

    /// Which unit the unit with this number requires.
    fn requires(self, number: usize) -> Option<usize> {
        match self {
            Shape::Chain => number.checked_sub(1),
            Shape::Wide | Shape::Services => (number > 0).then_some(0),
        }
    }
}

pub fn measure(programs: &Programs) -> anyhow::Result<Vec<Table>> {
    let mut table = Table::new([
        "start of a graph",
        "units",
        "all ready, ms",
        "ms per unit",
        "against plain fork + exec",
    ]);
    let bar = crate::progress("graph", SIZES.len() * (Shape::ALL.len() + 1));
    for size in SIZES {
        let plain = plain(programs, size)?;
        row(
            &mut table,
            "plain fork + exec, one after another",
            size,
            plain,
            plain,
        );
        bar.inc(1);
        for shape in Shape::ALL {
            let time = start(programs, shape, size)
                .with_context(|| format!("{size} {}", shape.title()))?;
            row(&mut table, shape.title(), size, time, plain);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(vec![table])
}

#[allow(clippy::cast_precision_loss)] // at most a thousand
fn row(table: &mut Table, title: &str, size: usize, time: f64, plain: f64) {
    table.row([
        title,
        &size.to_string(),
        &format!("{time:.0}"),
        &format!("{:.2}", time / size as f64),
        &format!("{:.1}", time / plain),
    ]);
}

/// From atalayad's exec to the moment at which all units are ready, in milliseconds.
fn start(programs: &Programs, shape: Shape, size: usize) -> anyhow::Result<f64> {
    let reports = Reports::open()?;
    let mut ground = Ground::new(programs, &reports)?;
    for number in 0..size {
        let requires = shape.requires(number).map_or(String::new(), |other| {
            format!("requires = [\"u{other}\"]\n")
        });
        ground.unit(
            &format!("u{number}"),
            shape.role(),
            &format!("user = \"bench\"\n{requires}"),
        )?;
    }
    ground.start()?;
    // Nothing is asked while units start: each says for itself that it has begun.
    let begun = reports.collect("began", size + 1, LIMIT)?;
    ground.wait_ready(size)?;
    let end = monotonic_ns()?;
    let first = begun
        .iter()
        .find(|report| report.name == "atalayad")
        .and_then(|report| report.numbers.first());
    Ok(milliseconds(*first.context("atalayad has not begun")?, end))
}

/// The same program, the same number of times, by a loop that does nothing else.
fn plain(programs: &Programs, size: usize) -> anyhow::Result<f64> {
    let reports = Reports::open()?;
    let begun = Instant::now();
    for number in 0..size {
        let status = Command::new(&programs.unit)
            .env_clear()
            .env("BENCH_REPORT", reports.address())
            .env("BENCH_NAME", format!("u{number}"))
            .env("BENCH_ROLE", "once")
            .stdin(Stdio::null())
            .status()?;
        ensure!(status.success(), "the benchmark's own program failed");
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_a_chain_and_the_others_hang_on_the_first() {
        assert_eq!(Shape::Chain.requires(0), None);
        assert_eq!(Shape::Chain.requires(7), Some(6));
        assert_eq!(Shape::Wide.requires(0), None);
        assert_eq!(Shape::Services.requires(7), Some(0));
    }
}

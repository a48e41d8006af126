//! What each service uses now: the difference of two answers, by the time between them.

use std::time::Instant;

use anyhow::Result;
use atalaya_core::words::size;
use serde_json::{Value, json};

use crate::client::Client;
use crate::show::{cut, list, text};

/// The counters of all services at one time.
pub struct Sample {
    taken: Instant,
    units: Vec<Value>,
}

impl Sample {
    pub fn take(client: &Client) -> Result<Self> {
        let answer = client.get("/v1/units")?;
        Ok(Self {
            taken: Instant::now(),
            units: list(&answer, "units"),
        })
    }
}

/// A row per service that runs, the busiest first.
pub fn rates(before: &Sample, now: &Sample) -> Value {
    rates_between(
        &before.units,
        &now.units,
        u64::try_from((now.taken - before.taken).as_micros()).unwrap_or(u64::MAX),
    )
}

fn rates_between(before: &[Value], now: &[Value], micros: u64) -> Value {
    let micros = u128::from(micros.max(1));
    let mut rows: Vec<Value> = now
        .iter()
        .filter_map(|unit| {
            let usage = unit.get("usage").filter(|usage| usage.is_object())?;
            let former = before
                .iter()
                .find(|former| former.get("name") == unit.get("name"))
                // Counters begin anew with each run.
                .filter(|former| former.get("run") == unit.get("run"))
                .and_then(|former| former.get("usage"));
            let grown = |key: &str| -> Option<u128> {
                let now = usage.get(key)?.as_u64()?;
                let before = former.and_then(|usage| usage.get(key)?.as_u64());
                Some(u128::from(now.saturating_sub(before.unwrap_or(0))))
            };
            let per_second = |key: &str| grown(key).map(|grown| whole(grown * 1_000_000 / micros));
            Some(json!({
                "name": text(unit, "name"),
                "run": unit.get("run"),
                // Tenths of a per cent of one processor.
                "cpu_permille": grown("cpu_us").map(|grown| whole(grown * 1000 / micros)),
                "memory": usage.get("memory"),
                "tasks": usage.get("tasks"),
                "read_per_s": per_second("read_bytes"),
                "written_per_s": per_second("written_bytes"),
            }))
        })
        .collect();
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_u64).unwrap_or(0);
    rows.sort_by_key(|row| std::cmp::Reverse((number(row, "cpu_permille"), number(row, "memory"))));
    json!({ "units": rows })
}

fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

pub fn show(answer: &Value) -> String {
    let mut lines = vec![format!(
        "{:<22} {:>7} {:>9} {:>6} {:>11} {:>11}",
        "SERVICE", "CPU", "MEMORY", "TASKS", "READ/s", "WRITTEN/s"
    )];
    for row in list(answer, "units") {
        let number = |key: &str| row.get(key).and_then(Value::as_u64);
        let sized = |key: &str| number(key).map_or("-".to_owned(), size);
        lines.push(format!(
            "{:<22} {:>7} {:>9} {:>6} {:>11} {:>11}",
            cut(&text(&row, "name"), 22),
            number("cpu_permille").map_or("-".to_owned(), |permille| format!(
                "{}.{} %",
                permille / 10,
                permille % 10
            )),
            sized("memory"),
            number("tasks").map_or("-".to_owned(), |tasks| tasks.to_string()),
            sized("read_per_s"),
            sized("written_per_s"),
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, run: u64, cpu_us: u64, read: u64) -> Value {
        json!({ "name": name, "run": run,
                "usage": { "cpu_us": cpu_us, "memory": 14 << 20, "tasks": 3, "read_bytes": read, "written_bytes": null } })
    }

    #[test]
    fn rates_are_of_the_time_between_and_a_new_run_counts_from_nothing() {
        let before = [unit("a", 1, 1_000_000, 0), unit("b", 1, 9_000_000, 0)];
        let now = [
            unit("a", 1, 1_500_000, 2 << 20),
            unit("b", 2, 100_000, 0),
            json!({ "name": "idle", "run": 0, "usage": null }),
        ];
        let rates = rates_between(&before, &now, 2_000_000);
        let rows = list(&rates, "units");
        assert_eq!(rows.len(), 2, "what does not run has no row");
        assert_eq!(rows[0]["name"], "a");
        assert_eq!(rows[0]["cpu_permille"], 250);
        assert_eq!(rows[0]["read_per_s"], 1 << 20);
        assert_eq!(rows[1]["cpu_permille"], 50);
        let shown = show(&rates);
        assert!(shown.contains("25.0 %"), "{shown}");
        assert!(shown.contains("14 MiB"), "{shown}");
        assert!(
            shown.lines().all(|line| line.chars().count() <= 80),
            "{shown}"
        );
        // What the kernel does not count is not shown as nothing.
        assert!(shown.lines().nth(1).unwrap().ends_with(" -"), "{shown}");
    }
}

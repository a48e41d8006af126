//! `atalaya status`: the machine on one screen of 80 x 24. What is wrong comes first.

use atalaya_core::words::{duration, size};
use serde_json::Value;

use super::unit::{mark, unit_row};
use super::{COLUMNS, cut, list, rows, text, wrap};

const ROWS: usize = 24;
/// Rows for what is wrong; the rest of it is counted.
const WRONG_ROWS: usize = 6;

fn row(name: &str, value: &str) -> String {
    cut(&format!("{name:<12} {value}"), COLUMNS)
}

/// One screen. Where there is no room for all services, those that are well are counted.
pub fn status(status: &Value) -> String {
    let number = |key: &str| status.get(key).and_then(Value::as_u64);
    let mut lines = wrong(&list(status, "wrong"));
    lines.push(row("State", &state(status)));
    let address = match text(status, "site") {
        site if site.is_empty() => list(status, "addresses")
            .first()
            .and_then(Value::as_str)
            .map(|address| format!("https://{address}")),
        site => Some(site),
    };
    lines.push(row(
        "Address",
        &address.unwrap_or_else(|| "none yet".to_owned()),
    ));
    lines.push(row(
        "Version",
        &format!(
            "{} (build {}), slot {}",
            text(status, "version"),
            text(status, "build"),
            text(status, "slot")
        ),
    ));
    let kind = if status.get("standin") == Some(&Value::Bool(true)) {
        " STAND-IN, for building and testing only"
    } else {
        ""
    };
    lines.push(row(
        "Mattermost",
        &format!("{}{kind}", text(status, "mattermost")),
    ));
    let update = status.get("update").cloned().unwrap_or_default();
    let is_news = update.get("busy") == Some(&Value::Bool(true))
        || ["staged", "rolled_back"].contains(&text(&update, "stage").as_str());
    if is_news {
        lines.push(row("Update", &text(&update, "words")));
    }
    let certificate = status
        .get("certificate")
        .map_or_else(String::new, |certificate| text(certificate, "words"));
    if !certificate.is_empty() {
        lines.push(row("Certificate", &certificate));
    }
    let fingerprint = text(status, "fingerprint");
    if !fingerprint.is_empty() {
        let (first, second) = fingerprint
            .split_at_checked(48)
            .unwrap_or((&fingerprint, ""));
        lines.push(row("Fingerprint", first));
        lines.push(row("", second));
    }
    lines.extend(machine(status));
    let last_boot = status
        .get("last_boot")
        .map_or_else(String::new, |last| text(last, "words"));
    if !last_boot.is_empty() {
        lines.push(row("Last boot", &last_boot));
    }
    let time = text(status, "time");
    lines.push(row(
        "Time",
        &format!(
            "{} {}, running for {}",
            time.get(..19).unwrap_or(&time).replace('T', " "),
            text(status, "zone"),
            duration(number("up_ms").unwrap_or(0))
        ),
    ));
    let source = status
        .get("seed")
        .map_or_else(String::new, |seed| text(seed, "source"));
    if !source.is_empty() {
        lines.push(row("Seed", &source));
    }
    let probe_user = text(status, "probe_user");
    if !probe_user.is_empty() {
        lines.push(row(
            "Seats",
            &format!("one is taken by the probe's user {probe_user}"),
        ));
    }
    lines.push(String::new());
    lines.extend(services(
        &list(status, "units"),
        ROWS.saturating_sub(lines.len() + 2),
    ));
    lines.join("\n")
}

fn state(status: &Value) -> String {
    match text(status, "stopping") {
        action if action.is_empty() => text(status, "state"),
        action => format!("being stopped ({action})"),
    }
}

fn wrong(sentences: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for sentence in sentences.iter().filter_map(Value::as_str) {
        let shown = rows("WRONG", &super::harmless(sentence), 13);
        if lines.len() + shown.len() > WRONG_ROWS {
            lines.push(row("", "and more: atalaya unit list --failed"));
            break;
        }
        lines.extend(shown);
    }
    if !lines.is_empty() {
        lines.push(row("", "See: atalaya unit why NAME"));
    }
    lines
}

/// Memory and disk, where they are known.
fn machine(status: &Value) -> Vec<String> {
    let number = |part: &str, key: &str| status.get(part)?.get(key)?.as_u64();
    let mut lines = Vec::new();
    if let (Some(total @ 1..), Some(available)) = (
        number("figures", "memory_total"),
        number("figures", "memory_available"),
    ) {
        let used = size(total.saturating_sub(available));
        lines.push(row("Memory", &format!("{used} used of {}", size(total))));
    }
    if status.get("data") == Some(&Value::Bool(false)) {
        lines.push(row(
            "Data",
            "the data partition is not there; nothing is kept",
        ));
    } else if let (Some(total @ 1..), Some(free)) =
        (number("disk", "total"), number("disk", "free"))
    {
        lines.push(row(
            "Data",
            &format!("{} free of {}", size(free), size(total)),
        ));
    }
    lines
}

/// What is not well comes first, then what runs; one-shots that are done are of the least interest.
fn services(units: &[Value], room: usize) -> Vec<String> {
    let rank = |unit: &Value| match mark(unit) {
        "FAILED" => 0,
        "wrong" => 1,
        "..." => 2,
        "ok" if text(unit, "state") == "Done" => 4,
        _ => 3,
    };
    let mut sorted: Vec<&Value> = units.iter().collect();
    sorted.sort_by_key(|unit| rank(unit));
    let mut lines: Vec<String> = sorted
        .iter()
        .take(room)
        .map(|unit| unit_row(unit))
        .collect();
    if sorted.len() > room {
        lines.push(format!(
            "and {} more: atalaya unit list",
            sorted.len() - room
        ));
    }
    lines
}

/// What init says while the supervisor is not there.
pub fn init_status(answer: &Value) -> String {
    let is = |key: &str| answer.get(key) == Some(&Value::Bool(true));
    let number = |key: &str| answer.get(key).and_then(Value::as_u64);
    let mut lines = Vec::new();
    let what = if is("safe_mode") {
        "Safe mode: the supervisor has died too often. The services run on, but nothing watches or restarts them. No data \
         is touched."
    } else {
        "The supervisor is not there at the moment. The services run on and no data is touched."
    };
    lines.extend(wrap(what, COLUMNS, 0));
    lines.push(String::new());
    let reason = text(answer, "reason");
    if !reason.is_empty() {
        lines.push(row("Reason", &reason));
    }
    lines.push(row("Deaths", &text(answer, "deaths")));
    let next = number("next_try_s").map_or("now".to_owned(), |seconds| {
        format!("in {}", duration(seconds * 1000))
    });
    lines.push(row("Next try", &next));
    for (run, bytes) in answer
        .get("drained")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let bytes = bytes.as_u64().unwrap_or(0);
        lines.push(row(
            "Log",
            &format!("{} of {run} kept by init", size(bytes)),
        ));
    }
    lines.push(String::new());
    lines.push("To try at once: atalaya supervisor restart".to_owned());
    lines.truncate(ROWS);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(count: usize, wrong: usize) -> Value {
        let units: Vec<Value> = (0..count)
            .map(|number| {
                json!({ "name": format!("unit-{number}"), "state": if number % 2 == 0 { "Done" } else { "Running" },
                        "ready": true, "words": "ready ".repeat(30) })
            })
            .collect();
        let wrong: Vec<String> = (0..wrong)
            .map(|number| {
                format!(
                    "Service {number} has failed while it ran: {}.",
                    "exit status 1 ".repeat(12)
                )
            })
            .collect();
        json!({
            "state": "ready", "wrong": wrong, "site": "https://chat.example.org", "version": "0.1.0",
            "build": "0123456789abcdef", "slot": "a", "mattermost": "11.7.9", "standin": true,
            "fingerprint": "AB:".repeat(31) + "AB",
            "certificate": { "words": "from the internal authority, until 2027-01-23 (62 days left)" }, "up_ms": 4_000_000, "data": true,
            "time": "2026-11-22T19:05:12.123Z", "zone": "UTC",
            "figures": { "memory_total": 2_040_109_466_u64, "memory_available": 1_000_000_000 },
            "disk": { "total": 12_u64 << 30, "free": 11_u64 << 30 },
            "last_boot": { "words": "switched off in order" },
            "seed": { "source": "fw_cfg", "ok": true, "error": null },
            "probe_user": "probe", "units": units,
            "update": { "stage": "rolled_back", "busy": false, "words": "none is under way; version 0.2.0 was taken back" },
        })
    }

    #[test]
    fn the_status_is_one_screen_however_much_there_is_to_say() {
        for (count, wrong) in [(0, 0), (3, 0), (16, 1), (200, 9)] {
            let shown = status(&answer(count, wrong));
            assert!(
                shown.lines().count() <= 24,
                "{count}: {}\n{shown}",
                shown.lines().count()
            );
            assert!(
                shown.lines().all(|line| line.chars().count() <= 80),
                "{shown}"
            );
            assert!(shown.contains("STAND-IN"));
            assert!(
                shown.contains("\nUpdate       none is under way; version 0.2.0 was taken back\n")
            );
            assert!(shown.contains("\nCertificate  from the internal authority, until"));
            assert!(shown.contains("\nFingerprint  AB:AB:"));
            assert!(shown.contains("11 GiB free of 12 GiB"), "{shown}");
            assert!(
                shown.contains("2026-11-22 19:05:12 UTC, running for 66 minutes"),
                "{shown}"
            );
            assert!(shown.contains("switched off in order"), "{shown}");
            assert_eq!(
                shown.starts_with("WRONG        Service 0 has failed"),
                wrong > 0,
                "{shown}"
            );
        }
    }

    #[test]
    fn a_service_that_is_not_well_is_never_counted_away() {
        let mut answer = answer(40, 0);
        answer["units"][38] =
            json!({ "name": "late", "state": "Failed", "words": "failed at run: exit status 1" });
        let shown = status(&answer);
        let services = shown.split("\n\n").nth(1).unwrap();
        assert!(
            services.starts_with("late                 FAILED  failed at run"),
            "{shown}"
        );
        assert!(shown.contains("more: atalaya unit list"), "{shown}");
    }

    #[test]
    fn without_the_supervisor_it_says_what_that_means_and_what_comes() {
        let shown = init_status(
            &json!({ "ok": true, "safe_mode": true, "reason": "it ended with status 1",
            "deaths": 5, "next_try_s": 60, "atalayad": null, "drained": { "postgres.3": 70_000 } }),
        );
        assert!(
            shown.starts_with("Safe mode: the supervisor has died too often. The services run on"),
            "{shown}"
        );
        assert!(shown.contains("Next try     in 60 seconds"), "{shown}");
        assert!(
            shown.contains("68 KiB of postgres.3 kept by init"),
            "{shown}"
        );
        assert!(shown.ends_with("atalaya supervisor restart"), "{shown}");
    }
}

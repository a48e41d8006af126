//! Answers as text for people: 80 columns, no colour, no control characters from outside.

use serde_json::Value;

/// Without control characters.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A field as text, empty where there is none.
pub fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => harmless(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn list(value: &Value, key: &str) -> Vec<Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars()
        .take(columns.saturating_sub(1))
        .chain(['\u{2026}'])
        .collect()
}

/// "4 minutes".
fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (number, word) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// One screen of 80 x 24. Where there is no room for all services, those that are well are counted.
pub fn status(status: &Value) -> String {
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(cut(&format!("{name:<12} {value}"), 80));
    row("State", text(status, "state"));
    let address = match text(status, "site") {
        site if site.is_empty() => list(status, "addresses")
            .first()
            .and_then(Value::as_str)
            .map(|a| format!("https://{a}")),
        site => Some(site),
    };
    row("Address", address.unwrap_or_else(|| "none yet".to_owned()));
    row(
        "Version",
        format!(
            "{} (build {}), slot {}",
            text(status, "version"),
            text(status, "build"),
            text(status, "slot")
        ),
    );
    let standin = status.get("standin") == Some(&Value::Bool(true));
    let kind = if standin {
        " STAND-IN, for building and testing only"
    } else {
        ""
    };
    row(
        "Mattermost",
        format!("{}{kind}", text(status, "mattermost")),
    );
    let fingerprint = text(status, "ca_sha256");
    if !fingerprint.is_empty() {
        let (first, second) = fingerprint
            .split_at_checked(48)
            .unwrap_or((&fingerprint, ""));
        row("Certificate", first.to_owned());
        row("", second.to_owned());
    }
    row(
        "Running for",
        duration(status.get("up_ms").and_then(Value::as_u64).unwrap_or(0)),
    );
    if status.get("data") == Some(&Value::Bool(false)) {
        row(
            "Data",
            "the data partition is not there; nothing is kept".to_owned(),
        );
    }
    let seed = status.get("seed").cloned().unwrap_or_default();
    let (source, error) = (text(&seed, "source"), text(&seed, "error"));
    if !error.is_empty() {
        lines.push(cut(
            &format!("{:<12} refused, the defaults hold: {error}", "Seed"),
            80,
        ));
    } else if !source.is_empty() {
        lines.push(cut(&format!("{:<12} {source}", "Seed"), 80));
    }
    let probe_user = text(status, "probe_user");
    if !probe_user.is_empty() {
        lines.push(cut(
            &format!(
                "{:<12} one is taken by the probe's user {probe_user}",
                "Seats"
            ),
            80,
        ));
    }
    lines.push(String::new());
    let units = list(status, "units");
    let room = 24_usize.saturating_sub(lines.len() + 2);
    let (mut shown, mut well): (Vec<&Value>, usize) = (units.iter().collect(), 0);
    if shown.len() > room {
        let total = shown.len();
        // One-shots that are done are of the least interest.
        shown.retain(|unit| text(unit, "state") != "Done");
        shown.truncate(room);
        well = total - shown.len();
    }
    lines.extend(shown.into_iter().map(unit_row));
    if well > 0 {
        lines.push(format!("and {well} more: atalaya unit list"));
    }
    lines.join("\n")
}

fn unit_row(unit: &Value) -> String {
    let mark = match text(unit, "state").as_str() {
        "Running" if unit.get("ready") == Some(&Value::Bool(true)) => "ok",
        "Done" => "ok",
        "Failed" => "FAILED",
        "Stopped" => "-",
        _ => "...",
    };
    let mut words = text(unit, "words");
    if let Some(running) = unit.get("running_for_ms").and_then(Value::as_u64)
        && words == "ready"
    {
        words = format!("ready, for {}", duration(running));
    }
    cut(&format!("{:<20} {mark:<7} {words}", text(unit, "name")), 80)
}

pub fn units(answer: &Value) -> String {
    list(answer, "units")
        .iter()
        .map(unit_row)
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn line(unit: &Value) -> String {
    unit_row(unit)
}

pub fn unit(unit: &Value) -> String {
    let mut lines = vec![format!(
        "{} - {}",
        text(unit, "name"),
        text(unit, "description")
    )];
    for (name, key) in [
        ("State", "words"),
        ("Wanted", "desired"),
        ("Process", "pid"),
        ("Run", "run"),
        ("Says", "says"),
        ("Last end", "last_exit"),
        ("Reason", "reason"),
        ("Last line", "result"),
    ] {
        let value = text(unit, key);
        if !value.is_empty() {
            lines.push(format!("{name:<12} {value}"));
        }
    }
    let definition = unit.get("definition").cloned().unwrap_or_default();
    let joined = |key: &str| {
        list(&definition, key)
            .iter()
            .filter_map(Value::as_str)
            .map(harmless)
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (name, key) in [
        ("Program", "exec"),
        ("Requires", "requires"),
        ("After", "after"),
    ] {
        let value = joined(key);
        if !value.is_empty() {
            lines.push(format!("{name:<12} {value}"));
        }
    }
    lines.push(format!("{:<12} {}", "User", text(&definition, "user")));
    for (name, key) in [
        ("Ready", "ready"),
        ("Stop", "stop"),
        ("Restart", "restart"),
        ("Resources", "resources"),
        ("Sandbox", "sandbox"),
    ] {
        if let Some(fields) = definition.get(key).and_then(Value::as_object) {
            let fields: Vec<String> = fields
                .iter()
                .filter(|(_, value)| !value.is_null() && **value != Value::Array(Vec::new()))
                .map(|(key, value)| format!("{key}={}", harmless(&value.to_string())))
                .collect();
            lines.push(format!("{name:<12} {}", fields.join(" ")));
        }
    }
    lines.join("\n")
}

pub fn log_line(line: &Value) -> String {
    format!(
        "{} {}: {}",
        text(line, "t"),
        text(line, "unit"),
        text(line, "line")
    )
}

/// A row for each step of the probe's report. What is no such report is shown as it is.
pub fn probe(result: &Value) -> String {
    let steps = list(result, "steps");
    if steps.is_empty() {
        return harmless(&result.to_string());
    }
    let row = |step: &Value| {
        let (sign, words) = if step.get("ok") == Some(&Value::Bool(true)) {
            ("ok", format!("{} ms", text(step, "ms")))
        } else {
            ("FAILED", text(step, "error"))
        };
        format!("{:<12} {sign:<7} {words}", text(step, "step"))
    };
    steps.iter().map(row).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_status_is_one_screen_however_many_services_there_are() {
        for count in [0, 3, 16, 200] {
            let units: Vec<Value> = (0..count)
                .map(|number| {
                    json!({ "name": format!("unit-{number}"), "state": if number % 2 == 0 { "Done" } else { "Running" },
                            "ready": true, "words": "ready ".repeat(30) })
                })
                .collect();
            let shown = status(&json!({
                "state": "ready", "site": "https://chat.example.org", "version": "0.1.0", "build": "0123456789abcdef",
                "slot": "a", "mattermost": "11.7.9", "standin": true, "ca_sha256": "AB:".repeat(31) + "AB",
                "up_ms": 4_000_000, "data": false,
                "seed": { "source": "fw_cfg", "ok": false, "error": "hostname, line 1: too long" },
                "probe_user": "probe", "units": units,
            }));
            assert!(
                shown.lines().count() <= 24,
                "{count}: {}",
                shown.lines().count()
            );
            assert!(
                shown.lines().all(|line| line.chars().count() <= 80),
                "{shown}"
            );
            assert!(shown.contains("STAND-IN"));
        }
    }

    #[test]
    fn durations_are_words() {
        assert_eq!(duration(1_000), "1 second");
        assert_eq!(duration(240_000), "4 minutes");
        assert_eq!(duration(10_800_000), "3 hours");
    }

    #[test]
    fn nothing_that_a_unit_says_moves_the_cursor() {
        let shown = log_line(&json!({ "t": "t", "unit": "u", "line": "a\u{1b}[31mb\rc" }));
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }

    #[test]
    fn each_step_of_the_probe_has_a_row_and_a_failed_one_says_why() {
        let shown = probe(&json!({ "ok": false, "steps": [
            { "step": "log-in", "ok": true, "ms": 94, "error": null },
            { "step": "post", "ok": false, "ms": 3, "error": "the server answered 503" },
        ] }));
        assert_eq!(
            shown,
            "log-in       ok      94 ms\npost         FAILED  the server answered 503"
        );
    }
}

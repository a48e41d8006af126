//! Answers as text for people: 80 columns, no colour, no control characters from outside.

mod status;
mod unit;
mod update;

use serde_json::{Value, json};

pub use atalaya_core::words::harmless;
pub use status::{init_status, status};
pub use unit::{deps, line, retain_failed, unit, units, why};
pub use update::{bundle, moment, update, update_history, update_progress};

/// What a terminal has at least.
const COLUMNS: usize = 80;

/// Whether users are kept out, and what they are told.
pub fn maintenance(answer: &Value) -> String {
    let is = |key: &str| answer.get(key) == Some(&Value::Bool(true));
    let mut lines = Vec::new();
    if is("on") {
        let since = text(answer, "since");
        lines.push(match since.get(..19) {
            Some(since) => format!(
                "Users see the maintenance page, since {} UTC.",
                since.replace('T', " ")
            ),
            None => "Users see the maintenance page.".to_owned(),
        });
        match text(answer, "message") {
            message if message.is_empty() => {}
            message => lines.extend(wrap(&format!("They read: {message}"), COLUMNS, 2)),
        }
        if !is("kept") {
            lines
                .push("The data partition is not there: a reboot ends the maintenance.".to_owned());
        }
        lines.push("To let them in again: atalaya maintenance off".to_owned());
    } else if is("admit") {
        lines.push("There is no maintenance. Users are let in.".to_owned());
    } else {
        let state = text(answer, "state");
        let why = format!("There is no maintenance, but users cannot come in yet: {state}.");
        lines.extend(wrap(&why, COLUMNS, 0));
    }
    lines.join("\n")
}

/// A field as text, empty where there is none.
pub fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => harmless(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => harmless(&other.to_string()),
    }
}

pub fn list(value: &Value, key: &str) -> Vec<Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

pub fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars()
        .take(columns.saturating_sub(1))
        .chain(['\u{2026}'])
        .collect()
}

/// Between words, into lines of at most `columns`; what follows the first line is indented by `indent`.
fn wrap(text: &str, columns: usize, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let room = columns.saturating_sub(line.chars().count() + 1);
        if !line.trim().is_empty() && word.chars().count() > room {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.trim().is_empty() {
        lines.push(line);
    }
    lines
}

/// A name and what belongs to it, broken into lines beside it.
fn rows(name: &str, value: &str, name_columns: usize) -> Vec<String> {
    wrap(value, COLUMNS - name_columns, 0)
        .iter()
        .enumerate()
        .map(|(number, line)| {
            let name = if number == 0 { name } else { "" };
            cut(
                &format!("{name:<width$} {line}", width = name_columns - 1),
                COLUMNS,
            )
        })
        .collect()
}

/// Adds to the probe's report how the removal of what it has posted has ended.
pub fn add_cleaning(report: &mut Value, clean: &Value, is_clean: bool) {
    let error = (!is_clean).then(|| text(clean, "words"));
    let step = json!({ "step": "delete", "ok": is_clean, "ms": null, "error": error });
    if let Some(steps) = report.get_mut("steps").and_then(Value::as_array_mut) {
        steps.push(step);
    }
    if let Some(ok) = report.get_mut("ok").filter(|_| !is_clean) {
        *ok = Value::Bool(false);
    }
}

/// A row for each step of the probe's report. What is no such report is shown as it is.
pub fn probe(result: &Value) -> String {
    let steps = list(result, "steps");
    if steps.is_empty() {
        return harmless(&result.to_string());
    }
    let row = |step: &Value| {
        let skipped = text(step, "skipped");
        let (sign, words) = if !skipped.is_empty() {
            ("skipped", skipped)
        } else if step.get("ok") == Some(&Value::Bool(true)) {
            ("ok", took(step))
        } else {
            ("FAILED", text(step, "error"))
        };
        format!("{:<12} {sign:<7} {words}", text(step, "step"))
    };
    steps.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn took(step: &Value) -> String {
    let ms = step.get("ms").and_then(Value::as_u64);
    ms.map_or_else(String::new, |ms| format!("{ms} ms"))
}

/// The slowest chain of the start, or every service.
pub fn boot(boot: &Value, all: bool) -> String {
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64);
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    let mut lines = Vec::new();
    let chain = list(boot, "chain");
    match chain.last() {
        Some(last) => lines.push(format!(
            "{} after power-on the last of the chain, {}, was ready. The slowest chain:",
            seconds(number(last, "ready_ms").unwrap_or(0)),
            text(last, "unit")
        )),
        None => lines.push("Nothing has become ready yet.".to_owned()),
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<24} {:>9} {:>9} {:>9} {:>9}",
        "SERVICE", "WAITED", "STARTED", "TOOK", "READY"
    ));
    let row = |step: &Value| {
        let (started, ready) = (number(step, "started_ms"), number(step, "ready_ms"));
        let took = number(step, "took_ms").or_else(|| Some(ready? - started?));
        let shown = |ms: Option<u64>| ms.map_or("-".to_owned(), seconds);
        format!(
            "{:<24} {:>9} {:>9} {:>9} {:>9}",
            cut(&text(step, "unit"), 24),
            shown(number(step, "waited_ms")),
            shown(started),
            shown(took),
            shown(ready)
        )
    };
    if all {
        lines.extend(list(boot, "units").iter().map(row));
    } else {
        lines.extend(chain.iter().map(row));
    }
    lines.push(String::new());
    lines.push(
        "Times are since power-on. WAITED is the time between the readiness of the row above and the start.".to_owned(),
    );
    lines
        .iter()
        .flat_map(|line| {
            if line.len() > COLUMNS {
                wrap(line, COLUMNS, 0)
            } else {
                vec![line.clone()]
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// What became of the unit files that were read anew.
pub fn reloaded(answer: &Value) -> String {
    format!(
        "{} unit files were read anew. What runs was left as it is until its next start.",
        text(answer, "units")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_step_of_the_probe_has_a_row_and_a_failed_one_says_why() {
        let shown = probe(&json!({ "ok": false, "steps": [
            { "step": "log-in", "ok": true, "ms": 94, "error": null },
            { "step": "post", "ok": false, "ms": 3, "error": "the server answered 503" },
            { "step": "upload", "ok": true, "ms": 0, "error": null, "skipped": "files are switched off" },
        ] }));
        assert_eq!(
            shown,
            "log-in       ok      94 ms\npost         FAILED  the server answered 503\nupload       skipped files are switched off"
        );
    }

    #[test]
    fn long_text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 8, 2), ["one two", "  three"]);
        assert_eq!(wrap("", 8, 2), Vec::<String>::new());
        assert_eq!(wrap("abcdefghijkl", 8, 2), ["abcdefghijkl"]);
    }

    #[test]
    fn the_start_is_a_table_of_its_slowest_chain() {
        let answer = json!({ "chain": [
            { "unit": "initdb", "started_ms": 1000, "ready_ms": 8000, "took_ms": 7000, "waited_ms": 1000 },
            { "unit": "postgres", "started_ms": 8100, "ready_ms": 8600, "took_ms": 500, "waited_ms": 100 },
        ], "units": [{ "unit": "late", "started_ms": 9000, "ready_ms": null }] });
        let shown = boot(&answer, false);
        assert!(shown.starts_with("8.6 s after power-on"), "{shown}");
        assert!(
            shown.contains("initdb                       1.0 s     1.0 s     7.0 s     8.0 s"),
            "{shown}"
        );
        assert!(
            boot(&answer, true)
                .contains("late                             -     9.0 s         -         -")
        );
        assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
        assert!(boot(&json!({}), false).contains("Nothing has become ready"));
    }
}

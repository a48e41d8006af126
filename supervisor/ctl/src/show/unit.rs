//! `atalaya unit ...`: services as rows, as a definition, as a chain of causes, as a tree of needs.

use atalaya_core::words::{duration, size};
use serde_json::Value;

use super::{COLUMNS, cut, harmless, list, rows, text, wrap};

/// How it is, in a word.
pub fn mark(unit: &Value) -> &'static str {
    let is = |key: &str| unit.get(key) == Some(&Value::Bool(true));
    match text(unit, "state").as_str() {
        "Running" if is("ready") => "ok",
        "Done" => "ok",
        "Failed" => "FAILED",
        "Stopped" => "-",
        _ if is("wrong") => "wrong",
        _ => "...",
    }
}

fn words(unit: &Value) -> String {
    let words = text(unit, "words");
    match unit.get("running_for_ms").and_then(Value::as_u64) {
        Some(running) if words == "ready" => format!("ready, for {}", duration(running)),
        Some(_) | None => words,
    }
}

pub fn unit_row(unit: &Value) -> String {
    let row = format!(
        "{:<20} {:<7} {}",
        text(unit, "name"),
        mark(unit),
        words(unit)
    );
    cut(row.trim_end(), COLUMNS)
}

pub fn line(unit: &Value) -> String {
    unit_row(unit)
}

/// Leaves only those that have failed.
pub fn retain_failed(answer: &mut Value) {
    if let Some(units) = answer.get_mut("units").and_then(Value::as_array_mut) {
        units.retain(|unit| matches!(mark(unit), "FAILED" | "wrong"));
    }
}

pub fn units(answer: &Value, failed_only: bool) -> String {
    let units = list(answer, "units");
    if units.is_empty() && failed_only {
        return "No service has failed.".to_owned();
    }
    let mut lines = vec![format!(
        "{:<20} {:<7} {:>8} {:>9}  {}",
        "SERVICE", "STATE", "CPU TIME", "MEMORY", "SINCE, WHY"
    )];
    lines.extend(units.iter().map(|unit| {
        let usage = |key: &str| unit.get("usage")?.get(key)?.as_u64();
        let row = format!(
            "{:<20} {:<7} {:>8} {:>9}  {}",
            cut(&text(unit, "name"), 20),
            mark(unit),
            usage("cpu_us").map_or("-".to_owned(), processor_time),
            usage("memory").map_or("-".to_owned(), size),
            words(unit)
        );
        cut(row.trim_end(), COLUMNS)
    }));
    lines.join("\n")
}

/// "12.3 s", "4 min", "3 h".
fn processor_time(micros: u64) -> String {
    match micros / 1_000_000 {
        seconds @ 0..100 => format!("{seconds}.{} s", micros / 100_000 % 10),
        seconds @ 100..6000 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// State, definition and sandbox.
pub fn unit(unit: &Value) -> String {
    let mut lines = vec![format!(
        "{} - {}",
        text(unit, "name"),
        text(unit, "description")
    )];
    let mut row = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.extend(rows(name, value, NAME_COLUMNS));
        }
    };
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
        row(name, &text(unit, key));
    }
    row("Uses", &usage(unit));
    let definition = unit.get("definition").cloned().unwrap_or_default();
    for (name, key) in [
        ("Program", "exec"),
        ("Requires", "requires"),
        ("After", "after"),
        ("User", "user"),
        ("Groups", "groups"),
        ("Ready", "ready"),
        ("Liveness", "liveness"),
        ("Reload", "reload"),
        ("Timer", "timer"),
        ("Listens", "listen"),
        ("Stop", "stop"),
        ("Restart", "restart"),
        ("Resources", "resources"),
    ] {
        row(name, &flat(definition.get(key).unwrap_or(&Value::Null)));
    }
    // As it will be built; where that is not known, as it is written.
    let sandbox = unit.get("sandbox").or_else(|| definition.get("sandbox"));
    if let Some(fields) = sandbox.and_then(Value::as_object) {
        lines.push(String::new());
        lines.push("Sandbox".to_owned());
        for (key, value) in fields {
            let name = format!("  {}", key.replace('_', " "));
            let shown = flat(value);
            if !shown.is_empty() {
                lines.extend(rows(&name, &shown, NAME_COLUMNS));
            }
        }
    }
    lines.join("\n")
}

fn usage(unit: &Value) -> String {
    let number = |key: &str| unit.get("usage")?.get(key)?.as_u64();
    let parts = [
        number("cpu_us").map(|micros| format!("{} of processor time", processor_time(micros))),
        number("memory").map(|bytes| format!("{} of memory", size(bytes))),
        number("memory_peak").map(|bytes| format!("at most {}", size(bytes))),
        number("tasks").map(|tasks| format!("{tasks} tasks")),
        number("read_bytes").map(|bytes| format!("{} read", size(bytes))),
        number("written_bytes").map(|bytes| format!("{} written", size(bytes))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

const NAME_COLUMNS: usize = 20;

/// A value on one line: what is not set is not said.
fn flat(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => harmless(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(values) => {
            let nested = values
                .iter()
                .any(|value| value.is_object() || value.is_array());
            let parts: Vec<String> = values
                .iter()
                .map(flat)
                .filter(|part| !part.is_empty())
                .collect();
            parts.join(if nested { "; " } else { " " })
        }
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key, flat(value)))
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

/// The chain from the state to the cause.
pub fn why(why: &Value) -> String {
    let mut lines = Vec::new();
    for sentence in list(why, "chain").iter().filter_map(Value::as_str) {
        lines.extend(wrap(&harmless(sentence), COLUMNS, 0));
    }
    let words = list(why, "last_words");
    if !words.is_empty() {
        lines.push(format!("Last words of {}:", text(why, "cause")));
        lines.extend(
            words
                .iter()
                .filter_map(Value::as_str)
                .map(|line| cut(&format!("  | {}", harmless(line)), COLUMNS)),
        );
    }
    lines.extend(wrap(&format!("Next: {}", text(why, "next")), COLUMNS, 6));
    lines.join("\n")
}

/// What it needs, what needs it.
pub fn deps(deps: &Value) -> String {
    let mut lines = vec![text(deps, "name")];
    for (title, key) in [
        ("requires", "requires"),
        ("starts after", "after"),
        ("is required by", "required_by"),
        ("starts before", "before"),
        ("stops with it", "stops_too"),
    ] {
        for (number, unit) in list(deps, key).iter().enumerate() {
            let title = if number == 0 { title } else { "" };
            let row = format!(
                "  {title:<15} {:<20} {:<9} {}",
                text(unit, "name"),
                text(unit, "state").to_lowercase(),
                text(unit, "description")
            );
            lines.push(cut(row.trim_end(), COLUMNS));
        }
    }
    if lines.len() == 1 {
        lines.push("  needs nothing, and nothing needs it".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_says_what_a_service_uses_and_leaves_out_what_is_not_counted() {
        let answer = json!({ "units": [
            { "name": "postgres", "state": "Running", "ready": true, "words": "ready", "running_for_ms": 240_000,
              "usage": { "cpu_us": 12_345_678, "memory": 14 << 20 } },
            { "name": "seed", "state": "Done", "ready": true, "words": "done", "usage": null },
            { "name": "broken", "state": "Failed", "words": "failed at run: exit status 1" },
            { "name": "slow", "state": "Backoff", "wrong": true, "words": "will be started again" },
        ] });
        assert_eq!(
            units(&answer, false),
            "SERVICE              STATE   CPU TIME    MEMORY  SINCE, WHY\n\
             postgres             ok        12.3 s    14 MiB  ready, for 4 minutes\n\
             seed                 ok             -         -  done\n\
             broken               FAILED         -         -  failed at run: exit status 1\n\
             slow                 wrong          -         -  will be started again"
        );
        let mut failed = answer;
        retain_failed(&mut failed);
        assert_eq!(list(&failed, "units").len(), 2);
        failed["units"] = json!([]);
        assert_eq!(units(&failed, true), "No service has failed.");
    }

    #[test]
    fn the_chain_is_read_from_top_to_bottom_and_fits() {
        let shown = why(
            &json!({ "unit": "mattermost", "cause": "postgres", "wrong": true,
            "chain": ["Mattermost is waiting for PostgreSQL, which it requires.",
                      "PostgreSQL has failed before it was ready: ended before it was ready: exit status 1, and more, and more."],
            "last_words": ["FATAL: could not open \u{1b}[31mfile"], "next": "Read atalaya logs -u postgres." }),
        );
        assert_eq!(
            shown,
            "Mattermost is waiting for PostgreSQL, which it requires.\n\
             PostgreSQL has failed before it was ready: ended before it was ready: exit\n\
             status 1, and more, and more.\n\
             Last words of postgres:\n  | FATAL: could not open \u{fffd}[31mfile\n\
             Next: Read atalaya logs -u postgres."
        );
    }

    #[test]
    fn a_definition_is_shown_with_its_sandbox_as_it_will_be_built() {
        let shown = unit(
            &json!({ "name": "app", "description": "App", "words": "ready", "desired": "up", "pid": 42,
            "run": 3, "usage": { "memory": 1 << 20, "tasks": 3 },
            "definition": { "exec": ["/app", "-x"], "user": "app", "reload": null,
                            "stop": { "signal": "TERM", "timeout_s": 15 }, "sandbox": { "network": true } },
            "sandbox": { "no_new_privs": true, "capabilities": [], "mounts": [{ "path": "/var/lib/app" }],
                         "system_calls": "a ".repeat(60) } }),
        );
        assert!(
            shown.contains("Uses                1.0 MiB of memory, 3 tasks"),
            "{shown}"
        );
        assert!(shown.contains("Program             /app -x"), "{shown}");
        assert!(
            shown.contains("Stop                signal=TERM timeout_s=15"),
            "{shown}"
        );
        assert!(
            shown.contains("\nSandbox\n") && shown.contains("  no new privs      yes"),
            "{shown}"
        );
        assert!(
            !shown.contains("Reload") && !shown.contains("network"),
            "{shown}"
        );
        assert!(
            shown.lines().all(|line| line.chars().count() <= 80),
            "{shown}"
        );
    }

    #[test]
    fn needs_are_shown_in_both_directions() {
        let of = |name: &str| json!({ "name": name, "description": "D", "state": "Running", "ready": true });
        let shown = deps(
            &json!({ "name": "postgres", "requires": [of("initdb")], "after": [],
            "required_by": [of("gate"), of("mattermost")], "before": [], "stops_too": [of("mattermost")] }),
        );
        assert_eq!(
            shown,
            "postgres\n  requires        initdb               running   D\n\
             \x20 is required by  gate                 running   D\n\
             \x20                 mattermost           running   D\n\
             \x20 stops with it   mattermost           running   D"
        );
        assert!(deps(&json!({ "name": "x" })).contains("needs nothing"));
    }
}

//! Updates as text: what is under way, how far it is, what became of past ones.

use atalaya_core::words::{capital, duration, size};
use serde_json::Value;

use super::{COLUMNS, cut, list, rows, text, wrap};

/// Of the bar, in columns.
const BAR: usize = 20;

/// "2026-11-22 19:05:12 UTC" of RFC 3339.
pub fn moment(value: &Value, key: &str) -> String {
    let time = text(value, key);
    match time.get(..19) {
        Some(time) => format!("{} UTC", time.replace('T', " ")),
        None => "some time".to_owned(),
    }
}

fn part(value: &Value, key: &str) -> Value {
    value.get(key).cloned().unwrap_or_default()
}

fn row(name: &str, value: &str) -> Vec<String> {
    rows(name, value, 13)
}

/// `atalaya update status`.
pub fn update(answer: &Value) -> String {
    let mut lines = row("Update", &text(answer, "words"));
    let progress = part(answer, "progress");
    if progress.is_object() {
        lines.extend(row("", &bar(&progress)));
        lines.extend(row("From", &text(answer, "source")));
    }
    let good = part(answer, "good");
    lines.extend(row(
        "Version",
        &format!("{}, slot {}", text(&good, "version"), text(&good, "slot")),
    ));
    let error = part(answer, "error");
    if error.is_object() {
        lines.extend(row("Not done", &three_sentences(&error)));
    }
    let way_back = part(answer, "rollback");
    let refused = text(&way_back, "refused");
    lines.extend(row(
        "Way back",
        &if refused.is_empty() {
            format!(
                "to {} with the data of {}: atalaya update rollback",
                text(&way_back, "version"),
                moment(&way_back, "until")
            )
        } else {
            refused
        },
    ));
    for one in list(answer, "quarantine") {
        let reason = part(&one, "reason");
        lines.extend(row(
            "Not again",
            &format!("{}: {}", text(&one, "version"), text(&reason, "what")),
        ));
    }
    lines.join("\n")
}

fn three_sentences(error: &Value) -> String {
    format!(
        "{}. {} {}",
        capital(text(error, "what").trim_end_matches('.')),
        text(error, "data"),
        text(error, "next")
    )
}

/// One line: what is being done, and how far it is.
pub fn update_progress(answer: &Value) -> String {
    let progress = part(answer, "progress");
    if progress.is_object() {
        cut(&bar(&progress), COLUMNS)
    } else {
        cut(&text(answer, "words"), COLUMNS)
    }
}

fn bar(progress: &Value) -> String {
    let number = |key: &str| progress.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (done, total) = (number("done"), number("total"));
    let word = match text(progress, "step").as_str() {
        "write" => "Writing",
        "compare" => "Comparing",
        _ => "Verifying",
    };
    if total == 0 {
        return format!("{word}, {} read", size(number("fetched")));
    }
    let part = u128::from(done.min(total)) * 1000 / u128::from(total);
    let full = usize::try_from(part * BAR as u128 / 1000).unwrap_or(BAR);
    let left = progress
        .get("seconds_left")
        .and_then(Value::as_u64)
        .map_or_else(String::new, |seconds| {
            format!(", {} left", duration(seconds.saturating_mul(1000)))
        });
    format!(
        "{word} [{}{}] {:>3} %  {} of {}{left}",
        "#".repeat(full),
        ".".repeat(BAR - full),
        part / 10,
        size(done),
        size(total)
    )
}

/// `atalaya update history`, the latest last.
pub fn update_history(answer: &Value) -> String {
    let past = list(answer, "history");
    if past.is_empty() {
        return "There was no update yet.".to_owned();
    }
    let mut lines = Vec::new();
    for one in past {
        let outcome = match text(&one, "outcome").as_str() {
            "opened" => "done",
            "rolled_back" => "ROLLED BACK, no data was lost",
            _ => "not begun",
        };
        let marks = list(&one, "marks");
        let (began, from, to) = (moment(&one, "began"), text(&one, "from"), text(&one, "to"));
        lines.push(cut(&format!("{began}  {from} -> {to}  {outcome}"), COLUMNS));
        let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_u64);
        let spans: Vec<String> = marks
            .windows(2)
            .filter_map(|pair| {
                let [one, next] = pair else { return None };
                let took = number(next, "at")?.saturating_sub(number(one, "at")?);
                Some(format!("{} {took} s", text(one, "stage")))
            })
            .collect();
        if !spans.is_empty() {
            lines.extend(
                wrap(&format!("    {}", spans.join(", ")), COLUMNS, 4)
                    .iter()
                    .map(|line| indented(line)),
            );
        }
        if let Some(downtime) = number(&one, "downtime") {
            lines.push(format!("    users were kept out for {downtime} s"));
        }
        let reason = part(&one, "reason");
        if reason.is_object() {
            let what = format!(
                "because ({}): {}",
                text(&reason, "stage"),
                text(&reason, "what")
            );
            lines.extend(
                wrap(&what, COLUMNS - 4, 0)
                    .iter()
                    .map(|line| format!("    {line}")),
            );
            for said in list(&reason, "log").iter().filter_map(Value::as_str) {
                lines.push(cut(&format!("    | {}", super::harmless(said)), COLUMNS));
            }
        }
    }
    lines.join("\n")
}

fn indented(line: &str) -> String {
    format!("    {}", line.trim_start())
}

/// What a bundle says of itself, and whether this machine believes it.
pub fn bundle(summary: &Value) -> String {
    let manifest = part(summary, "manifest");
    let mattermost = part(&manifest, "mattermost");
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| lines.extend(row(name, &value));
    line(
        "Version",
        format!(
            "{} (build {}, {})",
            text(&manifest, "version"),
            text(&manifest, "build"),
            text(&manifest, "built")
        ),
    );
    line(
        "For",
        format!(
            "{} {}",
            text(&manifest, "product"),
            text(&manifest, "architecture")
        ),
    );
    line(
        "Mattermost",
        format!(
            "{} ({}), schema {}",
            text(&mattermost, "version"),
            text(&manifest, "kind"),
            text(&mattermost, "schema")
        ),
    );
    let from: Vec<String> = (list(&manifest, "postgresql_from").iter())
        .map(Value::to_string)
        .collect();
    let over = match from.as_slice() {
        [] => String::new(),
        from => format!(", carries data of {} over", from.join(", ")),
    };
    line(
        "PostgreSQL",
        format!("{}{over}", text(&manifest, "postgresql")),
    );
    line(
        "Comes from",
        format!("{} or later", text(&manifest, "minimum_from")),
    );
    for forbidden in list(&manifest, "forbidden_from")
        .iter()
        .filter_map(Value::as_str)
    {
        line("But not", super::harmless(forbidden));
    }
    line("Epoch", text(&manifest, "epoch"));
    for set in list(summary, "key_sets") {
        let keys = list(&set, "keys").len();
        line(
            "Key set",
            format!(
                "{}: {} of {keys} keys",
                text(&set, "version"),
                text(&set, "threshold")
            ),
        );
    }
    for key in list(summary, "signed_by").iter().filter_map(Value::as_str) {
        line("Signed by", super::harmless(key));
    }
    let refused = part(summary, "refused");
    let asked = summary.get("trust_asked") == Some(&Value::Bool(true));
    line(
        "Verdict",
        match (refused.is_object(), asked) {
            (true, _) => three_sentences(&refused),
            (false, true) => "its signatures are of keys that this machine trusts".to_owned(),
            (false, false) => {
                "its signatures are right among themselves; this machine trusts no keys".to_owned()
            }
        },
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn how_far_it_is_fits_a_line() {
        let answer = |progress: Value| json!({ "words": "the new version is being written", "progress": progress });
        let shown = update_progress(&answer(json!({
            "done": 858_993_460_u64, "total": 2_147_483_648_u64, "reused": 0, "fetched": 1, "step": "write", "seconds_left": 130,
        })));
        assert_eq!(
            shown,
            "Writing [########............]  40 %  819 MiB of 2.0 GiB, 2 minutes left"
        );
        let shown = update_progress(&answer(
            json!({ "done": 0, "total": 0, "fetched": 4096, "step": "verify" }),
        ));
        assert_eq!(shown, "Verifying, 4.0 KiB read");
        assert_eq!(
            update_progress(&answer(Value::Null)),
            "the new version is being written"
        );
        let past_its_end = json!({ "done": 3, "total": 2, "step": "compare", "fetched": 0 });
        assert!(update_progress(&answer(past_its_end)).contains("] 100 %"));
    }

    #[test]
    fn the_status_says_what_is_written_from_where() {
        let shown = update(&json!({
            "words": "a version is being written", "good": { "version": "0.2.0", "slot": "b" }, "source": "a stick, at the console",
            "progress": { "done": 0, "total": 0, "fetched": 4096, "step": "verify" }, "rollback": { "refused": "there is none." },
        }));
        assert!(
            shown.contains("\n             Verifying, 4.0 KiB read\nFrom         a stick, at the console\nVersion "),
            "{shown}"
        );
    }

    #[test]
    fn the_status_says_what_can_be_rolled_back_to_and_what_is_not_tried_again() {
        let shown = update(&json!({
            "words": "none is under way", "good": { "version": "0.2.0", "slot": "b" }, "progress": null, "error": null,
            "rollback": { "version": "0.1.0", "until": "2026-11-22T19:05:12.000Z" },
            "quarantine": [{ "version": "0.3.0", "reason": { "what": "mattermost has failed" } }],
        }));
        assert_eq!(
            shown,
            "Update       none is under way\nVersion      0.2.0, slot b\n\
             Way back     to 0.1.0 with the data of 2026-11-22 19:05:12 UTC: atalaya update\n             rollback\n\
             Not again    0.3.0: mattermost has failed"
        );
        let shown = update(&json!({
            "words": "none is under way", "good": { "version": "0.2.0", "slot": "b" },
            "error": { "what": "the bundle is cut short", "data": "Nothing was changed.", "next": "Fetch it again." },
            "rollback": { "refused": "there is no version before this one." },
        }));
        assert!(
            shown.contains(
                "\nNot done     The bundle is cut short. Nothing was changed. Fetch it again.\n"
            ),
            "{shown}"
        );
        assert!(
            shown.contains("Way back     there is no version"),
            "{shown}"
        );
    }

    #[test]
    fn a_bundle_says_what_it_is_and_whether_it_is_believed() {
        let mut summary = json!({
            "manifest": { "version": "0.2.0", "build": "ab", "built": "2026-11-22T00:00:00Z", "product": "atalaya",
                          "architecture": "x86_64", "kind": "standin", "mattermost": { "version": "11.8.0", "schema": 160 },
                          "postgresql": "17.6", "minimum_from": "0.1.0", "forbidden_from": ["0.1.1"], "epoch": 0 },
            "key_sets": [{ "version": 1, "threshold": 2, "keys": ["a", "b", "c"] }], "signed_by": ["a", "b"],
            "trust_asked": true, "refused": null,
        });
        let shown = bundle(&summary);
        for wanted in [
            "Version      0.2.0 (build ab, 2026-11-22T00:00:00Z)",
            "Mattermost   11.8.0 (standin), schema 160",
            "But not      0.1.1",
            "Key set      1: 2 of 3 keys",
            "Verdict      its signatures are of keys that this machine trusts",
        ] {
            assert!(
                shown.lines().any(|line| line == wanted),
                "{wanted}:\n{shown}"
            );
        }
        summary["refused"] = json!({ "code": "signatures", "what": "too few keys have signed", "data": "Nothing was changed.", "next": "Ask." });
        assert!(
            bundle(&summary)
                .ends_with("Verdict      Too few keys have signed. Nothing was changed. Ask.")
        );
    }

    #[test]
    fn the_history_tells_times_per_stage_downtime_and_reason() {
        let shown = update_history(&json!({ "history": [{
            "from": "0.2.0", "to": "0.3.0", "began": "2026-11-22T19:05:12.000Z", "outcome": "rolled_back", "downtime": 93,
            "marks": [{ "stage": "writing", "at": 1_795_374_312 }, { "stage": "armed", "at": 1_795_374_352 }],
            "reason": { "stage": "trial", "what": "mattermost has failed", "log": ["panic: no"] },
        }] }));
        assert_eq!(
            shown,
            "2026-11-22 19:05:12 UTC  0.2.0 -> 0.3.0  ROLLED BACK, no data was lost\n    writing 40 s\n    users were kept out for 93 s\n    \
             because (trial): mattermost has failed\n    | panic: no"
        );
        assert_eq!(
            update_history(&json!({ "history": [] })),
            "There was no update yet."
        );
    }
}

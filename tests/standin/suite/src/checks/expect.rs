//! Is an answer like a recorded one? Collects every difference instead of stopping at the first.

use super::{Failure, Outcome};
use crate::client::Answer;
use crate::recording::Recording;
use crate::shape::Shape;
use serde_json::Value;

/// Headers that clients rely on; a proxy may add others.
const HEADERS: &[&str] = &[
    "content-type",
    "x-content-type-options",
    "x-request-id",
    "x-version-id",
    "token",
    "cache-control",
    "etag",
    "content-disposition",
    "accept-ranges",
];

fn is_id(text: &str) -> bool {
    text.len() == 26
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// `VERSION.BUILD.HASH.LICENSED`: version and build have dots of their own.
fn is_version_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() >= 6
        && parts.iter().take(3).all(|p| p.parse::<u32>().is_ok())
        && ["true", "false"].contains(parts.last().unwrap_or(&""))
}

fn check_header(name: &str, recorded: &str, actual: Option<&str>) -> Option<String> {
    let Some(actual) = actual else {
        return Some(format!("header {name} is missing"));
    };
    let good = match name {
        "token" | "x-request-id" => is_id(actual),
        "x-version-id" => is_version_id(actual),
        "etag" => !actual.is_empty(),
        "content-disposition" => actual.starts_with("attachment"),
        // The parameters of a static file's type are the web server's affair.
        "content-type" => {
            let media = |t: &str| t.split(';').next().unwrap_or_default().trim().to_owned();
            media(actual) == media(recorded)
        }
        _ => actual.eq_ignore_ascii_case(recorded),
    };
    (!good).then(|| format!("header {name} is \"{actual}\", recorded \"{recorded}\""))
}

/// Status and headers like the recording's.
pub fn head_differences(answer: &Answer, recording: &Recording) -> Vec<String> {
    let mut found = Vec::new();
    if answer.status != recording.status {
        let body: String = answer.text().chars().take(200).collect();
        found.push(format!(
            "status is {}, recorded {}: {body}",
            answer.status, recording.status
        ));
    }
    for name in HEADERS {
        if let Some(recorded) = recording.header(name) {
            found.extend(check_header(name, recorded, answer.header(name)));
        }
    }
    found
}

pub fn outcome(found: Vec<String>) -> Outcome {
    if found.is_empty() {
        Ok(())
    } else {
        Err(Failure::Differs(found))
    }
}

/// Fails with the text unless the condition holds.
pub fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Outcome {
    if condition {
        Ok(())
    } else {
        Err(Failure::Differs(vec![otherwise()]))
    }
}

/// The whole comparison: status, headers, and the body's shape. An error's identifier must be the recorded one, and
/// its request the header's.
pub fn like(answer: &Answer, recording: &Recording, strict: bool) -> Outcome {
    let mut found = head_differences(answer, recording);
    let Some(recorded) = recording.json() else {
        return outcome(found);
    };
    let body = answer.json();
    found.extend(Shape::of(&recorded).differences(&body, strict));
    if recording.status >= 400 {
        found.extend(error_differences(answer, &body, &recorded));
    }
    outcome(found)
}

fn error_differences(answer: &Answer, body: &Value, recorded: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["id", "status_code"] {
        if body[field] != recorded[field] {
            found.push(format!(
                "{field} is {}, recorded {}",
                body[field], recorded[field]
            ));
        }
    }
    if recorded.get("request_id").is_some()
        && body["request_id"].as_str() != answer.header("x-request-id")
    {
        found.push("request_id is not the header's".to_owned());
    }
    found
}

/// Status and the usual error shape, for refusals that were not recorded.
pub fn refused(answer: &Answer, statuses: &[u16]) -> Outcome {
    let body = answer.json();
    let mut found = Vec::new();
    if !statuses.contains(&answer.status) {
        found.push(format!(
            "status is {}, wanted one of {statuses:?}",
            answer.status
        ));
    }
    for field in ["id", "message"] {
        if body[field].as_str().is_none_or(str::is_empty) {
            found.push(format!("the error has no {field}"));
        }
    }
    if body["status_code"].as_u64() != Some(u64::from(answer.status)) {
        found.push("status_code is not the status".to_owned());
    }
    outcome(found)
}

//! What can be asked of init itself, over /run/atalaya/init.sock: one JSON line in, one JSON line out. Parsing and
//! rendering only.

use super::{Summary, meanwhile::Meanwhile};
use atalaya_core::link::Action;
use serde_json::{Value, json};

/// The longest line, in bytes.
pub const LINE_LIMIT: usize = 4096;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    RestartSupervisor,
    End(Action),
    Status,
}

/// The request on a line; otherwise why it is none.
pub fn parse(line: &[u8]) -> Result<Request, String> {
    let value: Value =
        serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
    match value.get("request").and_then(Value::as_str) {
        Some("supervisor-restart") => Ok(Request::RestartSupervisor),
        Some("reboot") => Ok(Request::End(Action::Reboot)),
        Some("poweroff") => Ok(Request::End(Action::Poweroff)),
        Some("status") => Ok(Request::Status),
        Some(other) => Err(format!(
            "unknown request {other:?}; there are supervisor-restart, reboot, poweroff, status"
        )),
        None => Err("\"request\" is missing".to_owned()),
    }
}

pub fn done() -> Value {
    json!({"ok": true})
}

pub fn refused(why: &str) -> Value {
    json!({"ok": false, "error": why})
}

/// The answer to `status`. Of units only those that init has drained are in it.
pub fn status(summary: &Summary, meanwhile: &Meanwhile) -> Value {
    let drained: serde_json::Map<String, Value> = meanwhile
        .all()
        .map(|(name, said)| {
            let run = name.strip_prefix("run/").unwrap_or(name);
            (run.to_owned(), said.drained().into())
        })
        .collect();
    json!({
        "ok": true,
        "safe_mode": summary.safe_mode,
        "reason": summary.reason,
        "deaths": summary.deaths,
        "next_try_s": summary.next_try_ms.map(|left| left.div_ceil(1000)),
        "atalayad": summary.pid,
        "drained": drained,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_read_and_anything_else_says_what_there_is() {
        assert_eq!(parse(br#"{"request":"status"}"#), Ok(Request::Status));
        assert_eq!(
            parse(br#"{"request":"reboot"}"#),
            Ok(Request::End(Action::Reboot))
        );
        assert!(
            parse(br#"{"request":"x"}"#)
                .unwrap_err()
                .contains("supervisor-restart")
        );
        assert!(parse(b"{}").unwrap_err().contains("missing"));
        assert!(parse(b"reboot").is_err());
    }

    #[test]
    fn the_status_tells_bytes_by_run() {
        let mut meanwhile = Meanwhile::default();
        meanwhile.log("run/postgres.3", &vec![b'x'; 70_000]);
        let summary = Summary {
            safe_mode: true,
            reason: Some("it ended with status 1".to_owned()),
            deaths: 5,
            next_try_ms: Some(59_001),
            pid: None,
        };
        assert_eq!(
            status(&summary, &meanwhile),
            json!({
                "ok": true, "safe_mode": true, "reason": "it ended with status 1", "deaths": 5, "next_try_s": 60,
                "atalayad": null, "drained": {"postgres.3": 70_000},
            })
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unused = parse(&line).is_ok();
        }
    }
}

//! The wish that users stay out, kept on /data so that it outlives a reboot. Who is let in is `upstream`'s; here is the record alone.

use std::io::ErrorKind;
use std::path::Path;

use atalaya_sys::durable;
use serde::{Deserialize, Serialize};

/// Of the record. One of another version keeps users out: the wish was there.
const VERSION: u32 = 1;
/// Characters of a message: it stands on one page and in one line of the log.
pub const MESSAGE_LIMIT: usize = 500;

/// Users see the maintenance page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// What users are told beside it.
    pub message: Option<String>,
    /// RFC 3339; empty where it is not known any more.
    pub since: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    maintenance: Maintenance,
}

/// A message as a person gave it.
///
/// # Errors
/// What is allowed, where it cannot be shown.
pub fn parse_message(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.chars().count() > MESSAGE_LIMIT {
        return Err(format!("a message has at most {MESSAGE_LIMIT} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("a message is one line, without control characters".to_owned());
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// What was wished for before this start.
pub fn read(record: &Path) -> Option<Maintenance> {
    let text = match std::fs::read(record) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(_) => return Some(Maintenance::default()),
    };
    let record = serde_json::from_slice::<Record>(&text)
        .ok()
        .filter(|record| record.version == VERSION);
    // A wish that cannot be read was a wish: letting users in is the step that cannot be taken back.
    Some(record.map_or_else(Maintenance::default, |record| record.maintenance))
}

/// Keeps the wish, or forgets it.
///
/// # Errors
/// The disk is full or broken; what was kept before still is.
pub fn keep(record: &Path, maintenance: Option<&Maintenance>) -> Result<(), String> {
    let Some(maintenance) = maintenance else {
        if !record.exists() {
            return Ok(());
        }
        return durable::remove(record).map_err(|error| error.chain());
    };
    let text = serde_json::to_vec(&Record {
        version: VERSION,
        maintenance: maintenance.clone(),
    })
    .map_err(|error| error.to_string())?;
    if let Some(directory) = record.parent() {
        std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    }
    durable::write(record, &text, 0o600, None).map_err(|error| error.chain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_is_kept_and_one_that_cannot_be_read_keeps_users_out() {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("state/maintenance.json");
        assert_eq!(read(&record), None);
        let wish = Maintenance {
            message: Some("Back at 6.".to_owned()),
            since: "2026-11-22T22:00:00Z".to_owned(),
        };
        keep(&record, Some(&wish)).unwrap();
        assert_eq!(read(&record), Some(wish));
        for text in [&b"{"[..], br#"{"version":99,"maintenance":{}}"#] {
            durable::write(&record, text, 0o600, None).unwrap();
            assert_eq!(read(&record), Some(Maintenance::default()));
        }
        keep(&record, None).unwrap();
        keep(&record, None).unwrap();
        assert_eq!(read(&record), None);
    }

    #[test]
    fn the_record_of_this_version_is_understood_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let record = directory.path().join("maintenance.json");
        let text =
            br#"{"version":1,"maintenance":{"message":null,"since":"2026-11-22T22:00:00.000Z"}}"#;
        durable::write(&record, text, 0o600, None).unwrap();
        assert_eq!(read(&record).unwrap().since, "2026-11-22T22:00:00.000Z");
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(
            parse_message("  Back at 6. "),
            Ok(Some("Back at 6.".to_owned()))
        );
        assert_eq!(parse_message(" "), Ok(None));
        assert!(parse_message("a\nb").is_err() && parse_message("\u{1b}[2J").is_err());
        assert!(
            parse_message(&"é".repeat(500)).is_ok() && parse_message(&"a".repeat(501)).is_err()
        );
    }
}

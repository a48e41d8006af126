//! /run/atalaya/boot.json: what stage 1 booted from, for PID 1 and for atalayad, and how the boot before this one ended.
//!
//! ```json
//! {"version":1,"disk":"/dev/vda","slot":"a","root_hash":"...","watchdog_reset":false}
//! ```
//! PID 1 adds `watchdog_reset`: whether the hardware watchdog caused the restart (WDIOC_GETBOOTSTATUS). Where the machine
//! was not started from a disk of this product, that is the only fact in it.
//!
//! An orderly end leaves [`LAST_END`]; a boot that finds there the boot_id of the one before it followed an orderly end:
//! ```json
//! {"version":1,"action":"reboot","reason":"power button","boot_id":"...","time":1795362074}
//! ```
//! Where init has given up a version on trial, because its supervisor died again and again, `gave_up` is that version's root hash: the next
//! boot knows by it that the trial has failed, which nobody else could record.
//! `action` is reboot, poweroff or halt; `time` is seconds since 1970 by the clock of that boot. Written after all
//! processes have ended and before /data is unmounted; nobody deletes it.

use crate::console::Console;
use atalaya_sys::durable;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub const PATH: &str = "/run/atalaya/boot.json";
pub const LAST_END: &str = "/data/state/last-end.json";

/// Which disk, slot and root hash this boot runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRecord {
    /// The kernel's name of the disk, such as `vda`.
    pub disk: String,
    pub slot: char,
    pub root_hash: String,
}

impl BootRecord {
    pub fn write(&self) -> Result<(), atalaya_sys::Error> {
        let text = json!({
            "version": 1,
            "disk": format!("/dev/{}", self.disk),
            "slot": self.slot.to_string(),
            "root_hash": self.root_hash,
        });
        durable::write(Path::new(PATH), format!("{text}\n").as_bytes(), 0o644, None)
    }

    /// `None` if stage 1 left none: the machine was not started from a disk of ours.
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string(PATH).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let field = |name: &str| value.get(name)?.as_str();
        Some(Self {
            disk: field("disk")?.strip_prefix("/dev/")?.to_owned(),
            slot: field("slot")?.chars().next()?,
            root_hash: field("root_hash")?.to_owned(),
        })
    }
}

/// Adds it to what stage 1 wrote.
pub fn note_watchdog_reset(has_reset: bool, console: &mut Console) {
    let text = with_watchdog_reset(&fs::read_to_string(PATH).unwrap_or_default(), has_reset);
    if let Err(error) = durable::write(Path::new(PATH), text.as_bytes(), 0o644, None) {
        console.say("init", &error.chain());
    }
}

fn with_watchdog_reset(text: &str, has_reset: bool) -> String {
    let mut value = serde_json::from_str(text)
        .ok()
        .filter(Value::is_object)
        .unwrap_or_else(|| json!({"version": 1}));
    if let Some(fields) = value.as_object_mut() {
        fields.insert("watchdog_reset".to_owned(), has_reset.into());
    }
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written() {
        let text = r#"{"version":1,"disk":"/dev/vda","slot":"b","root_hash":"ab"}"#;
        let record = BootRecord::parse(text).unwrap();
        assert_eq!(
            (record.disk.as_str(), record.slot, record.root_hash.as_str()),
            ("vda", 'b', "ab")
        );
        assert_eq!(BootRecord::parse("{}"), None);
        assert_eq!(BootRecord::parse("junk"), None);
    }
    #[test]
    fn the_watchdogs_cause_is_added_and_the_rest_stays() {
        let text = r#"{"version":1,"disk":"/dev/vda","slot":"b","root_hash":"ab"}"#;
        let added = with_watchdog_reset(text, true);
        assert!(added.contains(r#""watchdog_reset":true"#));
        assert_eq!(BootRecord::parse(&added), BootRecord::parse(text));
        let alone: Value = serde_json::from_str(&with_watchdog_reset("", false)).unwrap();
        assert_eq!(alone, json!({"version": 1, "watchdog_reset": false}));
    }
}

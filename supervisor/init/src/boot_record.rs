//! /run/atalaya/boot.json: what stage 1 booted from, for PID 1 and for atalayad.

use atalaya_sys::durable;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub const PATH: &str = "/run/atalaya/boot.json";

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
}

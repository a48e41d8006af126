//! What stands in for the network in a trial, which is held back then: the addresses that the machine had are written down while it is armed, and
//! its interfaces are looked at without being used. Decides nothing.

use std::fs;
use std::path::{Path, PathBuf};

use atalaya_sys::durable;
use serde::{Deserialize, Serialize};

/// What the running version knows and the new one cannot find out in its trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// By which users find the machine.
    pub addresses: Vec<String>,
    /// Steps of the probe that the configuration rules out.
    pub skipped: Vec<String>,
    /// Units that had failed already: no fault of the new version.
    pub failed: Vec<String>,
}

/// Outside the generations: both versions read it.
fn kept_at(data: &Path) -> PathBuf {
    data.join("update/before.json")
}

/// # Errors
/// The disk is full or broken.
pub fn keep(data: &Path, before: &Before) -> Result<(), String> {
    let text = serde_json::to_vec(before).map_err(|error| error.to_string())?;
    fs::create_dir_all(data.join("update")).map_err(|error| error.to_string())?;
    durable::write(&kept_at(data), &text, 0o600, None).map_err(|error| error.chain())
}

/// Nothing, where nothing was written down.
pub fn read(data: &Path) -> Before {
    fs::read(kept_at(data))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// For the units that name the machine's addresses: they are told these instead of waiting for its own.
fn held_at(update: &Path) -> PathBuf {
    update.join("held-network.json")
}

/// # Errors
/// It cannot be written.
pub fn hold(update: &Path, addresses: &[String]) -> Result<(), String> {
    let text = serde_json::json!({ "addresses": addresses }).to_string();
    durable::write(&held_at(update), text.as_bytes(), 0o644, None).map_err(|error| error.chain())
}

/// # Errors
/// It cannot be removed.
pub fn release(update: &Path) -> Result<(), String> {
    durable::remove(&held_at(update)).map_err(|error| error.chain())
}

/// Interfaces with a device behind them: others are made by configuration and are not there while the network is held back.
pub fn interfaces() -> Vec<String> {
    list_interfaces(Path::new("/sys/class/net"))
}

fn list_interfaces(class: &Path) -> Vec<String> {
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("device").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_running_version_wrote_down_is_what_the_new_one_reads() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(read(data.path()), Before::default());
        let before = Before {
            addresses: vec!["203.0.113.7".to_owned()],
            skipped: vec!["log-in".to_owned()],
            failed: Vec::new(),
        };
        keep(data.path(), &before).unwrap();
        assert_eq!(read(data.path()), before);
        // What a later version adds does not keep this one from reading the rest.
        let text = br#"{"addresses":["203.0.113.7"],"skipped":["log-in"],"more":1}"#;
        durable::write(&kept_at(data.path()), text, 0o600, None).unwrap();
        assert_eq!(read(data.path()), before);
    }

    #[test]
    fn only_interfaces_with_a_device_count() {
        let class = tempfile::tempdir().unwrap();
        for path in ["lo", "br0", "eth1/device", "eth0/device"] {
            fs::create_dir_all(class.path().join(path)).unwrap();
        }
        assert_eq!(list_interfaces(class.path()), ["eth0", "eth1"]);
        assert!(list_interfaces(&class.path().join("none")).is_empty());
    }

    #[test]
    fn an_address_that_cannot_be_understood_is_shown_as_it_is() {
        assert_eq!(
            crate::update::shown_address("https://a@b@c/d#e"),
            "https://c/d"
        );
        assert_eq!(crate::update::shown_address("x"), "x");
        assert_eq!(crate::update::shown_address("http://h?q"), "http://h");
    }
}

//! How long this machine has been on in all its life. The age of a log counts by this clock, so that a wall clock that jumps by ten
//! years deletes nothing. It is kept in `ROOT/on.json`; a power cut sets it back by minutes, which only keeps logs longer.

use std::fs;
use std::path::{Path, PathBuf};

use atalaya_sys::durable;
use serde::{Deserialize, Serialize};

use crate::clock::boottime_ms;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    boot: String,
    /// In all, when it was written.
    on_ms: u64,
    /// Of it, in that boot.
    boot_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) struct OnClock {
    path: PathBuf,
    boot: String,
    before_ms: u64,
    /// A newer version's is not overwritten.
    is_ours: bool,
}

impl OnClock {
    pub fn read(root: &Path, boot: &str) -> Self {
        let path = root.join("on.json");
        let text = fs::read(&path).unwrap_or_default();
        let kept: Option<Kept> = serde_json::from_slice(&text).ok();
        let version: Option<u64> = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value.get("version")?.as_u64());
        let before_ms = kept.map_or(0, |kept| {
            if kept.boot == boot {
                kept.on_ms.saturating_sub(kept.boot_ms)
            } else {
                kept.on_ms
            }
        });
        Self {
            path,
            boot: boot.to_owned(),
            before_ms,
            is_ours: version.is_none_or(|version| version <= u64::from(VERSION)),
        }
    }

    pub fn now_ms(&self) -> u64 {
        self.before_ms.saturating_add(boottime_ms())
    }

    /// # Errors
    /// The disk does not take it.
    pub fn keep(&self) -> Result<(), atalaya_sys::Error> {
        if !self.is_ours {
            return Ok(());
        }
        let boot_ms = boottime_ms();
        let kept = Kept {
            version: VERSION,
            boot: self.boot.clone(),
            on_ms: self.before_ms.saturating_add(boot_ms),
            boot_ms,
        };
        let text = serde_json::to_vec(&kept).unwrap_or_default();
        durable::write(&self.path, &text, 0o600, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_over_boots_and_restarts_of_atalayad() {
        let root = tempfile::tempdir().unwrap();
        let first = OnClock::read(root.path(), "one");
        assert_eq!(first.before_ms, 0);
        first.keep().unwrap();
        // The same boot goes on counting from its beginning.
        assert_eq!(OnClock::read(root.path(), "one").before_ms, 0);
        let second = OnClock::read(root.path(), "two");
        assert!(second.before_ms > 0 && second.now_ms() >= 2 * second.before_ms);
        second.keep().unwrap();
        assert!(OnClock::read(root.path(), "three").before_ms >= 2 * second.before_ms);
    }

    #[test]
    fn a_newer_versions_count_is_used_where_it_can_be_and_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let newer = br#"{"version":9,"boot":"one","on_ms":500,"boot_ms":100,"more":1}"#;
        crate::logs::put(&root.path().join("on.json"), newer);
        let clock = OnClock::read(root.path(), "two");
        assert_eq!(clock.before_ms, 500);
        clock.keep().unwrap();
        assert_eq!(fs::read(root.path().join("on.json")).unwrap(), newer);
    }
}

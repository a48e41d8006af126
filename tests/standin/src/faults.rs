//! Faults switched on for tests: what the stand-in is told to get wrong. README.md lists them.
//!
//! They come from `MM_STANDIN_FAULTS` and from the file `standin-faults` in `FileSettings.Directory`; the file is read
//! again at each use, so that a fault begins and ends under a running server. Words are parted by white space or commas.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every fault by name. Unknown words are reported at start, never silently accepted.
pub const NAMES: &[&str] = &[
    "corrupt-download",
    "deny-search",
    "exit-after-ready",
    "exit-at-start",
    "fail-login",
    "fail-migration",
    "fail-post",
    "fail-search",
    "fail-upload",
    "hang",
    "hang-migration",
    "ignore-term",
    "lose-post",
    "lose-websocket",
    "no-ready",
    "slow-start",
    "unhealthy",
];

#[derive(Clone, Debug, Default)]
pub struct Faults {
    environment: String,
    file: Option<PathBuf>,
}

impl Faults {
    pub fn new(environment: &str, files_directory: Option<&Path>) -> Self {
        Self {
            environment: environment.to_owned(),
            file: files_directory.map(|d| d.join("standin-faults")),
        }
    }

    fn words(&self) -> Vec<String> {
        let file = self
            .file
            .as_ref()
            .and_then(|f| std::fs::read_to_string(f).ok())
            .unwrap_or_default();
        format!("{} {file}", self.environment)
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Is the fault on at this moment?
    pub fn on(&self, name: &str) -> bool {
        debug_assert!(NAMES.contains(&name));
        self.words()
            .iter()
            .any(|w| w.split('=').next() == Some(name))
    }

    /// `slow-start=SECONDS`: how long to wait before the first connection.
    pub fn slow_start(&self) -> Duration {
        let seconds = self
            .words()
            .iter()
            .find_map(|w| w.strip_prefix("slow-start=")?.parse().ok());
        Duration::from_secs(seconds.unwrap_or(0))
    }

    /// Words that are no fault's name.
    pub fn unknown(&self) -> Vec<String> {
        let mut words = self.words();
        words.retain(|w| !NAMES.contains(&w.split('=').next().unwrap_or(w)));
        words
    }

    /// What is on, for the log.
    pub fn list(&self) -> Vec<String> {
        self.words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_again_at_each_use() {
        let folder = std::env::temp_dir().join(crate::ids::new_id());
        std::fs::create_dir(&folder).unwrap();
        let faults = Faults::new("fail-post,slow-start=3 nonsense", Some(&folder));
        assert!(faults.on("fail-post") && !faults.on("fail-login"));
        assert_eq!(faults.slow_start(), Duration::from_secs(3));
        assert_eq!(faults.unknown(), ["nonsense"]);
        assert!(!faults.on("fail-login"));
        #[allow(clippy::disallowed_methods)] // a test's throw-away file
        std::fs::write(folder.join("standin-faults"), "fail-login\n").unwrap();
        assert!(faults.on("fail-login"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

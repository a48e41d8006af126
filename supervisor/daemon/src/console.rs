//! The machine's own screens: every console of the kernel, written without ever waiting for one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::clock;

/// All consoles, or none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Console {
    outputs: Arc<Vec<File>>,
}

impl Console {
    /// Opens what the kernel lists. One that cannot be opened is left out: the log has everything.
    pub fn open() -> Self {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let outputs = active
            .split_whitespace()
            .filter_map(|name| {
                OpenOptions::new()
                    .write(true)
                    .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits())
                    .open(Path::new("/dev").join(name))
                    .ok()
            })
            .collect();
        Self {
            outputs: Arc::new(outputs),
        }
    }

    /// One line, with the time since power-on. Nothing in it can move the cursor.
    pub fn line(&self, text: &str) {
        let now = clock::boottime_ms();
        self.write(&format!(
            "[{:>5}.{:03}] {}\r\n",
            now / 1000,
            now % 1000,
            harmless(text)
        ));
    }

    /// Several lines with room around them.
    pub fn block(&self, lines: &[String]) {
        let mut text = String::from("\r\n");
        for line in lines {
            text.push_str("  ");
            text.push_str(&harmless(line));
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        self.write(&text);
    }

    fn write(&self, text: &str) {
        for mut output in self.outputs.iter() {
            // A console that does not take it is stopped or gone; waiting for it would stop the units' supervisor.
            drop(output.write(text.as_bytes()));
        }
    }
}

/// Without control characters.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// What fits beside the margin on a screen of 80.
const COLUMNS: usize = 76;

/// What the status block says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub address: Option<String>,
    pub state: String,
    pub version: String,
    pub fingerprint: Option<String>,
    /// Shown here and nowhere else.
    pub administrator_password: Option<String>,
    /// What a service that was given up said last.
    pub last_words: Option<String>,
    /// Why the seed was refused.
    pub refused_seed: Option<String>,
    pub is_standin: bool,
}

impl Block {
    pub fn lines(&self) -> Vec<String> {
        let mut rows = BTreeMap::new();
        let mut order = Vec::new();
        let mut row = |name: &'static str, value: String| {
            order.push(name);
            rows.insert(name, value);
        };
        row("Atalaya", self.version.clone());
        row("State", self.state.clone());
        if let Some(words) = &self.last_words {
            row("It said", words.clone());
            row(
                "What to do",
                "nothing on /data was changed by this; see its log".to_owned(),
            );
        }
        row(
            "Address",
            self.address
                .clone()
                .unwrap_or_else(|| "none yet".to_owned()),
        );
        if let Some(fingerprint) = &self.fingerprint {
            let (first, second) = fingerprint.split_at(fingerprint.len().min(48));
            row("Certificate", first.to_owned());
            if !second.is_empty() {
                row("", second.to_owned());
            }
        }
        if let Some(password) = &self.administrator_password {
            row("First log-in", format!("admin  {password}"));
        }
        if let Some(error) = &self.refused_seed {
            row("Seed refused", error.clone());
        }
        if self.is_standin {
            row(
                "Note",
                "the stand-in, not Mattermost: for building and testing only".to_owned(),
            );
        }
        order
            .iter()
            .map(|name| format!("{name:<13} {}", rows.get(name).map_or("", String::as_str)))
            .map(|line| line.chars().take(COLUMNS).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_fits_a_small_screen_and_control_characters_are_shown() {
        let block = Block {
            address: Some("https://192.168.100.100".into()),
            state: "Ready".into(),
            version: "0.1.0-standin (build 0123456789ab)".into(),
            fingerprint: Some("AB:".repeat(32).trim_end_matches(':').into()),
            administrator_password: Some("correct-horse".into()),
            last_words: Some("a very long sentence about what is wrong here ".repeat(5)),
            refused_seed: Some("hostname, line 1: not a host name".into()),
            is_standin: true,
        };
        for line in block.lines() {
            assert!(line.chars().count() <= 76, "{line}");
        }
        assert_eq!(harmless("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}

//! The machine's own screens: every console of the kernel, written without ever waiting for one. Where a program draws a
//! screen on one of them, that one is left alone; the screen shows the lines itself, from the newest that are kept here.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use atalaya_core::words::harmless;
use atalaya_sys::screen;
use nix::fcntl::OFlag;
use serde::Serialize;

use crate::clock;

/// Lines that are kept for the screens.
const MESSAGES: usize = 200;
/// Characters of a line that are kept.
const MESSAGE_LENGTH: usize = 400;

/// All consoles, or none. Cheap to clone.
#[derive(Clone)]
pub struct Console {
    outputs: Arc<Vec<Output>>,
    /// Where it stands who draws on a console.
    screens: Arc<PathBuf>,
    messages: Arc<Mutex<VecDeque<Message>>>,
}

struct Output {
    /// As the kernel calls it, such as `ttyS0`.
    name: String,
    file: File,
}

/// One line, for the screens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// RFC 3339.
    pub t: String,
    pub text: String,
}

impl Default for Console {
    fn default() -> Self {
        Self::new(Vec::new(), screen::DIRECTORY.into())
    }
}

impl Console {
    fn new(outputs: Vec<Output>, screens: PathBuf) -> Self {
        Self {
            outputs: Arc::new(outputs),
            screens: Arc::new(screens),
            messages: Arc::default(),
        }
    }

    /// Opens what the kernel lists. One that cannot be opened is left out: the log has everything.
    pub fn open() -> Self {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let outputs = active
            .split_whitespace()
            .filter_map(|name| {
                let file = OpenOptions::new()
                    .write(true)
                    .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits())
                    .open(Path::new("/dev").join(name))
                    .ok()?;
                Some(Output {
                    name: name.to_owned(),
                    file,
                })
            })
            .collect();
        Self::new(outputs, screen::DIRECTORY.into())
    }

    /// One line, with the time since power-on. Nothing in it can move the cursor.
    pub fn line(&self, text: &str) {
        let text = harmless(text);
        self.remember(&text);
        let now = clock::boottime_ms();
        self.write(&format!("[{:>5}.{:03}] {text}\r\n", now / 1000, now % 1000));
    }

    /// Several lines with room around them. Screens have a place of their own for what stands in them.
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

    /// The newest lines, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().cloned().collect()
    }

    fn remember(&self, text: &str) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() >= MESSAGES {
            messages.pop_front();
        }
        messages.push_back(Message {
            t: clock::wall_now(),
            text: text.chars().take(MESSAGE_LENGTH).collect(),
        });
    }

    fn write(&self, text: &str) {
        for output in self.outputs.iter() {
            if screen::is_taken(&self.screens, &output.name) {
                continue;
            }
            // A console that does not take it is stopped or gone; waiting for it would stop the units' supervisor.
            drop((&output.file).write(text.as_bytes()));
        }
    }
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
    fn a_console_with_a_screen_on_it_is_left_alone_and_its_lines_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let output = |name: &str| Output {
            name: name.to_owned(),
            file: File::create(path(&format!("{name}.out"))).unwrap(),
        };
        let outputs = vec![output("tty1"), output("ttyS0")];
        let console = Console::new(outputs, directory.path().to_owned());
        let lease = screen::take(directory.path(), "tty1").unwrap();
        console.line("one\u{1b}[2J");
        console.block(&["block".to_owned()]);
        drop(lease);
        console.line("two");
        let shown = |name: &str| fs::read_to_string(path(name)).unwrap();
        let (screen, serial) = (shown("tty1.out"), shown("ttyS0.out"));
        assert!(
            !screen.contains("one") && !screen.contains("block"),
            "{screen}"
        );
        assert!(screen.ends_with("two\r\n"), "given back: {screen}");
        assert!(
            serial.contains("one") && serial.contains("block"),
            "{serial}"
        );
        let messages: Vec<String> = console
            .messages()
            .into_iter()
            .map(|message| message.text)
            .collect();
        assert_eq!(messages, ["one\u{fffd}[2J", "two"]);
        for number in 0..1000 {
            console.line(&number.to_string());
        }
        assert_eq!(console.messages().len(), MESSAGES);
    }

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

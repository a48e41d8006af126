//! What somebody sees who looks on: lines with the time since the beginning, of which the last one may still change. All of it
//! fits on one screen of 80 x 24. Colours and a changing line are for terminals only, and every state is in words too.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// A changing line must never be broken in two, or it could not be wiped out again.
const WIDTH: usize = 79;
/// "  1:23  "
const INDENT: usize = 8;

/// How a line is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

pub struct Screen {
    begun: Instant,
    live: bool,
    coloured: bool,
    /// What was last said to be under way.
    under_way: String,
}

impl Screen {
    pub fn new() -> Screen {
        let live = std::io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            begun: Instant::now(),
            live,
            coloured: live && !plain,
            under_way: String::new(),
        }
    }

    /// Begins with an empty screen, if it is one: what the build has said is still there above it.
    pub fn begin(&mut self, title: &str) {
        if self.live {
            self.put("\u{1b}[2J\u{1b}[H");
        }
        self.put(&format!("{}\n", self.painted(title, "1")));
    }

    pub fn heading(&mut self, text: &str) {
        self.put(&format!("\n{}\n", self.painted(text, "1")));
    }

    /// Something has happened.
    pub fn say(&mut self, tone: Tone, text: &str) {
        let time = self.time();
        for (number, line) in wrapped(text, WIDTH - INDENT).iter().enumerate() {
            let time = if number == 0 { &time } else { "" };
            let line = self.painted(line, tone.code());
            self.put(&format!("{}{time:<INDENT$}{line}\n", self.wiped()));
        }
        self.under_way.clear();
    }

    /// Something goes on; a terminal sees how far it is, everybody else that it has begun.
    pub fn wait(&mut self, what: &str, detail: &str) {
        if self.live {
            let line = format!("{}{what} ... {detail}", self.time());
            let line: String = line.chars().take(WIDTH).collect();
            self.put(&format!("{}{line}", self.wiped()));
        } else if self.under_way != what {
            self.put(&format!("{}{what} ...\n", self.time()));
        }
        what.clone_into(&mut self.under_way);
    }

    pub fn end(&mut self, tone: Tone, text: &str) {
        self.put(&format!("{}\n", self.wiped()));
        for line in wrapped(text, WIDTH) {
            self.put(&format!("{}\n", self.painted(&line, tone.code())));
        }
    }

    pub fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    fn time(&self) -> String {
        let seconds = self.seconds();
        format!("{:3}:{:02}  ", seconds / 60, seconds % 60)
    }

    fn wiped(&self) -> &'static str {
        if self.live { "\r\u{1b}[K" } else { "" }
    }

    fn painted(&self, text: &str, code: &str) -> String {
        if self.coloured && !code.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    #[allow(clippy::print_stdout, reason = "a program for people")]
    fn put(&self, text: &str) {
        print!("{text}");
        // Nobody looks on any more.
        std::io::stdout().flush().ok();
    }
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
        }
    }
}

/// Broken between words; a word that is longer than a line is broken where the line ends.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last().map_or(0, |line| line.chars().count());
            let gap = usize::from(line > 0);
            if line + gap + word.len() <= width {
                if let Some(last) = lines.last_mut() {
                    last.extend((gap > 0).then_some(' '));
                    last.extend(&word);
                }
                break;
            }
            let rest = if line == 0 {
                word.split_off(width)
            } else {
                std::mem::take(&mut word)
            };
            if let Some(last) = lines.last_mut() {
                last.extend(&word);
            }
            lines.push(String::new());
            word = rest;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn lines_end_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
        assert_eq!(wrapped("a abcdefghij b", 4), ["a", "abcd", "efgh", "ij b"]);
        let text = "the probe failed at post: the post that was taken cannot be read";
        assert!(
            wrapped(text, 20)
                .iter()
                .all(|line| line.chars().count() <= 20)
        );
        assert_eq!(wrapped(text, 20).join(" "), text);
    }
}

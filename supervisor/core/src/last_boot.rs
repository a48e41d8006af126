//! Why the last boot ended: from what was found out about it to one cause, in words. Pure: finding out is the daemon's work.
//!
//! What is certain comes first: init wrote down that it ended in order, or the kernel left its last words (pstore). Then the watchdog's
//! own flag. What is left ended without a word from anybody, which is what a power cut, a reset button or a hypervisor's kill
//! look like from inside.

use serde::{Deserialize, Serialize};

/// The cause, as a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// There was no boot before this one, as far as the data know.
    FirstBoot,
    /// All was stopped and synced.
    Orderly,
    /// The kernel gave up.
    Panic,
    /// The watchdog reset a machine that did not answer.
    Watchdog,
    /// Memory ran out, and the kernel found nothing to kill, or was told to give up.
    OutOfMemory,
    /// It stopped in the middle of a word: power, the reset button, or whoever runs the virtual machine.
    PowerLoss,
    /// Nothing is known about it.
    Unknown,
}

/// What init wrote down when it ended the machine in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// `reboot`, `poweroff` or `halt`.
    pub action: String,
    pub reason: String,
    /// Something did not go as it should: a file system that could not be unmounted, say.
    pub troubles: Vec<String>,
}

/// One of the last lines of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub unit: String,
    pub text: String,
}

/// What could be found out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// There is a log of a boot before this one.
    pub has_log: bool,
    /// Of that boot, not of an older one.
    pub end: Option<End>,
    /// The kernel's last words, as they were kept over the reset, oldest first.
    pub kernel_words: Vec<String>,
    /// The watchdog says that it caused this start.
    pub watchdog: bool,
    /// Oldest first.
    pub last_lines: Vec<Said>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub cause: Kind,
    /// One sentence for people.
    pub words: String,
    /// What was said last, oldest first.
    #[serde(default)]
    pub lines: Vec<String>,
}

/// So many of the last lines belong to the answer.
const LINES: usize = 10;
/// The longest of them, in characters.
const COLUMNS: usize = 400;

/// Decides.
pub fn assess(facts: &Facts) -> Cause {
    let kernel = facts.kernel_words.iter().map(String::as_str);
    let (cause, words) = if let Some(panic) = kernel.clone().find_map(panic_words) {
        let memory = kernel.clone().any(is_memory_death);
        match memory {
            true => (
                Kind::OutOfMemory,
                format!("the machine ran out of memory and the kernel gave up: {panic}"),
            ),
            false => (Kind::Panic, format!("the kernel gave up: {panic}")),
        }
    } else if let Some(end) = &facts.end {
        (Kind::Orderly, orderly_words(end))
    } else if facts.watchdog {
        let words = "the watchdog reset the machine because it no longer answered".to_owned();
        (Kind::Watchdog, words)
    } else if facts.last_lines.iter().any(is_last_memory_line) {
        let words = "memory had run out when the machine stopped without a word".to_owned();
        (Kind::OutOfMemory, words)
    } else if !facts.last_lines.is_empty() {
        let words = "it stopped in the middle of its work: the power went, or the machine was reset from outside";
        (Kind::PowerLoss, words.to_owned())
    } else if facts.has_log {
        let words = "nothing is known: it left no line behind".to_owned();
        (Kind::Unknown, words)
    } else {
        let words = "there is no boot before this one on this data".to_owned();
        (Kind::FirstBoot, words)
    };
    Cause {
        cause,
        words,
        lines: last_words(facts, cause),
    }
}

fn orderly_words(end: &End) -> String {
    let what = match end.action.as_str() {
        "reboot" => "it was restarted in order",
        "poweroff" => "it was switched off in order",
        "halt" => "it was halted in order",
        _ => "it ended in order",
    };
    let reason = if end.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", end.reason)
    };
    let troubles = if end.troubles.is_empty() {
        String::new()
    } else {
        format!(" (not all went well: {})", end.troubles.join("; "))
    };
    format!("{what}{reason}{troubles}")
}

/// The kernel's sentence, without what comes before it.
fn panic_words(line: &str) -> Option<String> {
    let at = line.find("Kernel panic - not syncing")?;
    Some(cut(line.get(at..).unwrap_or(line)))
}

fn is_memory_death(line: &str) -> bool {
    line.contains("System is deadlocked on memory")
        || line.contains("panic_on_oom")
        || line.contains("Out of memory and no killable processes")
}

/// The whole machine's memory: a unit over its own limit is that unit's affair.
fn is_last_memory_line(said: &Said) -> bool {
    said.unit == "kernel"
        && (is_memory_death(&said.text) || said.text.contains("Out of memory: Killed process"))
}

fn last_words(facts: &Facts, cause: Kind) -> Vec<String> {
    let from_kernel = matches!(cause, Kind::Panic | Kind::OutOfMemory);
    if from_kernel && !facts.kernel_words.is_empty() {
        // From a little before the sentence: the call trace behind it fills pages.
        let words = &facts.kernel_words;
        let at = words
            .iter()
            .position(|line| panic_words(line).is_some())
            .unwrap_or(0);
        let from = at.saturating_sub(LINES / 2);
        return words
            .iter()
            .skip(from)
            .take(LINES)
            .map(|l| cut(l))
            .collect();
    }
    let lines = &facts.last_lines;
    let from = lines.len().saturating_sub(LINES);
    lines
        .iter()
        .skip(from)
        .map(|said| cut(&format!("{}: {}", said.unit, said.text)))
        .collect()
}

fn cut(text: &str) -> String {
    text.trim_end().chars().take(COLUMNS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(unit: &str, text: &str) -> Said {
        Said {
            unit: unit.into(),
            text: text.into(),
        }
    }

    /// What a machine in the middle of its work leaves behind.
    fn busy() -> Facts {
        Facts {
            has_log: true,
            last_lines: vec![said("postgres", "LOG:  checkpoint starting")],
            ..Facts::default()
        }
    }

    #[test]
    fn each_cause_is_told_from_the_others() {
        let end = End {
            action: "reboot".into(),
            reason: "a command".into(),
            troubles: vec![],
        };
        let panic = vec![
            "<4>[   99.1] something".to_owned(),
            "<0>[  100.0] Kernel panic - not syncing: dm-verity device corrupted".to_owned(),
            "<4>[  100.1] Call Trace:".to_owned(),
        ];
        let deadlock = vec![
            "Out of memory and no killable processes...".to_owned(),
            "Kernel panic - not syncing: System is deadlocked on memory".to_owned(),
        ];
        let oom = said("kernel", "Out of memory: Killed process 12 (mattermost)");
        let inner = said("kernel", "Memory cgroup out of memory: Killed process 12");
        for (facts, kind) in [
            (Facts::default(), Kind::FirstBoot),
            (
                Facts {
                    has_log: true,
                    ..Facts::default()
                },
                Kind::Unknown,
            ),
            (busy(), Kind::PowerLoss),
            (
                Facts {
                    end: Some(end.clone()),
                    ..busy()
                },
                Kind::Orderly,
            ),
            (
                Facts {
                    watchdog: true,
                    ..busy()
                },
                Kind::Watchdog,
            ),
            // A watchdog flag that a reboot in order leaves set proves nothing.
            (
                Facts {
                    watchdog: true,
                    end: Some(end.clone()),
                    ..busy()
                },
                Kind::Orderly,
            ),
            (
                Facts {
                    kernel_words: panic.clone(),
                    watchdog: true,
                    ..busy()
                },
                Kind::Panic,
            ),
            // A panic after the record was written, while the machine went down.
            (
                Facts {
                    kernel_words: panic.clone(),
                    end: Some(end.clone()),
                    ..busy()
                },
                Kind::Panic,
            ),
            (
                Facts {
                    kernel_words: deadlock,
                    ..busy()
                },
                Kind::OutOfMemory,
            ),
            (
                Facts {
                    last_lines: vec![oom],
                    ..busy()
                },
                Kind::OutOfMemory,
            ),
            (
                Facts {
                    last_lines: vec![inner],
                    ..busy()
                },
                Kind::PowerLoss,
            ),
        ] {
            assert_eq!(assess(&facts).cause, kind, "{facts:?}");
        }
    }

    #[test]
    fn the_answer_has_the_reason_and_the_last_lines() {
        let orderly = assess(&Facts {
            end: Some(End {
                action: "poweroff".into(),
                reason: "the power button".into(),
                troubles: vec!["/data was busy".into()],
            }),
            ..busy()
        });
        assert_eq!(
            orderly.words,
            "it was switched off in order: the power button (not all went well: /data was busy)"
        );
        let mut facts = busy();
        facts.last_lines = (0..50).map(|n| said("u", &format!("line {n}"))).collect();
        let cause = assess(&facts);
        assert_eq!(cause.lines.len(), LINES);
        assert_eq!(cause.lines.last().unwrap(), "u: line 49");
        facts.kernel_words = (0..100).map(|n| format!("word {n}")).collect();
        facts.kernel_words[50] = "Kernel panic - not syncing: Fatal exception".into();
        let cause = assess(&facts);
        assert_eq!(
            cause.words,
            "the kernel gave up: Kernel panic - not syncing: Fatal exception"
        );
        assert!(cause.lines.contains(&facts.kernel_words[50]) && cause.lines[0] == "word 45");
    }
}

//! What units said while there was no atalayad to hear it: the newest of their logs, and their notify messages, per run.
//! Bookkeeping only, bounded; the next atalayad gets it, and it is kept until that one shows that it has it.

use std::collections::{BTreeMap, VecDeque};

/// The newest bytes of a log that are kept, per run.
pub const LOG_LIMIT: usize = 64 * 1024;
/// Messages per run (each at most `notify::LIMIT` bytes).
const NOTES_LIMIT: usize = 32;

/// One notify message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub pid: i32,
    pub text: String,
}

/// One run's.
#[derive(Debug, Default)]
pub struct Said {
    log: VecDeque<u8>,
    dropped: u64,
    notes: VecDeque<Note>,
}

/// All of them, by the name of the run's record.
#[derive(Debug, Default)]
pub struct Meanwhile {
    runs: BTreeMap<String, Said>,
}

impl Said {
    /// The newest bytes, oldest first.
    pub fn log(&self) -> Vec<u8> {
        let (front, back) = self.log.as_slices();
        [front, back].concat()
    }

    /// How many bytes before them are lost.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn has_log(&self) -> bool {
        !self.log.is_empty() || self.dropped > 0
    }

    pub fn notes(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter()
    }

    /// Every byte that came in.
    pub fn drained(&self) -> u64 {
        self.dropped + self.log.len() as u64
    }
}

impl Meanwhile {
    pub fn log(&mut self, name: &str, bytes: &[u8]) {
        let said = self.of(name);
        said.log.extend(bytes);
        let excess = said.log.len().saturating_sub(LOG_LIMIT);
        said.log.drain(..excess);
        said.dropped += excess as u64;
    }

    /// Takes a message of a sender that was checked. Of those that set the same keys the newest is kept.
    pub fn note(&mut self, name: &str, pid: i32, text: String) {
        let keys = keys_of(&text);
        let said = self.of(name);
        said.notes.retain(|note| keys_of(&note.text) != keys);
        if said.notes.len() >= NOTES_LIMIT {
            said.notes.pop_front();
        }
        said.notes.push_back(Note { pid, text });
    }

    pub fn find(&self, name: &str) -> Option<&Said> {
        self.runs.get(name)
    }

    pub fn all(&self) -> impl Iterator<Item = (&String, &Said)> {
        self.runs.iter()
    }

    pub fn forget(&mut self, name: &str) {
        self.runs.remove(name);
    }

    /// atalayad has it all.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    fn of(&mut self, name: &str) -> &mut Said {
        self.runs.entry(name.to_owned()).or_default()
    }
}

/// The text of a notify datagram, if it can be one: UTF-8 without NUL that says something. Descriptors are not taken in
/// safe mode, so a message that is about them says nothing.
pub fn parse_note(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let about_descriptors = |key: &str| matches!(key, "FDSTORE" | "BARRIER");
    let keys = keys_of(text);
    let sound =
        !text.contains('\0') && !keys.is_empty() && !keys.iter().any(|key| about_descriptors(key));
    sound.then(|| text.to_owned())
}

fn keys_of(text: &str) -> Vec<&str> {
    let mut keys: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn notes(meanwhile: &Meanwhile) -> Vec<&str> {
        let said = meanwhile.find("run/a.1").unwrap();
        said.notes().map(|note| note.text.as_str()).collect()
    }

    #[test]
    fn the_newest_message_of_a_kind_wins_and_their_number_is_bounded() {
        let mut meanwhile = Meanwhile::default();
        for text in ["READY=1", "STATUS=1", "RELOADING=1", "STATUS=2", "READY=1"] {
            meanwhile.note("run/a.1", 7, text.to_owned());
        }
        assert_eq!(notes(&meanwhile), ["RELOADING=1", "STATUS=2", "READY=1"]);
        for number in 0..1000 {
            meanwhile.note("run/a.1", 7, format!("X_{number}=1"));
        }
        assert_eq!(notes(&meanwhile).len(), NOTES_LIMIT);
        assert_eq!(notes(&meanwhile).last(), Some(&"X_999=1"));
    }

    #[test]
    fn what_is_no_message_is_dropped() {
        assert_eq!(
            parse_note(b"READY=1\nSTATUS=x=y"),
            Some("READY=1\nSTATUS=x=y".into())
        );
        for bad in [
            &b"READY=1\0"[..],
            b"\xff=1",
            b"",
            b"nonsense",
            b"FDSTORE=1\nFDNAME=x",
            b"BARRIER=1",
        ] {
            assert_eq!(parse_note(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_end_of_what_was_said_and_the_rest_is_counted(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30_000), 0..8)
        ) {
            let mut meanwhile = Meanwhile::default();
            for piece in &pieces {
                meanwhile.log("run/a.1", piece);
            }
            let all = pieces.concat();
            let said = meanwhile.find("run/a.1");
            let kept = said.map(Said::log).unwrap_or_default();
            prop_assert!(kept.len() <= LOG_LIMIT && all.ends_with(&kept));
            prop_assert_eq!(kept.len() as u64 + said.map_or(0, Said::dropped), all.len() as u64);
        }
    }
}

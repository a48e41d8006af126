//! Reads `appliance.toml`, so that every mistake is found in one pass and has its line.
//!
//! Decides how a mistake is placed and shown. Which keys there are stands in [`super::keys`], what a value may be in
//! [`super::value`], and what may stand together is decided in [`super::check`].

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Key, Secrecy};
use super::{Appliance, Invalid, MAX_BYTES, Problem, Seed, Stored, check, keys};

/// Which of its readers a text is for: each knows which secrets may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    /// With all secrets.
    Seed,
    /// With those that must be kept.
    Stored,
    /// With none.
    Public,
}

/// Reads a seed, which may hold the administrator's password.
///
/// # Errors
/// Every mistake in it.
pub fn parse_seed(bytes: &[u8]) -> Result<Seed, Invalid> {
    parse(bytes, File::Seed)
}

/// Reads the file that is kept on the machine. A password in it is a mistake.
///
/// # Errors
/// Every mistake in it.
pub fn parse_stored(bytes: &[u8]) -> Result<Stored, Invalid> {
    let Seed {
        appliance, secrets, ..
    } = parse(bytes, File::Stored)?;
    Ok(Stored { appliance, secrets })
}

/// Reads what everybody on the machine may read. Any secret in it is a mistake.
///
/// # Errors
/// Every mistake in it.
pub fn parse_public(bytes: &[u8]) -> Result<Appliance, Invalid> {
    parse(bytes, File::Public).map(|seed| seed.appliance)
}

fn parse(bytes: &[u8], file: File) -> Result<Seed, Invalid> {
    let text = decode(bytes)?;
    let table = DeTable::parse(text).map_err(|error| {
        // The parser's message names the character it met, never the rest of the line, which may be a password.
        let span = error.span().unwrap_or(0..0);
        let message = error.message().lines().next().unwrap_or_default();
        Invalid(vec![Problem {
            key: String::new(),
            line: line_of(text, span.start),
            value: None,
            wrong: format!("this is not TOML: {}", one_line(message)),
            allowed: "KEY = \"VALUE\" lines under [TABLE] lines (example: hostname = \"atalaya\")"
                .to_owned(),
        }])
    })?;
    let mut reader = Reader {
        text,
        file,
        problems: Vec::new(),
        lines: BTreeMap::new(),
    };
    let mut seed = Seed::default();
    reader.table("", table.get_ref(), &mut seed);
    // Which keys go together is asked only once each is right by itself: else one mistake would be told twice.
    if reader.problems.is_empty() {
        let lines = &reader.lines;
        reader.problems = check::problems(&seed.appliance, &seed.secrets, file, lines);
    }
    if reader.problems.is_empty() {
        Ok(seed)
    } else {
        reader.problems.sort_by_key(|problem| problem.line);
        Err(Invalid(reader.problems))
    }
}

fn decode(bytes: &[u8]) -> Result<&str, Invalid> {
    let whole = |line, wrong: String, allowed: &str| {
        Invalid(vec![Problem {
            key: String::new(),
            line,
            value: None,
            wrong,
            allowed: allowed.to_owned(),
        }])
    };
    if bytes.len() > MAX_BYTES {
        return Err(whole(
            0,
            "the file is too large".to_owned(),
            "at most 65536 bytes",
        ));
    }
    // Editors on Windows put a byte order mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        whole(
            line,
            "a byte is not UTF-8".to_owned(),
            "text in UTF-8, without NUL or other binary data",
        )
    })
}

struct Reader<'i> {
    text: &'i str,
    file: File,
    problems: Vec<Problem>,
    /// Where each key stands, by its dotted path.
    lines: BTreeMap<String, usize>,
}

/// One key with its value, as the file has it.
struct Entry<'t> {
    path: String,
    line: usize,
    value: &'t Spanned<DeValue<'t>>,
}

impl Reader<'_> {
    fn table(&mut self, table: &str, content: &DeTable<'_>, out: &mut Seed) {
        for (name, value) in content {
            let path = match table {
                "" => name.get_ref().to_string(),
                table => format!("{table}.{}", name.get_ref()),
            };
            let line = line_of(self.text, name.span().start);
            self.lines.insert(path.clone(), line);
            let entry = Entry { path, line, value };
            // One with a dot in it, which TOML allows, is no key of ours.
            let is_plain = !name.get_ref().contains('.');
            if let Some(key) = keys::find(&entry.path).filter(|_| is_plain) {
                self.key(key, &entry, out);
            } else if is_plain && keys::is_table(&entry.path) {
                self.below(&entry, out);
            } else {
                // The value is not shown: a mistyped `passwort` has one.
                let allowed = keys::allowed_in(table, self.file);
                self.push(&entry, None, "there is no such key here", &allowed);
            }
        }
    }

    fn below(&mut self, entry: &Entry<'_>, out: &mut Seed) {
        match entry.value.get_ref().as_table() {
            Some(content) => self.table(&entry.path, content, out),
            None => {
                // Not shown: what was meant as a table may hold a password.
                let allowed = format!("a table (example: [{}])", entry.path);
                self.push(entry, None, "is not a table", &allowed);
            }
        }
    }

    fn key(&mut self, key: &Key, entry: &Entry<'_>, out: &mut Seed) {
        let (wrong, allowed) = match (key.secrecy, self.file) {
            (Secrecy::Once, File::Stored | File::Public) => (
                "a password is never kept in this file",
                "only in a seed, for the first boot".to_owned(),
            ),
            (Secrecy::Kept, File::Public) => (
                "a secret is never in this file",
                "only in a seed and in the file that is kept".to_owned(),
            ),
            (Secrecy::Public | Secrecy::Kept | Secrecy::Once, _) => {
                match key.read(entry.value.get_ref(), out) {
                    Ok(()) => return,
                    Err(wrong) => (wrong, key.form().allowed()),
                }
            }
        };
        let raw = self.text.get(entry.value.span()).unwrap_or_default();
        let shown = key.is_shown.then(|| one_line(raw));
        self.push(entry, shown, wrong, &allowed);
    }

    fn push(&mut self, entry: &Entry<'_>, value: Option<String>, wrong: &str, allowed: &str) {
        self.problems.push(Problem {
            key: one_line(&entry.path),
            line: entry.line,
            value,
            wrong: wrong.to_owned(),
            allowed: allowed.to_owned(),
        });
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// One line, at most 80 characters, nothing that could steer a terminal.
fn one_line(raw: &str) -> String {
    let mut shown: String = raw
        .chars()
        .take(80)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if raw.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

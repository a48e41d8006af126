//! Reads `appliance.toml` by hand, key by key, so that every mistake is found in one pass and has its line.
//!
//! Decides which keys exist and which type each has; what a value may be is decided in [`super::value`].

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::value::{self, Email, Hostname, SiteAddress, Username};
use super::{Administrator, Appliance, Invalid, MAX_BYTES, Problem, Secret, Seed, Site};

type Key<'i> = Spanned<Cow<'i, str>>;

const KEYS: &str = "hostname, [site] address, [administrator] username, email, password";
const SITE_KEYS: &str = "address";
const ADMINISTRATOR_KEYS: &str = "username, email";
const ADMINISTRATOR_SEED_KEYS: &str = "username, email, password";

/// Reads a seed, which may hold the administrator's password.
///
/// # Errors
/// Every mistake in it.
pub fn parse_seed(bytes: &[u8]) -> Result<Seed, Invalid> {
    parse(bytes, true)
}

/// Reads the file that is kept on the machine. A password in it is a mistake.
///
/// # Errors
/// Every mistake in it.
pub fn parse_stored(bytes: &[u8]) -> Result<Appliance, Invalid> {
    parse(bytes, false).map(|seed| seed.appliance)
}

fn parse(bytes: &[u8], seed: bool) -> Result<Seed, Invalid> {
    let text = decode(bytes)?;
    let table = DeTable::parse(text).map_err(|error| {
        // The parser's message names the character it met, never the rest of the line, which may be a password.
        let span = error.span().unwrap_or(0..0);
        Invalid(vec![Problem {
            key: String::new(),
            line: line_of(text, span.start),
            value: None,
            wrong: format!(
                "this is not TOML: {}",
                error.message().lines().next().unwrap_or_default()
            ),
            allowed: "KEY = \"VALUE\" lines under [TABLE] lines (example: hostname = \"atalaya\")"
                .to_owned(),
        }])
    })?;
    let mut reader = Reader {
        text,
        problems: Vec::new(),
    };
    let seed = reader.whole(table.get_ref(), seed);
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
            format!("the file has {} bytes", bytes.len()),
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

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

struct Reader<'i> {
    text: &'i str,
    problems: Vec<Problem>,
}

impl<'i> Reader<'i> {
    fn whole(&mut self, table: &DeTable<'i>, seed: bool) -> Seed {
        let mut out = Seed::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "hostname" => {
                    self.text(
                        key,
                        "hostname",
                        value,
                        value::HOSTNAME,
                        Hostname::parse,
                        &mut out.appliance.hostname,
                    );
                }
                "site" => self.site(key, value, &mut out.appliance.site),
                "administrator" => self.administrator(key, value, &mut out, seed),
                other => self.unknown(key, other, KEYS),
            }
        }
        out
    }

    fn site(&mut self, key: &Key<'i>, value: &Spanned<DeValue<'i>>, out: &mut Site) {
        let Some(table) = self.table(key, "site", value, "a table (example: [site])") else {
            return;
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "address" => {
                    let parse = |text: &str| SiteAddress::parse(text).map(Some);
                    self.text(
                        key,
                        "site.address",
                        value,
                        value::SITE_ADDRESS,
                        parse,
                        &mut out.address,
                    );
                }
                other => self.unknown(key, &format!("site.{other}"), SITE_KEYS),
            }
        }
    }

    fn administrator(
        &mut self,
        key: &Key<'i>,
        value: &Spanned<DeValue<'i>>,
        out: &mut Seed,
        seed: bool,
    ) {
        let Some(table) = self.table(
            key,
            "administrator",
            value,
            "a table (example: [administrator])",
        ) else {
            return;
        };
        let Administrator { username, email } = &mut out.appliance.administrator;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "username" => {
                    self.text(
                        key,
                        "administrator.username",
                        value,
                        value::USERNAME,
                        Username::parse,
                        username,
                    );
                }
                "email" => self.text(
                    key,
                    "administrator.email",
                    value,
                    value::EMAIL,
                    Email::parse,
                    email,
                ),
                "password" if seed => self.password(key, value, &mut out.password),
                "password" => self.push(
                    key.span(),
                    "administrator.password",
                    None,
                    "a password is never kept in this file",
                    "only in a seed, for the first boot",
                ),
                other => {
                    let allowed = if seed {
                        ADMINISTRATOR_SEED_KEYS
                    } else {
                        ADMINISTRATOR_KEYS
                    };
                    self.unknown(key, &format!("administrator.{other}"), allowed);
                }
            }
        }
    }

    /// The one value that no message may repeat.
    fn password(&mut self, key: &Key<'i>, value: &Spanned<DeValue<'i>>, out: &mut Option<Secret>) {
        let parsed = match value.get_ref().as_str() {
            Some(text) => value::parse_password(text),
            None => Err("is not a string"),
        };
        match parsed {
            Ok(secret) => *out = Some(secret),
            Err(wrong) => self.push(
                key.span(),
                "administrator.password",
                None,
                wrong,
                value::PASSWORD,
            ),
        }
    }

    fn text<T>(
        &mut self,
        key: &Key<'i>,
        name: &str,
        value: &Spanned<DeValue<'i>>,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
        out: &mut T,
    ) {
        let parsed = match value.get_ref().as_str() {
            Some(text) => parse(text),
            None => Err("is not a string"),
        };
        match parsed {
            Ok(parsed) => *out = parsed,
            Err(wrong) => {
                let shown = self.shown(value.span());
                self.push(key.span(), name, Some(shown), wrong, allowed);
            }
        }
    }

    fn table<'t>(
        &mut self,
        key: &Key<'i>,
        name: &str,
        value: &'t Spanned<DeValue<'i>>,
        allowed: &str,
    ) -> Option<&'t DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            // Not shown: what was meant as a table may hold a password.
            self.push(key.span(), name, None, "is not a table", allowed);
        }
        table
    }

    fn unknown(&mut self, key: &Key<'i>, name: &str, allowed: &str) {
        // The value is not shown: a mistyped `passwort` has one.
        let name: String = name
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .take(80)
            .collect();
        self.push(
            key.span(),
            &name,
            None,
            "there is no such key here",
            allowed,
        );
    }

    fn push(
        &mut self,
        at: Range<usize>,
        key: &str,
        value: Option<String>,
        wrong: &str,
        allowed: &str,
    ) {
        self.problems.push(Problem {
            key: key.to_owned(),
            line: line_of(self.text, at.start),
            value,
            wrong: wrong.to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    /// The value as the file has it: one line, at most 80 characters, nothing that could steer a terminal.
    fn shown(&self, span: Range<usize>) -> String {
        let raw = self.text.get(span).unwrap_or_default();
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
}

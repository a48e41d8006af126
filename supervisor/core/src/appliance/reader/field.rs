//! One key with its value, and the ways in which it can be read. Decides how a mistake is placed and shown; knows no key.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::Problem;
use super::File;

/// Entries of one list: authorities take 100 names at most, and nobody keeps more networks in his head.
const MOST_ENTRIES: usize = 100;

pub(super) struct Field<'t> {
    /// The last part of the key. One with a dot in it, which TOML allows, is no key of ours.
    pub name: &'t str,
    /// All of it, dotted.
    path: String,
    key: Range<usize>,
    value: &'t Spanned<DeValue<'t>>,
}

pub(super) struct Reader<'i> {
    text: &'i str,
    pub file: File,
    pub problems: Vec<Problem>,
    /// Where each key stands, by its dotted path.
    pub lines: BTreeMap<String, usize>,
}

impl<'i> Reader<'i> {
    pub fn new(text: &'i str, file: File) -> Self {
        Self {
            text,
            file,
            problems: Vec::new(),
            lines: BTreeMap::new(),
        }
    }

    /// What is in a table; nothing, and a problem, if it is none.
    pub fn fields<'t>(&mut self, field: &Field<'t>) -> Vec<Field<'t>> {
        match field.value.get_ref().as_table() {
            Some(table) => self.fields_of(&field.path, table),
            None => {
                // Not shown: what was meant as a table may hold a password.
                let allowed = format!("a table (example: [{}])", field.path);
                self.push(field, None, "is not a table", &allowed);
                Vec::new()
            }
        }
    }

    pub fn fields_of<'t>(&mut self, path: &str, table: &'t DeTable<'t>) -> Vec<Field<'t>> {
        let mut fields = Vec::new();
        for (key, value) in table {
            let name: &'t str = key.get_ref();
            let path = match path {
                "" => name.to_owned(),
                path => format!("{path}.{name}"),
            };
            self.lines
                .insert(path.clone(), line_of(self.text, key.span().start));
            fields.push(Field {
                name,
                path,
                key: key.span(),
                value,
            });
        }
        fields
    }

    pub fn text<T>(
        &mut self,
        field: &Field<'_>,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
        out: &mut T,
    ) {
        match parsed(field, parse) {
            Ok(parsed) => *out = parsed,
            Err(wrong) => self.push_shown(field, wrong, allowed),
        }
    }

    /// A value that no message may repeat: a secret, or something in whose place a secret is easily put.
    pub fn hidden<T>(
        &mut self,
        field: &Field<'_>,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
        out: &mut T,
    ) {
        match parsed(field, parse) {
            Ok(parsed) => *out = parsed,
            Err(wrong) => self.push(field, None, wrong, allowed),
        }
    }

    pub fn list<T: PartialEq>(
        &mut self,
        field: &Field<'_>,
        allowed: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
        out: &mut Vec<T>,
    ) {
        match parsed_list(field, parse) {
            Ok(parsed) => *out = parsed,
            Err(wrong) => self.push_shown(field, wrong, allowed),
        }
    }

    pub fn flag(&mut self, field: &Field<'_>, out: &mut bool) {
        match field.value.get_ref().as_bool() {
            Some(value) => *out = value,
            None => self.push_shown(field, "is not true or false", "true or false"),
        }
    }

    pub fn number(&mut self, field: &Field<'_>, range: RangeInclusive<u64>, out: &mut u64) {
        let value = match field.value.get_ref() {
            DeValue::Integer(integer) => {
                i128::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| "is too large")
            }
            _ => Err("is not a whole number"),
        };
        let fits = value.and_then(|value| {
            u64::try_from(value)
                .ok()
                .filter(|value| range.contains(value))
                .ok_or("is out of range")
        });
        match fits {
            Ok(value) => *out = value,
            Err(wrong) => {
                let allowed = format!("{} to {}", range.start(), range.end());
                self.push_shown(field, wrong, &allowed);
            }
        }
    }

    pub fn unknown(&mut self, field: &Field<'_>, allowed: &str) {
        // The value is not shown: a mistyped `passwort` has one.
        self.push(field, None, "there is no such key here", allowed);
    }

    /// A table that is there without a key that it needs.
    pub fn missing(&mut self, table: &Field<'_>, name: &str, allowed: &str) {
        let wrong = format!("has no {name}");
        self.push(table, None, &wrong, &format!("{name} is {allowed}"));
    }

    pub fn push(&mut self, field: &Field<'_>, value: Option<String>, wrong: &str, allowed: &str) {
        self.problems.push(Problem {
            key: one_line(&field.path),
            line: line_of(self.text, field.key.start),
            value,
            wrong: wrong.to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    /// With the value as the file has it.
    fn push_shown(&mut self, field: &Field<'_>, wrong: &str, allowed: &str) {
        let raw = self.text.get(field.value.span()).unwrap_or_default();
        self.push(field, Some(one_line(raw)), wrong, allowed);
    }
}

fn parsed<T>(
    field: &Field<'_>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<T, &'static str> {
    parse(field.value.get_ref().as_str().ok_or("is not a string")?)
}

fn parsed_list<T: PartialEq>(
    field: &Field<'_>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Vec<T>, &'static str> {
    let entries = field.value.get_ref().as_array().ok_or("is not a list")?;
    let mut list = Vec::new();
    for entry in entries {
        let text = entry.get_ref().as_str();
        let parsed = parse(text.ok_or("holds something that is not a string")?)?;
        if list.contains(&parsed) {
            return Err("holds one entry twice");
        }
        list.push(parsed);
    }
    if list.len() > MOST_ENTRIES {
        return Err("holds more than 100 entries");
    }
    Ok(list)
}

pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}

/// One line, at most 80 characters, nothing that could steer a terminal.
pub(super) fn one_line(raw: &str) -> String {
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

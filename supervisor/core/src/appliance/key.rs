//! One key of `appliance.toml`: where it stands, what may be written there, and which place in the types it fills.
//!
//! Everything that is told about keys comes from here: the reader, the writer, the documentation's tables, the JSON Schema
//! and the commented example. It must not know any key.

use std::fmt::Display;

use toml::de::DeValue;

use super::{Secret, Seed};

/// Entries of one list: authorities take 100 names at most, and nobody keeps more networks in his head.
pub(super) const MOST_ENTRIES: usize = 100;

pub struct Key {
    /// Dotted.
    pub path: &'static str,
    /// What it is for; Markdown, without a full stop.
    pub meaning: &'static str,
    pub(super) secrecy: Secrecy,
    /// Whether a message may repeat the value: not where a secret is easily pasted.
    pub(super) is_shown: bool,
    /// What holds where nothing is written and the type's own default does not say it.
    pub(super) absent: Option<&'static str>,
    slot: &'static dyn Slot,
}

/// In which files a key may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// In all of them.
    Public,
    /// In a seed, and in the file that root keeps.
    Kept,
    /// In a seed, for the first boot.
    Once,
}

/// What may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Flag,
    Number {
        least: u64,
        most: u64,
        /// Empty for a count.
        unit: &'static str,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Each at most once, in an order that may mean something.
    Words(&'static [&'static str]),
    /// A text; what is allowed, with an example.
    Text(&'static str),
    /// A list of texts; what is allowed, with an example.
    List(&'static str),
}

impl Key {
    pub(super) const fn new(
        path: &'static str,
        slot: &'static dyn Slot,
        meaning: &'static str,
    ) -> Self {
        Self {
            path,
            meaning,
            secrecy: Secrecy::Public,
            is_shown: true,
            absent: None,
            slot,
        }
    }

    /// No message repeats its value.
    pub(super) const fn unshown(mut self) -> Self {
        self.is_shown = false;
        self
    }

    pub(super) const fn secret(mut self, secrecy: Secrecy) -> Self {
        self.secrecy = secrecy;
        self.unshown()
    }

    pub(super) const fn absent(mut self, words: &'static str) -> Self {
        self.absent = Some(words);
        self
    }

    #[must_use]
    pub fn form(&self) -> Form {
        self.slot.form()
    }

    /// The table that it stands in; empty at the top.
    #[must_use]
    pub fn table(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(table, _)| table)
    }

    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// # Errors
    /// What is wrong with the value.
    pub(super) fn read(&self, value: &DeValue<'_>, out: &mut Seed) -> Result<(), &'static str> {
        self.slot.read(value, out)
    }

    /// As TOML; none where nothing is there.
    pub(super) fn value(&self, of: &Seed) -> Option<String> {
        self.slot.value(of)
    }
}

impl Form {
    /// For whoever has written something else.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number { least, most, .. } => format!("{least} to {most}"),
            Self::Word(words) => either(words, "or"),
            Self::Words(words) => format!(
                "a list of {}, each once, the first to try in front",
                either(words, "and")
            ),
            Self::Text(allowed) | Self::List(allowed) => (*allowed).to_owned(),
        }
    }

    /// As TOML, where there is one.
    #[must_use]
    pub fn example(&self) -> Option<String> {
        match self {
            Self::Flag | Self::Number { .. } => None,
            Self::Word(words) => words.first().map(quoted),
            Self::Words(words) => Some(list(words.iter())),
            Self::Text(allowed) | Self::List(allowed) => {
                let (_, example) = allowed.split_once("(example: ")?;
                let (example, _) = example.rsplit_once(')')?;
                let first = example.split(" or ").next()?;
                Some(first.to_owned())
            }
        }
    }
}

fn either(words: &[&str], and: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, before)) if !before.is_empty() => {
            format!("{} {and} {last}", before.join(", "))
        }
        _ => quoted.concat(),
    }
}

/// The place of a value among the types.
pub(super) struct Place<T: 'static> {
    pub get: fn(&Seed) -> &T,
    pub put: fn(&mut Seed, T),
}

/// The place that is written as in the code.
macro_rules! place {
    ($($path:tt)+) => {
        $crate::appliance::key::Place {
            get: |seed| &seed.$($path)+,
            put: |seed, value| seed.$($path)+ = value,
        }
    };
}
pub(super) use place;

/// How a value is read into its place and written from it.
pub(super) trait Slot: Sync {
    fn form(&self) -> Form;
    fn read(&self, value: &DeValue<'_>, out: &mut Seed) -> Result<(), &'static str>;
    fn value(&self, of: &Seed) -> Option<String>;
}

type Parse<T> = fn(&str) -> Result<T, &'static str>;

/// What is written as a text or as a list of texts: `T` is one of them, `P` what its place holds.
pub(super) struct Written<P: 'static, T: 'static> {
    place: Place<P>,
    parse: Parse<T>,
    form: Form,
    read: fn(&DeValue<'_>, Parse<T>) -> Result<P, &'static str>,
    value: fn(&P) -> Option<String>,
}

/// Always there.
pub(super) const fn text<T: Display>(
    place: Place<T>,
    parse: Parse<T>,
    form: Form,
) -> Written<T, T> {
    Written {
        place,
        parse,
        form,
        read: parsed,
        value: |text| Some(quoted(text)),
    }
}

/// Perhaps there.
pub(super) const fn maybe<T: Display>(
    place: Place<Option<T>>,
    parse: Parse<T>,
    form: Form,
) -> Written<Option<T>, T> {
    Written {
        place,
        parse,
        form,
        read: |value, parse| parsed(value, parse).map(Some),
        value: |text| text.as_ref().map(quoted),
    }
}

/// Perhaps there, and not to be shown.
pub(super) const fn hidden(
    place: Place<Option<Secret>>,
    parse: Parse<Secret>,
    form: Form,
) -> Written<Option<Secret>, Secret> {
    Written {
        place,
        parse,
        form,
        read: |value, parse| parsed(value, parse).map(Some),
        value: |secret| secret.as_ref().map(|secret| quoted(secret.expose())),
    }
}

pub(super) const fn several<T: Display + PartialEq>(
    place: Place<Vec<T>>,
    parse: Parse<T>,
    form: Form,
) -> Written<Vec<T>, T> {
    Written {
        place,
        parse,
        form,
        read: parsed_list,
        value: |items| (!items.is_empty()).then(|| list(items)),
    }
}

/// Where an empty list is something else than none.
pub(super) const fn maybe_several<T: Display + PartialEq>(
    place: Place<Option<Vec<T>>>,
    parse: Parse<T>,
    form: Form,
) -> Written<Option<Vec<T>>, T> {
    Written {
        place,
        parse,
        form,
        read: |value, parse| parsed_list(value, parse).map(Some),
        value: |items| items.as_ref().map(list),
    }
}

pub(super) struct Number(
    pub Place<u64>,
    pub std::ops::RangeInclusive<u64>,
    pub &'static str,
);
pub(super) struct Flag(pub Place<bool>);

impl<P, T> Slot for Written<P, T> {
    fn form(&self) -> Form {
        self.form
    }

    fn read(&self, value: &DeValue<'_>, out: &mut Seed) -> Result<(), &'static str> {
        (self.place.put)(out, (self.read)(value, self.parse)?);
        Ok(())
    }

    fn value(&self, of: &Seed) -> Option<String> {
        (self.value)((self.place.get)(of))
    }
}

impl Slot for Number {
    fn form(&self) -> Form {
        Form::Number {
            least: *self.1.start(),
            most: *self.1.end(),
            unit: self.2,
        }
    }

    fn read(&self, value: &DeValue<'_>, out: &mut Seed) -> Result<(), &'static str> {
        let DeValue::Integer(integer) = value else {
            return Err("is not a whole number");
        };
        let number =
            i128::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| "is too large")?;
        let number = u64::try_from(number).map_err(|_| "is out of range")?;
        if !self.1.contains(&number) {
            return Err("is out of range");
        }
        (self.0.put)(out, number);
        Ok(())
    }

    fn value(&self, of: &Seed) -> Option<String> {
        Some((self.0.get)(of).to_string())
    }
}

impl Slot for Flag {
    fn form(&self) -> Form {
        Form::Flag
    }

    fn read(&self, value: &DeValue<'_>, out: &mut Seed) -> Result<(), &'static str> {
        (self.0.put)(out, value.as_bool().ok_or("is not true or false")?);
        Ok(())
    }

    fn value(&self, of: &Seed) -> Option<String> {
        Some((self.0.get)(of).to_string())
    }
}

fn parsed<T>(value: &DeValue<'_>, parse: Parse<T>) -> Result<T, &'static str> {
    parse(value.as_str().ok_or("is not a string")?)
}

fn parsed_list<T: PartialEq>(value: &DeValue<'_>, parse: Parse<T>) -> Result<Vec<T>, &'static str> {
    let entries = value.as_array().ok_or("is not a list")?;
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

/// A TOML string. Only PEM has several lines; it holds neither quotes nor backslashes.
pub(crate) fn quoted(value: impl Display) -> String {
    let text = value.to_string();
    if text.contains('\n') {
        format!("\"\"\"\n{text}\"\"\"")
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// A TOML list of strings, in one line.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

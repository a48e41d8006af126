//! Names of entries on the boot partition, as systemd-boot reads and counts them: `atalaya_000008+2-1.efi` has two tries left and one done. Only
//! the name counts; what is in the file is not looked at here.

use std::fmt;

const PREFIX: &str = "atalaya_";
const SUFFIX: &str = ".efi";

/// What boot counting has left in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counter {
    pub left: u32,
    pub done: u32,
}

impl Counter {
    /// Of any entry, ours or not; none if its name has no counter.
    pub fn of(name: &str) -> Option<Self> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let (_, counter) = stem.rsplit_once('+')?;
        let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
        Some(Self {
            left: number(left)?,
            done: number(done)?,
        })
    }
}

/// The name of one of our entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryName {
    pub number: u32,
    /// None for a good one.
    pub counter: Option<Counter>,
}

impl EntryName {
    /// Upper and lower case are one to the file system, so they are to us. None for a name that we would not give.
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let stem = lower.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (digits, counter) = match stem.split_once('+') {
            Some((digits, _)) => (digits, Some(Counter::of(&lower)?)),
            None => (stem, None),
        };
        let parsed = Self {
            number: number(digits)?,
            counter,
        };
        Some(parsed)
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:06}", self.number)?;
        match self.counter {
            Some(Counter { left, done: 0 }) => write!(f, "+{left}")?,
            Some(Counter { left, done }) => write!(f, "+{left}-{done}")?,
            None => {}
        }
        f.write_str(SUFFIX)
    }
}

/// The whole name of one of the loader's variables: its vendor is part of it (the Boot Loader Interface of systemd-boot).
pub fn loader_variable(name: &str) -> String {
    format!("{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f")
}

/// The file's name in one of the loader's variables (LoaderBootCountPath): four bytes of attributes, then a path in UTF-16 with `\` between its
/// parts.
pub fn name_in_variable(variable: &[u8]) -> String {
    let units: Vec<u16> = variable
        .get(4..)
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    let path = String::from_utf16_lossy(&units);
    path.rsplit(['\\', '/'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (name, number, counter) in [
            ("atalaya_000001.efi", 1, None),
            ("atalaya_000008+3.efi", 8, Some((3, 0))),
            ("atalaya_000008+2-1.efi", 8, Some((2, 1))),
            ("atalaya_1234567+0-3.efi", 1_234_567, Some((0, 3))),
        ] {
            let parsed = EntryName::parse(name).unwrap();
            let counter = counter.map(|(left, done)| Counter { left, done });
            assert_eq!(parsed, EntryName { number, counter });
            assert_eq!(parsed.to_string(), name);
            assert_eq!(EntryName::parse(&name.to_uppercase()), Some(parsed));
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            "atalaya_.efi",
            "atalaya_1x.efi",
            "atalaya_000008+.efi",
            "atalaya_000008+x.efi",
            "atalaya_000008+1-.efi",
            "atalaya_000008+1+2.efi.bak",
            "atalaya_000008.tmp",
            "debian_000008.efi",
            "",
        ] {
            assert_eq!(EntryName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_loaders_variable_names_the_entry_with_its_counter() {
        let variable = |path: &str| {
            let mut bytes = vec![6, 0, 0, 0];
            bytes.extend(path.encode_utf16().flat_map(u16::to_le_bytes));
            bytes.extend([0, 0]);
            name_in_variable(&bytes)
        };
        for (path, counter) in [
            ("\\EFI\\Linux\\atalaya_000008+2-1.efi", Some((2, 1))),
            ("\\EFI\\Linux\\atalaya_000008+3.efi", Some((3, 0))),
            ("\\EFI\\Linux\\atalaya_000008+0-3.efi", Some((0, 3))), // its last try
            ("a+1.efi", Some((1, 0))),
            ("\\EFI\\Linux\\atalaya_000008.efi", None),
            ("\\EFI\\Li+nux\\atalaya.efi", None),
            ("\\EFI\\Linux\\atalaya_1+x.efi", None),
            ("", None),
        ] {
            let counter = counter.map(|(left, done)| Counter { left, done });
            assert_eq!(Counter::of(&variable(path)), counter, "{path}");
        }
        assert_eq!(name_in_variable(&[1, 2]), "");
        assert_eq!(name_in_variable(b"abcde"), "");
    }

    proptest::proptest! {
        #[test]
        fn no_content_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let name = name_in_variable(&bytes);
            if let Some(parsed) = EntryName::parse(&name) {
                proptest::prop_assert_eq!(EntryName::parse(&parsed.to_string()), Some(parsed));
            }
        }
    }
}

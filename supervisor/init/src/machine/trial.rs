//! Whether this boot is a trial of a new version: the loader started an entry that still has a counter, and nobody has
//! marked it good since.

use std::path::Path;

/// EFI variables, and the loader's (its vendor is part of every name).
const VARIABLES: &str = "/sys/firmware/efi/efivars";
const VARIABLE: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-442b29bb8c4f";
/// Made by whoever marks this version good; the variable keeps its value until the next boot.
const BLESSED: &str = "/run/atalaya/blessed";

pub fn is_on() -> bool {
    assess(Path::new(VARIABLES), Path::new(BLESSED))
}

fn assess(variables: &Path, blessed: &Path) -> bool {
    let counted = std::fs::read(variables.join(VARIABLE)).is_ok_and(|bytes| has_counter(&bytes));
    counted && !blessed.exists()
}

/// Four bytes of attributes, then UTF-16: `\EFI\Linux\atalaya_000008+2-1.efi` (tries left, tries done).
fn has_counter(variable: &[u8]) -> bool {
    let units: Vec<u16> = variable
        .get(4..)
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    let path = String::from_utf16_lossy(&units);
    let name = path.rsplit(['\\', '/']).next().unwrap_or_default();
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    stem.rsplit_once('+').is_some_and(|(_, counter)| {
        let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
        number(left) && number(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(path: &str) -> Vec<u8> {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(path.encode_utf16().flat_map(u16::to_le_bytes));
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn an_entry_with_a_counter_is_on_trial_until_it_is_marked_good() {
        let folder = tempfile::tempdir().unwrap();
        let blessed = folder.path().join("blessed");
        let is_trial = || assess(folder.path(), &blessed);
        assert!(!is_trial(), "no such variable");
        for (path, expected) in [
            ("\\EFI\\Linux\\atalaya_000008+2-1.efi", true),
            ("\\EFI\\Linux\\atalaya_000008+3.efi", true),
            ("\\EFI\\Linux\\atalaya_000008+0-3.efi", true), // its last try
            ("\\EFI\\Linux\\atalaya_000008.efi", false),
            ("\\EFI\\Li+nux\\atalaya.efi", false),
            ("\\EFI\\Linux\\atalaya_1+x.efi", false),
            ("", false),
        ] {
            atalaya_sys::durable::write(
                &folder.path().join(VARIABLE),
                &variable(path),
                0o600,
                None,
            )
            .unwrap();
            assert_eq!(is_trial(), expected, "{path}");
        }
        atalaya_sys::durable::write(
            &folder.path().join(VARIABLE),
            &variable("a+1.efi"),
            0o600,
            None,
        )
        .unwrap();
        assert!(is_trial());
        atalaya_sys::durable::write(&blessed, b"", 0o600, None).unwrap();
        assert!(!is_trial());
        assert!(!has_counter(&[1, 2]) && !has_counter(b"abcde"));
    }
}

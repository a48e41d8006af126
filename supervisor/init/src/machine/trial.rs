//! Whether this boot is a trial of a new version: the loader started an entry that still has a counter, and nobody has
//! marked it good since.

use std::path::Path;

use atalaya_core::update::esp::{Counter, loader_variable, name_in_variable};

const VARIABLES: &str = "/sys/firmware/efi/efivars";
const VARIABLE: &str = "LoaderBootCountPath";
/// Made by whoever marks this version good; the variable keeps its value until the next boot.
const BLESSED: &str = "/run/atalaya/blessed";

pub fn is_on() -> bool {
    assess(Path::new(VARIABLES), Path::new(BLESSED))
}

fn assess(variables: &Path, blessed: &Path) -> bool {
    let started = std::fs::read(variables.join(loader_variable(VARIABLE))).unwrap_or_default();
    Counter::of(&name_in_variable(&started)).is_some() && !blessed.exists()
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
            ("\\EFI\\Linux\\atalaya_000008+0-3.efi", true), // its last try
            ("\\EFI\\Linux\\atalaya_000008.efi", false),
        ] {
            atalaya_sys::durable::write(
                &folder.path().join(loader_variable(VARIABLE)),
                &variable(path),
                0o600,
                None,
            )
            .unwrap();
            assert_eq!(is_trial(), expected, "{path}");
        }
        atalaya_sys::durable::write(
            &folder.path().join(loader_variable(VARIABLE)),
            &variable("a+1.efi"),
            0o600,
            None,
        )
        .unwrap();
        assert!(is_trial());
        atalaya_sys::durable::write(&blessed, b"", 0o600, None).unwrap();
        assert!(!is_trial());
    }
}

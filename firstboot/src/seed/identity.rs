//! The machine id: made once, kept in `/data/identity`, shown at `/etc/machine-id`.

use std::fs::File;
use std::path::Path;

use atalaya_sys::durable;
use atalaya_sys::mounts::{self, Flags};
use nix::sched::{CloneFlags, setns};

use super::{SeedError, make_directory};
use crate::places::Places;
use crate::random;

/// The kept id; a new one if there is none or if it is damaged.
pub(super) fn machine_id(places: &Places) -> Result<String, SeedError> {
    let path = places.identity().join("machine-id");
    if let Ok(text) = std::fs::read_to_string(&path)
        && is_machine_id(text.trim())
    {
        return Ok(text.trim().to_owned());
    }
    make_directory(&places.identity(), 0o700)?;
    let id = random::machine_id()?;
    durable::write(&path, format!("{id}\n").as_bytes(), 0o444, None)?;
    Ok(id)
}

fn is_machine_id(text: &str) -> bool {
    let hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    text.len() == 32 && hex && text.bytes().any(|b| b != b'0')
}

/// Lays the id over the image's empty `/etc/machine-id`, in PID 1's mount namespace, which every unit started from now on
/// begins with.
pub(super) fn show_to_everybody(places: &Places) -> Result<(), Box<dyn std::error::Error>> {
    let namespace = File::open("/proc/1/ns/mnt")?;
    setns(&namespace, CloneFlags::CLONE_NEWNS)?;
    let target = places.etc_machine_id();
    if std::fs::read(&target)? == std::fs::read(places.machine_id())? {
        return Ok(());
    }
    let flags = Flags::MS_RDONLY | Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    Ok(mounts::bind(
        Path::new(&places.machine_id()),
        &target,
        false,
        flags,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_again_only_if_damaged() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::at(root.path());
        let first = machine_id(&places).unwrap();
        assert!(is_machine_id(&first));
        assert_eq!(machine_id(&places).unwrap(), first);
        for damage in ["", "00000000000000000000000000000000\n", "xyz\n"] {
            durable::write(
                &places.identity().join("machine-id"),
                damage.as_bytes(),
                0o444,
                None,
            )
            .unwrap();
            let repaired = machine_id(&places).unwrap();
            assert!(is_machine_id(&repaired));
            assert_ne!(repaired, first);
        }
    }
}

//! Loads the modules that the initrd lists, in the list's order.

use crate::console::Console;
use crate::failure::Failure;
use crate::stage1::MODULES;
use atalaya_sys::modules;
use std::path::{Path, PathBuf};

/// Loads them all. One that does not load is told of only if its absence may matter: a driver without its hardware
/// answers ENODEV, and that is what most of them do on any machine.
///
/// # Errors
/// The list itself cannot be read.
pub fn load(console: &mut Console) -> Result<(), Failure> {
    let list =
        std::fs::read_to_string(MODULES).map_err(|error| Failure::new("list of modules", error))?;
    let release = nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    for path in parse_list(&list, &release) {
        if let Err(error) = modules::load(&path, c"")
            && !matches!(error.errno(), libc::ENODEV | libc::EOPNOTSUPP | libc::ENXIO)
        {
            console.say("stage 1: drivers", &error.chain());
        }
    }
    Ok(())
}

/// One path a line, absolute or relative to the running kernel's module folder; `#` begins a comment.
fn parse_list(list: &str, release: &str) -> Vec<PathBuf> {
    let folder = Path::new("/usr/lib/modules").join(release);
    list.lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .map(|line| folder.join(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_and_relative_paths_in_order() {
        let paths = parse_list(
            "# first\n/a/b.ko.xz\n\nkernel/fs/erofs.ko.xz # root\n",
            "6.12",
        );
        assert_eq!(
            paths,
            [
                PathBuf::from("/a/b.ko.xz"),
                PathBuf::from("/usr/lib/modules/6.12/kernel/fs/erofs.ko.xz")
            ]
        );
    }
}

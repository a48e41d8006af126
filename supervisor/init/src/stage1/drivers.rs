//! Loads the modules that the initrd lists, in the list's order, one at a time: most of them are for other machines, and
//! each costs time, so stage 1 stops as soon as it has its disk. Whatever else is plugged in, udevd finds later.
//!
//! A few that PID 1 will want are loaded beside it, in children that nobody waits for: whoever needs such a module while
//! it is being loaded waits in the kernel.

use crate::console::Console;
use crate::failure::Failure;
use crate::reactor::children::start_self;
use crate::stage1::MODULES;
use atalaya_sys::{Error, modules};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// The data's file system (2 s under full emulation), and what a power button needs.
const IN_BACKGROUND: [&str; 3] = ["xfs", "evdev", "button"];

/// What the kernel's command line says of a module reaches only those that are built in, and those that modprobe loads.
/// A restart must not disarm the watchdog: it is there for the restart that hangs.
const PARAMETERS: [(&str, &CStr); 1] = [("watchdog", c"stop_on_reboot=0")];

/// The modules that are not loaded yet.
pub struct Drivers {
    left: VecDeque<PathBuf>,
}

impl Drivers {
    /// # Errors
    /// The list itself cannot be read.
    pub fn listed() -> Result<Self, Failure> {
        let list = std::fs::read_to_string(MODULES)
            .map_err(|error| Failure::new("list of modules", error))?;
        let release = nix::sys::utsname::uname()
            .map(|names| names.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Self {
            left: parse_list(&list, &release).into(),
        })
    }

    /// Loads the next one; `false` if there is none. One that does not load is told of only if its absence may matter: a
    /// driver without its hardware answers ENODEV, and that is what most of them do on any machine.
    pub fn load_next(&mut self, console: &mut Console) -> bool {
        let Some(path) = self.left.pop_front() else {
            return false;
        };
        if IN_BACKGROUND.contains(&module_name(&path)) {
            if let Err(error) = start_self(&["effect", "load", &path.to_string_lossy()]) {
                console.say("stage 1: drivers", &error.chain());
            }
            return true;
        }
        if let Err(error) = modules::load(&path, parameters(module_name(&path)))
            && !is_absent_hardware(&error)
        {
            console.say("stage 1: drivers", &error.chain());
        }
        true
    }
}

fn parameters(module: &str) -> &'static CStr {
    PARAMETERS
        .iter()
        .find(|(name, _)| *name == module)
        .map_or(c"", |(_, parameters)| parameters)
}

fn module_name(path: &Path) -> &str {
    let file = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    file.split(".ko").next().unwrap_or_default()
}

/// ENOENT is a missing symbol: the driver below it found no hardware and was not loaded either.
fn is_absent_hardware(error: &Error) -> bool {
    error.operation == modules::LOAD
        && matches!(
            error.errno(),
            libc::ENODEV | libc::ENXIO | libc::EOPNOTSUPP | libc::ENOENT
        )
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
    fn modules_are_known_by_their_name() {
        assert_eq!(module_name(Path::new("/modules/xfs.ko.xz")), "xfs");
        assert_eq!(module_name(Path::new("/a/evdev.ko")), "evdev");
        assert_eq!(module_name(Path::new("/")), "");
        assert_eq!(
            parameters(module_name(Path::new("/modules/watchdog.ko.xz"))),
            c"stop_on_reboot=0"
        );
        assert_eq!(parameters("softdog"), c"");
    }

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

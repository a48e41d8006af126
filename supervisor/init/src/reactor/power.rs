//! Power buttons: every input device that has the key, those plugged in later too.

use crate::console::Console;
use atalaya_core::link::{Action, Source};
use atalaya_sys::evdev::{self, KEY_POWER};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

const FOLDER: &str = "/dev/input";

/// The devices known so far; `None` for those without the key.
#[derive(Debug)]
pub struct Buttons {
    changes: Option<Inotify>,
    devices: BTreeMap<String, Option<File>>,
}

impl Buttons {
    pub fn new(console: &mut Console) -> Self {
        // Made here, so that there is something to watch before the first driver is loaded.
        drop(std::fs::create_dir(FOLDER));
        let changes =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).and_then(|inotify| {
                inotify.add_watch(
                    FOLDER,
                    AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ATTRIB,
                )?;
                Ok(inotify)
            });
        let mut buttons = Self {
            changes: changes
                .map_err(|errno| {
                    console.say(
                        "power button",
                        &format!("failed to watch {FOLDER}: {errno}"),
                    )
                })
                .ok(),
            devices: BTreeMap::new(),
        };
        buttons.scan();
        buttons
    }

    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let devices = self.devices.values().flatten().map(AsFd::as_fd);
        self.changes
            .as_ref()
            .map(AsFd::as_fd)
            .into_iter()
            .chain(devices)
    }

    /// Whether a power button was pressed, and what that asks for.
    pub fn pressed(&mut self) -> Option<(Action, Source)> {
        // An error is "nothing to read"; the events' details do not matter.
        if let Some(changes) = &self.changes
            && changes.read_events().is_ok()
        {
            self.scan();
        }
        let mut pressed = false;
        for device in self.devices.values_mut() {
            if let Some(file) = device {
                match evdev::pressed(file, KEY_POWER) {
                    Some(now) => pressed |= now,
                    None => *device = None, // unplugged
                }
            }
        }
        pressed.then_some((Action::Poweroff, Source::PowerButton))
    }

    fn scan(&mut self) {
        let names: Vec<String> = std::fs::read_dir(FOLDER)
            .map(|entries| {
                entries
                    .flatten()
                    .filter_map(|entry| entry.file_name().into_string().ok())
                    .collect()
            })
            .unwrap_or_default();
        self.devices.retain(|name, _| names.contains(name));
        for name in names {
            if name.starts_with("event") && !self.devices.contains_key(&name) {
                let opened = evdev::open(&Path::new(FOLDER).join(&name)).and_then(|device| {
                    let has = evdev::has_key(&device, KEY_POWER)?;
                    Ok(has.then_some(device))
                });
                // A device that cannot be opened yet is tried again at its next change.
                if let Ok(device) = opened {
                    self.devices.insert(name, device);
                }
            }
        }
    }
}

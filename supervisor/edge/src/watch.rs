//! Follows a file by inotify on its directory and calls back after every change. Reads upstream.json; decides nothing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::admission::{Admission, UpstreamState, parse_state};

/// How often a directory that is not there yet is looked for.
const RETRY: Duration = Duration::from_millis(200);

/// Milliseconds of CLOCK_BOOTTIME, the clock of the times in upstream.json.
pub fn boot_ms() -> u64 {
    // The call cannot fail for a clock that the kernel has had since 2.6.39; 0 would read as "before everything", the careful side.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|time| u64::try_from(Duration::from(time).as_millis()).ok())
        .unwrap_or(0)
}

/// The file as it is now.
pub fn read_state(path: &Path) -> UpstreamState {
    match std::fs::read(path) {
        Ok(bytes) => parse_state(Some(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => parse_state(None),
        Err(_) => parse_state(Some("")),
    }
}

/// Keeps `admission` as upstream.json says, for as long as somebody wants to know.
pub fn follow_state(path: PathBuf, admission: watch::Sender<Admission>) -> std::io::Result<()> {
    let file = path.clone();
    follow("upstream-state", file, move || {
        let state = read_state(&path);
        admission.send_if_modified(|current| {
            let changed = current.state != state;
            if changed {
                *current = current.follow(state, boot_ms());
            }
            changed
        });
        !admission.is_closed()
    })
}

/// Starts a thread that calls `look` now and whenever the file may have changed, until that says false.
pub fn follow(
    name: &str,
    path: PathBuf,
    mut look: impl FnMut() -> bool + Send + 'static,
) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // The watch comes first, so that no change is missed between looking and watching.
            loop {
                let inotify = open(&path);
                if !look() {
                    return;
                }
                if let Ok(inotify) = inotify {
                    while wait(&inotify) {
                        if !look() {
                            return;
                        }
                    }
                    // The directory is gone, and the file with it.
                    if !look() {
                        return;
                    }
                }
                std::thread::sleep(RETRY);
            }
        })?;
    Ok(())
}

fn open(path: &Path) -> nix::Result<Inotify> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let changes = AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(directory, changes)?;
    Ok(inotify)
}

/// Waits for a change; false once the directory itself is gone.
fn wait(inotify: &Inotify) -> bool {
    let gone =
        AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
    match inotify.read_events() {
        Ok(events) => !events.iter().any(|event| event.mask.intersects(gone)),
        Err(error) => error == Errno::EINTR,
    }
}

//! What all units with data stand on: whether /data is there and has room. Looked at on a thread of its own, because a disk
//! may never answer; decided by `crate::space`; the units' machines are told by `Input::Ground`.

use std::io;
use std::time::Duration;

use atalaya_core::machine::Desired;
use atalaya_core::system::{Ground, Input};
use atalaya_core::unit::FullDisk;

use super::{Message, Supervisor};
use crate::clock::boottime_ms;
use crate::space::{self, Level, Room};

/// Between two looks, in milliseconds.
const LOOK_EVERY_MS: u64 = 4_000;
/// How long the first look may hold up the first start.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// A look that takes longer is told to people, in milliseconds.
const SILENT_MS: u64 = 20_000;

/// Where the looking stands.
#[derive(Default)]
pub(super) struct Footing {
    pub(super) level: Level,
    /// As it was seen last; absent while the disk does not answer.
    pub(super) room: Option<Room>,
    looked_ms: u64,
    /// A look is under way.
    is_looking: bool,
    /// People know that the disk does not answer.
    is_silent: bool,
}

/// What a thread has found or done.
pub enum OnDisk {
    Looked(io::Result<Room>),
    ReserveFreed(io::Result<()>),
    ReserveMade(io::Result<()>),
}

impl Supervisor {
    /// Before anything is started.
    pub(super) async fn find_ground(&mut self) {
        let Some(data) = self.options.data.clone() else {
            let why = absence(&self.options.run);
            self.say(
                "atalayad",
                &format!("{why}. Services that need it wait; nothing on it was changed"),
            );
            self.apply(Input::Ground(Ground {
                data: false,
                space: true,
                why,
            }));
            return;
        };
        let look = tokio::task::spawn_blocking(move || space::look(&data));
        if let Ok(Ok(room)) = tokio::time::timeout(FIRST_LOOK, look).await {
            self.on_disk(OnDisk::Looked(room));
        }
    }

    /// How it stands with the room on /data, in one word.
    pub(super) fn room(&self) -> &'static str {
        match self.footing.level {
            Level::Enough => "enough",
            Level::Low => "low",
            Level::Out => "out",
        }
    }

    /// Every two seconds.
    pub(super) fn look_at_room(&mut self) {
        let now = boottime_ms();
        let since_ms = now.saturating_sub(self.footing.looked_ms);
        if self.footing.is_looking {
            if since_ms >= SILENT_MS && !std::mem::replace(&mut self.footing.is_silent, true) {
                self.say(
                    "atalayad",
                    "the disk of /data does not answer. What was stored before is not touched. Check the disk or the storage \
                     behind it; services go on by themselves when it answers",
                );
            }
            return;
        }
        if since_ms >= LOOK_EVERY_MS {
            self.footing.looked_ms = now;
            self.footing.is_looking = true;
            self.on_thread(|data| OnDisk::Looked(space::look(&data)));
        }
    }

    fn on_thread(&self, work: impl FnOnce(std::path::PathBuf) -> OnDisk + Send + 'static) {
        let Some(data) = self.options.data.clone() else {
            return;
        };
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || drop(outbox.send(Message::Disk(work(data)))));
    }

    pub(super) fn on_disk(&mut self, what: OnDisk) {
        match what {
            OnDisk::Looked(Ok(room)) => {
                self.footing.is_looking = false;
                if std::mem::take(&mut self.footing.is_silent) {
                    self.say("atalayad", "the disk of /data answers again");
                }
                self.on_room(room);
            }
            OnDisk::Looked(Err(error)) => {
                self.footing.is_looking = false;
                self.hub.push(
                    "atalayad",
                    &format!("failed to ask for the room on /data: {error}"),
                );
            }
            OnDisk::ReserveFreed(done) => {
                if let Err(error) = done {
                    self.say(
                        "atalayad",
                        &format!("failed to free the reserve on /data: {error}"),
                    );
                }
                // With its room they can write what they must to stop.
                self.apply(Input::Ground(Ground {
                    data: true,
                    space: false,
                    why: "there is no room on /data".to_owned(),
                }));
                for unit in self.up_that_stop() {
                    self.apply(Input::Restart(unit));
                }
            }
            OnDisk::ReserveMade(Ok(())) => {}
            OnDisk::ReserveMade(Err(error)) => self.hub.push(
                "atalayad",
                &format!("failed to make the reserve on /data: {error}"),
            ),
        }
    }

    /// The units that are up and cannot stand a full disk: when they are to start again, they wait for room.
    fn up_that_stop(&self) -> Vec<String> {
        self.system
            .units()
            .filter(|(unit, machine)| {
                unit.on_full_disk == FullDisk::Stop
                    && machine.desired() == Desired::Up
                    && machine.is_active()
            })
            .map(|(unit, _)| unit.name.clone())
            .collect()
    }

    fn on_room(&mut self, room: Room) {
        let before = self.footing.level;
        let level = space::assess(before, room);
        self.footing.level = level;
        self.footing.room = Some(room);
        let free = atalaya_core::words::size(room.free);
        match (before, level) {
            (Level::Enough, Level::Low) => {
                self.hub.yield_space();
                self.say(
                    "atalayad",
                    &format!(
                        "only {free} are free on /data: old logs make room. Nothing else is deleted. Make the disk larger, or \
                         remove old files in Mattermost"
                    ),
                );
            }
            (Level::Enough | Level::Low, Level::Out) => {
                self.hub.yield_space();
                self.say(
                    "atalayad",
                    &format!(
                        "only {free} are free on /data: the database is stopped in order, nothing is lost. Make the disk larger; \
                         it starts again by itself"
                    ),
                );
                self.on_thread(|data| OnDisk::ReserveFreed(space::free_reserve(&data)));
            }
            (Level::Out, Level::Low | Level::Enough) => {
                if level == Level::Enough {
                    self.hub.resume();
                }
                self.say("atalayad", &format!("{free} are free on /data again"));
                self.apply(Input::Ground(Ground {
                    data: true,
                    space: true,
                    why: String::new(),
                }));
            }
            (Level::Low, Level::Enough) => self.hub.resume(),
            (Level::Enough, Level::Enough)
            | (Level::Low, Level::Low)
            | (Level::Out, Level::Out) => {}
        }
        if level != Level::Out && room.has_room_for_reserve() {
            let size = room.reserve_wanted();
            self.on_thread(move |data| OnDisk::ReserveMade(space::make_reserve(&data, size)));
        }
    }
}

/// Why there is no /data, as init wrote it down.
fn absence(run: &std::path::Path) -> String {
    #[derive(serde::Deserialize)]
    struct Record {
        reason: Option<String>,
    }
    let reason = std::fs::read(run.join("data.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<Record>(&text).ok())
        .and_then(|record| record.reason);
    match reason {
        Some(reason) => format!("/data is not there: {reason}"),
        None => "/data is not there".to_owned(),
    }
}

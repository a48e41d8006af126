//! Room on /data. `assess` decides from what is free; `look` and the reserve are what is done on the disk, each in a call
//! that may block and so must not be made by the owner of state.
//!
//! ```text
//!            < low                    < out
//! Enough ------------> Low ----------------------> Out
//!    ^    (logs yield)  |  (the reserve is freed,   |
//!    +------------------+   units with data rest)   |
//!        > 1.5 x low    ^                           |
//!                       +---------------------------+  > 2 x out and room for the reserve (it is made again)
//! ```
//! PostgreSQL needs room for its checkpoint when it stops: that is what the reserve is for. While it rests nobody can
//! fill the disk through Mattermost.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

const MIB: u64 = 1 << 20;
/// The reserve's size on a disk of ordinary size, in bytes: two WAL segments and a checkpoint of what is dirty.
const RESERVE: u64 = 64 * MIB;
/// Its name below /data.
pub const RESERVE_FILE: &str = "reserve";

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    #[default]
    Enough,
    /// Logs make room.
    Low,
    /// Nobody may write any more.
    Out,
}

/// What was seen on the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For ordinary users.
    pub free: u64,
    pub total: u64,
    /// Held by the reserve file.
    pub reserve: u64,
}

impl Room {
    /// How large the reserve is on this disk: small disks have a small one.
    pub fn reserve_wanted(&self) -> u64 {
        RESERVE.min(self.total / 32)
    }

    /// Below it, nobody may write.
    fn out(&self) -> u64 {
        RESERVE.min(self.total / 32)
    }

    /// Below it, logs make room.
    fn low(&self) -> u64 {
        (4 * RESERVE).min(self.total / 8)
    }

    /// Whether the reserve can be made without getting near to `Out`.
    pub fn has_room_for_reserve(&self) -> bool {
        self.reserve < self.reserve_wanted()
            && self.free > 2 * self.out() + self.reserve_wanted() - self.reserve
    }
}

/// How it stands now, `before` being how it stood: what is left is left only with something to spare.
pub fn assess(before: Level, room: Room) -> Level {
    // What the reserve holds, or would hold again, is not free.
    let missing = room.reserve_wanted().saturating_sub(room.reserve);
    let free = room.free;
    let out = match before {
        Level::Enough | Level::Low => free < room.out(),
        Level::Out => free < room.out() * 2 + missing,
    };
    let low = match before {
        Level::Enough => free < room.low(),
        Level::Low | Level::Out => free < room.low() + room.low() / 2,
    };
    match (out, low) {
        (true, _) => Level::Out,
        (false, true) => Level::Low,
        (false, false) => Level::Enough,
    }
}

/// Asks the file system. Blocks while the disk does not answer.
///
/// # Errors
/// It cannot be asked.
pub fn look(data: &Path) -> io::Result<Room> {
    let found = statvfs(data)?;
    let size = found.fragment_size();
    let reserve = fs::metadata(data.join(RESERVE_FILE)).map_or(0, |file| file.len());
    Ok(Room {
        free: found.blocks_available().saturating_mul(size),
        total: found.blocks().saturating_mul(size),
        reserve,
    })
}

/// Takes `size` bytes of the disk. May block.
///
/// # Errors
/// There is no room after all; then nothing is taken.
pub fn make_reserve(data: &Path, size: u64) -> io::Result<()> {
    let path = data.join(RESERVE_FILE);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)?;
    let length = i64::try_from(size).map_err(io::Error::other)?;
    let made = fallocate(&file, FallocateFlags::empty(), 0, length);
    if let Err(error) = made {
        free_reserve(data)?;
        return Err(error.into());
    }
    file.sync_all()
}

/// Gives it back. That there is none is no error. May block.
///
/// # Errors
/// It cannot be removed.
pub fn free_reserve(data: &Path) -> io::Result<()> {
    match fs::remove_file(data.join(RESERVE_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }?;
    // Blocks are free for others once the removal is written.
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn room(free: u64, reserve: u64) -> Room {
        Room {
            free,
            total: 16 * GIB,
            reserve,
        }
    }

    #[test]
    fn logs_yield_first_then_the_reserve_and_each_returns_with_something_to_spare() {
        let mut level = Level::Enough;
        let mut see = |free: u64, reserve: u64| {
            level = assess(level, room(free * MIB, reserve * MIB));
            level
        };
        assert_eq!(see(300, 64), Level::Enough);
        assert_eq!(see(255, 64), Level::Low);
        assert_eq!(see(300, 64), Level::Low);
        assert_eq!(see(65, 64), Level::Low);
        assert_eq!(see(63, 64), Level::Out);
        // The reserve was freed: that alone is no reason to come back.
        assert_eq!(see(127, 0), Level::Out);
        assert_eq!(see(190, 0), Level::Out);
        assert_eq!(see(193, 0), Level::Low);
        assert_eq!(see(129, 64), Level::Low);
        assert_eq!(see(385, 64), Level::Enough);
    }

    #[test]
    fn a_small_disk_has_small_limits() {
        let small = Room {
            free: 100 * MIB,
            total: 256 * MIB,
            reserve: 8 * MIB,
        };
        assert_eq!(small.reserve_wanted(), 8 * MIB);
        assert_eq!(assess(Level::Enough, small), Level::Enough);
        let full = Room {
            free: 7 * MIB,
            ..small
        };
        assert_eq!(assess(Level::Enough, full), Level::Out);
    }

    proptest! {
        /// Making or freeing the reserve must not change the level by itself: else the machine would swing.
        #[test]
        fn the_reserve_itself_never_makes_it_swing(free in 0..(2 * GIB), total in MIB..(64 * GIB)) {
            let held = Room { free, total, reserve: RESERVE.min(total / 32) };
            if assess(Level::Low, held) == Level::Out {
                let freed = Room { free: free + held.reserve, total, reserve: 0 };
                prop_assert_eq!(assess(Level::Out, freed), Level::Out);
            }
            let without = Room { free, total, reserve: 0 };
            if without.has_room_for_reserve() {
                let made = Room { free: free - without.reserve_wanted(), total, reserve: without.reserve_wanted() };
                prop_assert_ne!(assess(Level::Low, made), Level::Out);
            }
        }

        #[test]
        fn more_room_is_never_worse(free in 0..GIB, more in 0..GIB, level in 0..3) {
            let level = [Level::Enough, Level::Low, Level::Out][usize::try_from(level).unwrap()];
            let rank = |level| match level { Level::Enough => 0, Level::Low => 1, Level::Out => 2 };
            let (less, more) = (assess(level, room(free, 0)), assess(level, room(free + more, 0)));
            prop_assert!(rank(more) <= rank(less));
        }
    }

    #[test]
    fn the_reserve_takes_room_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let size = 4 * MIB;
        make_reserve(folder.path(), size).unwrap();
        make_reserve(folder.path(), size).unwrap();
        let file = folder.path().join(RESERVE_FILE);
        use std::os::unix::fs::MetadataExt;
        assert!(fs::metadata(&file).unwrap().blocks() * 512 >= size);
        assert_eq!(look(folder.path()).unwrap().reserve, size);
        free_reserve(folder.path()).unwrap();
        free_reserve(folder.path()).unwrap();
        assert!(!file.exists());
        // More than any disk has: nothing is left behind.
        assert!(make_reserve(folder.path(), 1 << 60).is_err());
        assert!(!file.exists());
    }
}

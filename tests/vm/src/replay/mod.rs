//! Power cuts. A machine whose disk is [recorded](crate::Disk::recorded) leaves a log of every write and flush
//! ([`WriteLog`]); from the disk as it was before and that log follows what may be on it after a cut at any moment
//! ([`Cut`]), and [`CrashDisk`] serves such a disk to another machine without ever making a file of it.
//!
//! What a disk promises, and all that it promises: what was written before a flush that was answered is there. Of what
//! was written later any part may be there, in any order, down to single physical sectors of 4 KiB.

mod content;
mod cut;
mod log;
mod nbd;
mod serve;

pub use cut::{Cut, Dice};
pub use log::{LogEntry, WriteLog};
pub use serve::CrashDisk;

/// The unit in which a disk keeps its promises.
const SECTOR: u64 = 512;

//! Stage 1 of the boot and PID 1: the one process that nobody can restart.
//!
//! It mounts, reaps, starts and restarts atalayad, keeps what atalayad must not lose, feeds the watchdog and ends the
//! machine. It holds no policy about units, never waits on a device in its own process, never panics and never returns.
//! The decisions are pure modules (`disk::gpt`, `stage1::cmdline`, `stage1::verity`, `supervise`, `ending::plan`,
//! `data::layout`); the rest executes them.

pub mod ask;
pub mod boot_record;
pub mod console;
pub mod data;
pub mod disk;
pub mod ending;
pub mod failure;
pub mod machine;
pub mod reactor;
pub mod resident;
pub mod stage1;
pub mod supervise;

//! What is on the disks: partition tables as bytes (pure), and which devices the kernel shows.
//!
//! Reads only. Nothing in this room writes to a disk.

pub mod crc;
pub mod gpt;
pub mod scan;

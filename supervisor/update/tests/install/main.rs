//! A bundle onto a slot: files stand for the partitions, everything else is real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

mod confined;
mod firmware;
mod ground;
mod memory;
mod refused;
mod secure_boot;
mod written;

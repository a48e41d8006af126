//! The system calls that Atalaya needs and that no crate wraps safely, each behind a safe function.
//!
//! This is the only crate with `unsafe`. It acts and decides nothing: no policy, no retries, no defaults that a caller
//! could not see. What `nix` already does safely is used from there and not wrapped again.
#![allow(unsafe_code)] // the one crate where it is; every block carries its SAFETY

pub mod cgroup;
pub mod dm;
pub mod durable;
pub mod evdev;
pub mod fat;
pub mod fds;
pub mod host;
pub mod local_time;
pub mod medium;
pub mod modules;
pub mod mounts;
pub mod notify;
pub mod pages;
pub mod pidfd;
pub mod reap;
pub mod reflink;
pub mod screen;
pub mod seqpacket;
pub mod spawn;
pub mod text;
pub mod watchdog;
pub mod xattr;
pub mod xfs;

mod error;
mod message;

pub use error::{Context, Error, Result};

//! Descriptors that tokio has no type of its own for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a descriptor for as long as its owner lives.
///
/// # Errors
/// The kernel cannot watch this kind.
#[allow(deprecated)] // its successor is unsafe for the sake of types that do not own what they name: AsFd is promised here
pub fn watch<T: AsFd + AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

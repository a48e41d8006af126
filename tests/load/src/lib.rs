//! Load on the edge and on the proxies that it is compared with: clients, a backend, starting the proxies with equal settings, and what the
//! kernel says about them. Measures nothing by itself and decides nothing: the bench and the soak do.

pub mod backend;
pub mod client;
pub mod proxy;
pub mod usage;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Thousands of connections, each of them with two ends in this process.
///
/// # Errors
/// The limit could not be read or raised.
pub fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

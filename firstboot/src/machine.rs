//! Facts about this machine that rendering needs. Reads; decides nothing.

use std::net::IpAddr;

use atalaya_core::render::is_reachable;

/// CPUs that may be used.
#[must_use]
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// Addresses that another machine could use, in the kernel's order, without repetition.
///
/// # Errors
/// The kernel does not list them.
pub fn addresses() -> Result<Vec<IpAddr>, nix::Error> {
    let mut all = Vec::new();
    for interface in nix::ifaddrs::getifaddrs()? {
        let Some(address) = interface.address else {
            continue;
        };
        let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (None, Some(v6)) => IpAddr::V6(v6.ip()),
            (None, None) => continue,
        };
        if is_reachable(&address) && !all.contains(&address) {
            all.push(address);
        }
    }
    Ok(all)
}

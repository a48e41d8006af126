//! What the machine's own certificate authority covers: names and networks. Decides that for the edge, which makes the authority, and for
//! the plan of a change, which says whether a new one will be needed. It must not know how a certificate is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks that nobody owns in public: an appliance may change its address within them and keep its authority.
pub const PRIVATE: [IpNet; 8] = [
    v4(10, 0, 8),
    v4(127, 0, 8),
    v4(169, 254, 16),
    v4(172, 16, 12),
    v4(192, 168, 16),
    v6(0, 1, 128),
    v6(0xfc00, 0, 7),
    v6(0xfe80, 0, 10),
];

const fn v4(a: u8, b: u8, prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, 0, 0)), prefix)
}

const fn v6(first: u16, last: u16, prefix: u8) -> IpNet {
    let address = Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last);
    IpNet::new_assert(IpAddr::V6(address), prefix)
}

/// Whether every authority covers it.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    PRIVATE.iter().any(|net| net.contains(&address))
}

/// A wildcard is within whatever its domain is within.
#[must_use]
pub fn base(name: &str) -> &str {
    name.strip_prefix("*.").unwrap_or(name)
}

/// RFC 5280 section 4.2.1.10: a name stands for itself and for all names below it.
#[must_use]
pub fn covers<'a>(permitted: impl IntoIterator<Item = &'a String>, name: &str) -> bool {
    permitted.into_iter().any(|permitted| {
        base(name)
            .strip_suffix(permitted.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

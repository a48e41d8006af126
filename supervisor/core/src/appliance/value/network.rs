//! DNS names, networks, and the server that takes DNS updates.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Host, label, parse_host};

pub(in crate::appliance) const NAMES: &str =
    "a list of DNS names in lower case, \"*.\" in front at most (example: [\"chat.example.org\"])";
pub(in crate::appliance) const NETWORKS: &str =
    "a list of networks and addresses (example: [\"10.0.0.0/8\", \"2001:db8::7\"])";
pub(in crate::appliance) const DNS_SERVER: &str = "an IP address, with a port if it is not 53 (example: \"192.0.2.53\" or \"[2001:db8::53]:5353\")";
pub(in crate::appliance) const ZONE: &str =
    "a DNS name in lower case (example: \"acme.example.com\")";
pub(in crate::appliance) const KEY_NAME: &str =
    "the name that the DNS server knows the key by (example: \"atalaya-key\")";

/// A DNS name of at least one label, in lower case and without the last dot; perhaps `*.` and a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsName(String);

impl DnsName {
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.len() < text.len() && !name.contains('.') {
            return Err("holds a \"*\" for a whole top-level domain");
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("holds an upper-case letter");
        }
        match parse_host(name) {
            Ok(Host::Name(_)) => Ok(Self(text.to_owned())),
            Ok(Host::Address(_)) => Err("holds an address; names only"),
            Err(_) => Err("holds something that is not a DNS name"),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network, or one address. A network with bits behind its length is refused: one of the two is a mistake.
pub(in crate::appliance) fn parse_network(text: &str) -> Result<IpNet, &'static str> {
    const WRONG: &str = "holds something that is neither a network nor an address";
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| WRONG)?,
    };
    if network.addr() != network.network() {
        return Err("holds a network with bits set behind its length");
    }
    match network {
        IpNet::V6(six) if six.addr().to_ipv4_mapped().is_some() && six.prefix_len() >= 96 => {
            Err("holds an IPv4 network written as IPv6")
        }
        IpNet::V4(_) | IpNet::V6(_) => Ok(network),
    }
}

pub(in crate::appliance) fn parse_dns_server(text: &str) -> Result<SocketAddr, &'static str> {
    let parsed = match text.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, 53),
        Err(_) => text
            .parse::<SocketAddr>()
            .map_err(|_| "is not an IP address with or without a port")?,
    };
    if parsed.port() == 0 || parsed.ip().is_unspecified() || parsed.ip().is_multicast() {
        return Err("is not an address that a server can have");
    }
    Ok(parsed)
}

/// A zone or the name of a key, where labels may begin with `_`.
pub(in crate::appliance) fn parse_dns_owner(text: &str) -> Result<String, &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = |part: &str| {
        let part = part.strip_prefix('_').unwrap_or(part);
        label(&part.replace('_', "-")).is_ok()
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return Err("is not a DNS name");
    }
    Ok(name.to_owned())
}

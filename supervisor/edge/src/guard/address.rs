//! A client's address: the connection's own, or what trusted load balancers say of it. Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// The rightmost address that is not one of the load balancers'. What stands left of it was written by whom nobody here knows. An entry
/// that is no address ends the walk: the balancer that passed it on is then the client.
pub fn of_request(connection: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = connection;
    for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for entry in line.as_bytes().rsplit(|byte| *byte == b',') {
            if !is_in(trusted, client) {
                return client;
            }
            match parse_entry(entry) {
                Some(address) => client = address,
                None => return client,
            }
        }
    }
    client
}

/// An address as load balancers write it: with or without a port, IPv6 with or without brackets.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?.trim();
    let bare = entry
        .strip_prefix('[')
        .and_then(|entry| entry.strip_suffix(']'))
        .unwrap_or(entry);
    bare.parse()
        .or_else(|_| entry.parse().map(|socket: SocketAddr| socket.ip()))
        .map(|address: IpAddr| address.to_canonical())
        .ok()
}

/// What counts as one client: an IPv4 address, or the /64 that one IPv6 host can choose its addresses from.
pub fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    fn seen(connection: &str, lines: &[&str], trusted: &[&str]) -> String {
        let headers: HeaderMap = lines
            .iter()
            .map(|line| (X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap()))
            .collect();
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        of_request(connection.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_addresses_are_believed() {
        assert_eq!(seen("192.0.2.1", &["198.51.100.7"], &[]), "192.0.2.1");
        assert_eq!(
            seen("192.0.2.1", &["198.51.100.7"], &["10.0.0.0/8"]),
            "192.0.2.1"
        );
        assert_eq!(
            seen("10.1.2.3", &["198.51.100.7"], &["10.0.0.0/8"]),
            "198.51.100.7"
        );
        assert_eq!(
            seen("fd00::1", &["2001:db8::7"], &["fd00::/8"]),
            "2001:db8::7"
        );
    }

    #[test]
    fn the_client_is_the_rightmost_that_is_not_trusted() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        for (lines, client) in [
            (&["6.6.6.6, 198.51.100.7, 10.9.9.9"][..], "198.51.100.7"),
            (&["6.6.6.6", "198.51.100.7,fd00::2"], "198.51.100.7"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            // A network whose clients are load balancers themselves: the leftmost.
            (&["10.0.0.5, 10.0.0.6"], "10.0.0.5"),
            // Nothing that can be read: the balancer itself.
            (&["6.6.6.6, unknown"], "10.1.2.3"),
            (&["6.6.6.6, unknown, 10.0.0.9"], "10.0.0.9"),
            (&["6.6.6.6,"], "10.1.2.3"),
            (&[""], "10.1.2.3"),
            (&[], "10.1.2.3"),
        ] {
            assert_eq!(seen("10.1.2.3", lines, &trusted), client, "{lines:?}");
        }
    }

    #[test]
    fn one_ipv6_host_cannot_be_many_clients() {
        let group = |text: &str| group(text.parse().unwrap()).to_string();
        assert_eq!(group("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_ne!(group("2001:db8:1:3::6"), group("2001:db8:1:2::6"));
        assert_eq!(group("192.0.2.1"), "192.0.2.1");
    }

    proptest! {
        /// Whatever a client sends, what a balancer appends decides.
        #[test]
        fn a_client_cannot_choose_its_address(claims in proptest::collection::vec("[ -~]{0,40}", 0..4)) {
            let mut lines: Vec<&str> = claims.iter().map(String::as_str).collect();
            prop_assert_eq!(seen("198.51.100.7", &lines, &["10.0.0.0/8"]), "198.51.100.7");
            lines.push("198.51.100.7");
            prop_assert_eq!(seen("10.0.0.1", &lines, &["10.0.0.0/8"]), "198.51.100.7");
            let last = format!("{},198.51.100.7", claims.concat());
            prop_assert_eq!(seen("10.0.0.1", &[&last], &["10.0.0.0/8"]), "198.51.100.7");
        }
    }
}

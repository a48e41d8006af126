//! What the internal authority may sign for: names, and networks. Decides which names and addresses are within it; a stolen key of the
//! authority is then good for this site and private networks, and for nothing else on the devices that trust it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use atalaya_core::authority::{PRIVATE, base, covers, is_private};
use ipnet::IpNet;
use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use super::internal::Subject;

/// As an authority's certificate holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Constraints {
    names: BTreeSet<String>,
    networks: BTreeSet<IpNet>,
}

impl Constraints {
    /// Those of a new authority: the names, the site's own address, private networks.
    pub fn of(names: &BTreeSet<String>, site: Option<IpAddr>) -> Self {
        Self {
            names: names.iter().map(|name| base(name).to_owned()).collect(),
            networks: PRIVATE
                .into_iter()
                .chain(
                    site.filter(|address| !is_private(*address))
                        .map(IpNet::from),
                )
                .collect(),
        }
    }

    /// As they stand in an authority's certificate; None if it has none that bind both names and addresses: of an absent kind everything
    /// is permitted.
    pub fn read(certificate: &X509Certificate<'_>) -> Option<Self> {
        let extension = certificate.name_constraints().ok()??.value;
        let mut constraints = Self::default();
        for subtree in extension.permitted_subtrees.as_ref()? {
            match &subtree.base {
                GeneralName::DNSName(name) => {
                    constraints.names.insert(name.to_ascii_lowercase());
                }
                GeneralName::IPAddress(bytes) => {
                    constraints.networks.insert(network(bytes)?);
                }
                _ => return None,
            }
        }
        (!constraints.names.is_empty() && !constraints.networks.is_empty()).then_some(constraints)
    }

    pub fn permit_name(&self, name: &str) -> bool {
        covers(&self.names, name)
    }

    pub fn permit_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&address))
    }

    /// All names, and the site's own address, that are not permitted: for these a new authority is needed.
    pub fn outside(&self, names: &BTreeSet<String>, site: Option<IpAddr>) -> Vec<String> {
        let names = names.iter().filter(|name| !self.permit_name(name)).cloned();
        let site = site.filter(|address| !self.permit_address(*address));
        names
            .chain(site.map(|address| address.to_string()))
            .collect()
    }

    /// What of a wish can be signed: a public address that is not the site's own is left out.
    pub fn narrow(&self, wanted: &Subject) -> Subject {
        Subject {
            names: wanted
                .names
                .iter()
                .filter(|name| self.permit_name(name))
                .cloned()
                .collect(),
            addresses: wanted
                .addresses
                .iter()
                .filter(|address| self.permit_address(**address))
                .copied()
                .collect(),
        }
    }

    /// For people, names first.
    pub fn describe(&self) -> Vec<String> {
        let names = self.names.iter().cloned();
        names
            .chain(self.networks.iter().map(ToString::to_string))
            .collect()
    }

    pub fn extension(&self) -> NameConstraints {
        let names = self.names.iter().cloned().map(GeneralSubtree::DnsName);
        let networks = self.networks.iter().map(|net| {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(net.addr(), net.prefix_len()))
        });
        NameConstraints {
            permitted_subtrees: names.chain(networks).collect(),
            excluded_subtrees: Vec::new(),
        }
    }
}

/// Address and mask, as RFC 5280 puts them one behind the other.
fn network(bytes: &[u8]) -> Option<IpNet> {
    let half = bytes.len() / 2;
    let read = |bytes: &[u8]| {
        <[u8; 4]>::try_from(bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
            .ok()
    };
    IpNet::with_netmask(read(bytes.get(..half)?)?, read(bytes.get(half..)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_name_permits_itself_and_what_is_below_it() {
        let constraints = Constraints::of(&names(&["chat.example.org", "*.apps.example"]), None);
        for inside in ["chat.example.org", "a.b.chat.example.org", "x.apps.example"] {
            assert!(constraints.permit_name(inside), "{inside}");
        }
        for outside in [
            "example.org",
            "badchat.example.org",
            "chat.example.org.evil",
            "",
        ] {
            assert!(!constraints.permit_name(outside), "{outside}");
        }
    }

    #[test]
    fn private_networks_are_permitted_and_of_public_ones_only_the_sites_address() {
        let site: IpAddr = "203.0.113.7".parse().unwrap();
        let constraints = Constraints::of(&names(&["localhost"]), Some(site));
        for inside in [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.9.9",
            "172.31.255.1",
            "192.168.1.20",
            "203.0.113.7",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(
                constraints.permit_address(inside.parse().unwrap()),
                "{inside}"
            );
        }
        for outside in [
            "203.0.113.8",
            "172.32.0.1",
            "11.0.0.1",
            "2001:db8::1",
            "::2",
        ] {
            assert!(
                !constraints.permit_address(outside.parse().unwrap()),
                "{outside}"
            );
        }
        let other = "203.0.113.8".parse().unwrap();
        assert_eq!(
            constraints.outside(&names(&["localhost", "chat.example"]), Some(other)),
            ["chat.example", "203.0.113.8"]
        );
        assert!(
            constraints
                .outside(&names(&["localhost"]), Some(site))
                .is_empty()
        );
    }
}

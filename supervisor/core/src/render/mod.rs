//! Everything that is made from `appliance.toml`: the files that the units read, as text.
//!
//! Decides what each file says, from the configuration and the [`Facts`] of the machine alone: the same values give the
//! same bytes. It must not look at the machine, write anything, or put a secret into a file; all of them may be read by
//! every unit.

mod chrony;
mod edge;
mod mattermost;
mod postgres;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::appliance::{Appliance, DnsName, Host, SiteAddress};
use crate::release::Release;

pub use edge::secrets as edge_secrets;
pub use postgres::Sizes;

const MIB: u64 = 1024 * 1024;

/// What the machine is like at this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Memory that the kernel manages, in bytes.
    pub memory_bytes: u64,
    pub cpus: u32,
    /// Addresses of its interfaces that another machine could use: neither loopback nor link-local.
    pub addresses: Vec<IpAddr>,
    /// The site's address when the configuration names none: that of [`choose_address`]. None: the machine has none yet.
    pub found_site: Option<SiteAddress>,
    pub release: Release,
}

/// The rendered files. Each field's name is the file's, with `_` for the dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub postgresql_conf: String,
    pub pg_hba_conf: String,
    pub pg_ident_conf: String,
    pub mattermost_env: String,
    pub edge_toml: String,
    pub chrony_conf: String,
}

impl Rendered {
    /// Names and contents of the files in `/run/atalaya/conf` that need no network: what comes first at a start, so that
    /// the database does not wait for an address.
    #[must_use]
    pub fn machine_files(&self) -> [(&'static str, &str); 4] {
        [
            ("postgresql.conf", &self.postgresql_conf),
            ("pg_hba.conf", &self.pg_hba_conf),
            ("pg_ident.conf", &self.pg_ident_conf),
            ("chrony.conf", &self.chrony_conf),
        ]
    }

    /// The others: they hold the site's address or the machine's.
    #[must_use]
    pub fn site_files(&self) -> [(&'static str, &str); 2] {
        [
            ("mattermost.env", &self.mattermost_env),
            ("edge.toml", &self.edge_toml),
        ]
    }
}

/// Renders everything.
#[must_use]
pub fn render(appliance: &Appliance, facts: &Facts) -> Rendered {
    let site = site_address(appliance, facts);
    let sizes = Sizes::of(facts.memory_bytes, facts.cpus);
    Rendered {
        postgresql_conf: postgres::conf(&sizes),
        pg_hba_conf: postgres::hba(),
        pg_ident_conf: postgres::ident(),
        mattermost_env: mattermost::env(
            &mattermosts_address(appliance, facts),
            &appliance.edge,
            &sizes,
        ),
        edge_toml: edge::toml(
            appliance,
            site.as_ref(),
            &names(appliance, site.as_ref()),
            &addresses(facts, site.as_ref()),
            &facts.release,
        ),
        chrony_conf: chrony::conf(),
    }
}

/// The address that browsers use, if it is known.
#[must_use]
pub fn site_address(appliance: &Appliance, facts: &Facts) -> Option<SiteAddress> {
    let configured = appliance.site.address.as_ref();
    configured.or(facts.found_site.as_ref()).cloned()
}

/// Mattermost does not start without an address: where none is known it takes the host's name.
fn mattermosts_address(appliance: &Appliance, facts: &Facts) -> SiteAddress {
    site_address(appliance, facts).unwrap_or_else(|| SiteAddress::of_hostname(&appliance.hostname))
}

/// The address that a machine without a configured one is reached at: IPv4 before IPv6, because that is what people read
/// off a console and type; among equals the first.
#[must_use]
pub fn choose_address(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses
        .iter()
        .find(|a| a.is_ipv4())
        .or_else(|| addresses.first())
        .copied()
}

/// Whether another machine could use this address of an interface.
#[must_use]
pub fn is_reachable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            !(a.is_loopback() || a.is_link_local() || a.is_unspecified() || a.is_multicast())
        }
        IpAddr::V6(a) => {
            !(a.is_loopback()
                || a.is_unicast_link_local()
                || a.is_unspecified()
                || a.is_multicast())
        }
    }
}

/// DNS names in the certificate, without repetition, the site's first.
fn names(appliance: &Appliance, site: Option<&SiteAddress>) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(Host::Name(name)) = site.map(SiteAddress::host) {
        names.push(name.clone());
    }
    let further = appliance.site.names.iter().map(DnsName::as_str);
    for name in further.chain([appliance.hostname.as_str(), "localhost"]) {
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// IP addresses in the certificate, in a stable order, so that the same machine gets the same certificate.
fn addresses(facts: &Facts, site: Option<&SiteAddress>) -> Vec<IpAddr> {
    let mut all: BTreeSet<IpAddr> = facts.addresses.iter().copied().collect();
    all.insert(IpAddr::V4(Ipv4Addr::LOCALHOST));
    all.insert(IpAddr::V6(Ipv6Addr::LOCALHOST));
    if let Some(Host::Address(address)) = site.map(SiteAddress::host) {
        all.insert(*address);
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests;

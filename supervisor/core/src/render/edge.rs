//! The edge's settings: which names its certificate has, where it listens, whom it stands before.

use std::net::IpAddr;

use crate::appliance::SiteAddress;
use crate::release::{Kind, Release};

pub(super) fn toml(
    site: Option<&SiteAddress>,
    names: &[String],
    addresses: &[IpAddr],
    release: &Release,
) -> String {
    let quoted = |items: Vec<String>| items.join(", ");
    let names = quoted(names.iter().map(|name| format!("\"{name}\"")).collect());
    let addresses = quoted(
        addresses
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect(),
    );
    let site = site.map_or_else(String::new, |site| format!("site_address = \"{site}\"\n"));
    let standin = release.mattermost.kind == Kind::Standin;
    format!(
        "# Rendered at boot. Changes here are lost.
{site}names = [{names}]
addresses = [{addresses}]
listen_https = \"[::]:443\"
listen_http = \"[::]:80\"
upstream = \"127.0.0.1:8065\"
state_dir = \"/var/lib/atalaya-edge\"
public_dir = \"/run/atalaya-edge\"
upstream_state = \"/run/atalaya/public/upstream.json\"
standin = {standin}
"
    )
}

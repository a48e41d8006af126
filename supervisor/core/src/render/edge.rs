//! The edge's settings: which names its certificate has and where that comes from, what browsers are told, who may come
//! in, where it listens, whom it stands before. What only the edge may know is a file of its own.

use std::fmt::Display;
use std::net::IpAddr;

use crate::appliance::edge::{Allow, Limits, Login};
use crate::appliance::key::{list, quoted};
use crate::appliance::tls::{Challenge, Dns, Secrets, Tls};
use crate::appliance::{Appliance, SiteAddress};
use crate::release::{Kind, Release};
use crate::rfc3339;

/// What a form's borders and headers add to a file.
const ENVELOPE_MIB: u64 = 1;

pub(super) fn toml(
    appliance: &Appliance,
    site: Option<&SiteAddress>,
    names: &[String],
    addresses: &[IpAddr],
    release: &Release,
) -> String {
    let names = list(names);
    let addresses = list(addresses);
    let site = site.map_or_else(String::new, |site| format!("site_address = \"{site}\"\n"));
    let standin = release.mattermost.kind == Kind::Standin;
    format!(
        "# Rendered at boot. Changes here are lost.
{site}names = {names}
addresses = {addresses}
listen_https = \"[::]:443\"
listen_http = \"[::]:80\"
upstream = \"127.0.0.1:8065\"
state_dir = \"/var/lib/atalaya-edge\"
public_dir = \"/run/atalaya-edge\"
upstream_state = \"/run/atalaya/public/upstream.json\"
probe_socket = \"/run/atalaya-edge/probe.sock\"
standin = {standin}
{}{}",
        tls(appliance, release),
        behaviour(appliance)
    )
}

/// `edge-secrets.toml`: what the edge is given as its credential.
#[must_use]
pub fn secrets(secrets: &Secrets) -> String {
    let Secrets {
        static_key,
        external_account_hmac,
        dns_key,
    } = secrets;
    let mut text = "# Rendered at boot, for the edge alone.\n".to_owned();
    for (key, secret) in [
        ("static_key", static_key),
        ("external_account_hmac", external_account_hmac),
        ("dns_key", dns_key),
    ] {
        text.push_str(&optional(
            key,
            secret.as_ref().map(|secret| secret.expose()),
        ));
    }
    text
}

fn tls(appliance: &Appliance, release: &Release) -> String {
    let Tls {
        acme, certificate, ..
    } = &appliance.tls;
    let mode = appliance.tls.mode().as_str();
    let certificate = optional("certificate", certificate.as_ref());
    let names = list(&appliance.site.names);
    let directory = quoted(&acme.directory);
    let contact = list(&acme.contact);
    let authority = optional("authority", acme.authority.as_ref());
    let challenges = list(acme.challenges().into_iter().map(Challenge::as_str));
    let profile = optional("profile", acme.profile.as_ref());
    let account = optional("external_account", acme.external_account.as_ref());
    let not_before = rfc3339::seconds(&release.built).unwrap_or(0);
    let dns = dns(&acme.dns);
    format!(
        "
[tls]
mode = \"{mode}\"
{certificate}
[tls.acme]
names = {names}
directory = {directory}
contact = {contact}
{authority}challenges = {challenges}
{profile}{account}not_before = {not_before}
{dns}"
    )
}

fn dns(dns: &Dns) -> String {
    let (Some(server), Some(key_name)) = (dns.server, &dns.key_name) else {
        return String::new();
    };
    let zone = optional("zone", dns.zone.as_ref());
    let key_name = quoted(key_name);
    let key_algorithm = dns.key_algorithm.as_str();
    format!(
        "
[tls.acme.dns]
server = \"{server}\"
{zone}key_name = {key_name}
key_algorithm = \"{key_algorithm}\"
"
    )
}

fn behaviour(appliance: &Appliance) -> String {
    let edge = &appliance.edge;
    let csp = edge.csp.as_str();
    let hsts_seconds = edge.hsts_seconds;
    let hsts_include_subdomains = edge.hsts_include_subdomains;
    let hsts_preload = edge.hsts_preload;
    let referrer_policy = quoted(edge.referrer_policy);
    let permissions_policy = optional("permissions_policy", edge.permissions_policy.as_ref());
    let Allow {
        site,
        administrators,
        console,
        metrics,
    } = &edge.allow;
    let [site, administrators, console, metrics, trusted_proxies] = [
        site,
        administrators,
        console,
        metrics,
        &edge.trusted_proxies,
    ]
    .map(list);
    let proxy_protocol = edge.proxy_protocol;
    let Login {
        failures_per_account,
        failures_per_address,
        window_seconds,
    } = &edge.login;
    let Limits {
        connections,
        connections_per_client,
        headers,
        header_bytes,
        header_seconds,
        body_idle_seconds,
        drain_seconds,
    } = &edge.limits;
    let body_bytes = (edge.upload_mib + ENVELOPE_MIB) * super::MIB;
    format!(
        "
[headers]
csp = \"{csp}\"
hsts_seconds = {hsts_seconds}
hsts_include_subdomains = {hsts_include_subdomains}
hsts_preload = {hsts_preload}
referrer_policy = {referrer_policy}
{permissions_policy}
[access]
site = {site}
administrators = {administrators}
console = {console}
metrics = {metrics}
trusted_proxies = {trusted_proxies}
proxy_protocol = {proxy_protocol}

[login]
failures_per_account = {failures_per_account}
failures_per_address = {failures_per_address}
window_seconds = {window_seconds}

[limits]
connections = {connections}
connections_per_client = {connections_per_client}
headers = {headers}
header_bytes = {header_bytes}
body_bytes = {body_bytes}
header_seconds = {header_seconds}
body_idle_seconds = {body_idle_seconds}
drain_seconds = {drain_seconds}
"
    )
}

/// A line with its end, or nothing.
fn optional(key: &str, value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| format!("{key} = {}\n", quoted(value)))
}

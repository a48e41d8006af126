//! The keys of `[edge]`, and the ranges of its numbers.

use super::super::edge::{Allow, Csp, Edge, Limits, Login};
use super::super::value::network::{NETWORKS, parse_network};
use super::super::value::web;
use super::field::{Field, Reader};

const KEYS: &str = "csp, hsts_seconds, hsts_include_subdomains, hsts_preload, referrer_policy, permissions_policy, frame_ancestors, upload_mib, trusted_proxies, proxy_protocol, [edge.allow], [edge.login], [edge.limits]";
const ALLOW_KEYS: &str = "site, administrators, console, metrics";
const LOGIN_KEYS: &str = "failures_per_account, failures_per_address, window_seconds";
const LIMITS_KEYS: &str = "connections, connections_per_client, headers, header_bytes, header_seconds, body_idle_seconds, drain_seconds";

pub(super) fn edge(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Edge) {
    for field in reader.fields(table) {
        match field.name {
            "csp" => reader.text(&field, web::CSP, Csp::parse, &mut out.csp),
            // Two years: what browsers' preload list recommends.
            "hsts_seconds" => reader.number(&field, 0..=63_072_000, &mut out.hsts_seconds),
            "hsts_include_subdomains" => reader.flag(&field, &mut out.hsts_include_subdomains),
            "hsts_preload" => reader.flag(&field, &mut out.hsts_preload),
            "referrer_policy" => reader.text(
                &field,
                web::REFERRER_POLICY,
                web::parse_referrer_policy,
                &mut out.referrer_policy,
            ),
            "permissions_policy" => {
                let parse = |text: &str| web::parse_permissions_policy(text).map(Some);
                reader.text(
                    &field,
                    web::PERMISSIONS_POLICY,
                    parse,
                    &mut out.permissions_policy,
                );
            }
            "frame_ancestors" => reader.list(
                &field,
                web::FRAME_ANCESTORS,
                web::parse_frame_ancestor,
                &mut out.frame_ancestors,
            ),
            "upload_mib" => reader.number(&field, 1..=8192, &mut out.upload_mib),
            "trusted_proxies" => {
                reader.list(&field, NETWORKS, parse_network, &mut out.trusted_proxies);
            }
            "proxy_protocol" => reader.flag(&field, &mut out.proxy_protocol),
            "allow" => allow(reader, &field, &mut out.allow),
            "login" => login(reader, &field, &mut out.login),
            "limits" => limits(reader, &field, &mut out.limits),
            _ => reader.unknown(&field, KEYS),
        }
    }
}

fn allow(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Allow) {
    for field in reader.fields(table) {
        let list = match field.name {
            "site" => &mut out.site,
            "administrators" => &mut out.administrators,
            "console" => &mut out.console,
            "metrics" => &mut out.metrics,
            _ => {
                reader.unknown(&field, ALLOW_KEYS);
                continue;
            }
        };
        reader.list(&field, NETWORKS, parse_network, list);
    }
}

fn login(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Login) {
    for field in reader.fields(table) {
        match field.name {
            // An account has two log-in ids, and Mattermost locks it after ten failures: twice five would be too many.
            "failures_per_account" => reader.number(&field, 1..=4, &mut out.failures_per_account),
            "failures_per_address" => {
                reader.number(&field, 1..=100_000, &mut out.failures_per_address);
            }
            "window_seconds" => reader.number(&field, 10..=86_400, &mut out.window_seconds),
            _ => reader.unknown(&field, LOGIN_KEYS),
        }
    }
}

fn limits(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Limits) {
    for field in reader.fields(table) {
        let (range, number) = match field.name {
            // Each may need a second descriptor towards Mattermost, and the unit has 65,536.
            "connections" => (16..=30_000, &mut out.connections),
            "connections_per_client" => (4..=30_000, &mut out.connections_per_client),
            "headers" => (32..=1000, &mut out.headers),
            // Browsers send 4 KiB of cookies as a matter of course.
            "header_bytes" => (8192..=1_048_576, &mut out.header_bytes),
            "header_seconds" => (5..=300, &mut out.header_seconds),
            "body_idle_seconds" => (5..=3600, &mut out.body_idle_seconds),
            // The unit is killed 15 s after it was told to stop.
            "drain_seconds" => (0..=12, &mut out.drain_seconds),
            _ => {
                reader.unknown(&field, LIMITS_KEYS);
                continue;
            }
        };
        reader.number(&field, range, number);
    }
}

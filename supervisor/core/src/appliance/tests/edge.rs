//! `[edge]`: ranges, networks, and what may stand together.

use proptest::prelude::*;

use super::super::edge::{Csp, Edge};
use super::super::*;
use super::{refusal, stored};

/// A seed with every key there is, none with its default.
const WHOLE: &str = include_str!("whole.toml");

#[test]
fn everything_is_read_and_kept() {
    let seed = parse_seed(WHOLE.as_bytes()).unwrap();
    let edge = &seed.appliance.edge;
    assert_eq!(edge.csp, Csp::Strict);
    assert_eq!(
        edge.frame_ancestors,
        ["https://portal.example.com", "https://*.example.org:8443"]
    );
    assert_eq!(edge.trusted_proxies[0].to_string(), "10.0.0.5/32");
    assert_eq!(edge.limits.header_bytes, 16_384);
    // No key of this text has its default, so one that the writer forgot would be missed here.
    let kept = Stored {
        appliance: seed.appliance.clone(),
        secrets: seed.secrets.clone(),
    };
    let keys = |text: &str| text.lines().filter(|line| line.contains(" = ")).count();
    assert_eq!(
        keys(&kept.to_toml()),
        keys(WHOLE) - 1,
        "all but the password"
    );
    assert_eq!(parse_stored(kept.to_toml().as_bytes()).unwrap(), kept);
    assert_eq!(stored("").edge, Edge::default());
}

#[test]
fn what_is_out_of_range_is_told_with_the_range() {
    for (text, expected) in [
        (
            "edge.upload_mib = 0\n",
            "line 1: edge.upload_mib = 0: is out of range; allowed: 1 to 8192",
        ),
        (
            "edge.upload_mib = -1\n",
            "line 1: edge.upload_mib = -1: is out of range; allowed: 1 to 8192",
        ),
        (
            "edge.upload_mib = \"100\"\n",
            "line 1: edge.upload_mib = \"100\": is not a whole number; allowed: 1 to 8192",
        ),
        (
            "edge.upload_mib = 1.5\n",
            "line 1: edge.upload_mib = 1.5: is not a whole number; allowed: 1 to 8192",
        ),
        (
            "edge.hsts_preload = 1\n",
            "line 1: edge.hsts_preload = 1: is not true or false; allowed: true or false",
        ),
        (
            "edge.csp = \"loose\"\n",
            "line 1: edge.csp = \"loose\": is not one of them; allowed: \"default\", \"strict\" or \"off\"",
        ),
        (
            // By name and by e-mail address that would be ten, and Mattermost would lock the account.
            "edge.login.failures_per_account = 5\n",
            "line 1: edge.login.failures_per_account = 5: is out of range; allowed: 1 to 4",
        ),
        (
            "edge.limits.drain_seconds = 13\n",
            "line 1: edge.limits.drain_seconds = 13: is out of range; allowed: 0 to 12",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
    assert!(
        refusal("edge.limits.conections = 1\n")
            .contains("there is no such key here; allowed: connections, ")
    );
    assert!(refusal("edge.\"limits.headers\" = 64\n").contains("there is no such key here"));
}

#[test]
fn contradictions_are_refused_at_their_line() {
    for (text, expected) in [
        (
            "edge.hsts_preload = true\n",
            "line 1: edge.hsts_preload = true: browsers' preload list does not take such a site; allowed: with edge.hsts_include_subdomains = true and edge.hsts_seconds = 31536000 or more",
        ),
        (
            "[edge]\nproxy_protocol = true\n",
            "line 2: edge.proxy_protocol = true: nobody is named who may speak it; allowed: with the load balancers' addresses in edge.trusted_proxies",
        ),
        (
            "edge.trusted_proxies = [\"::/0\"]\n",
            "line 1: edge.trusted_proxies: holds everybody: then any client could say which address it has; allowed: the load balancers' own addresses (example: [\"10.0.0.5\"])",
        ),
        (
            "edge.login.failures_per_address = 3\n",
            "line 1: edge.login.failures_per_address: one account may fail more often than an address for all of them; allowed: failures_per_address at least failures_per_account",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn networks() {
    let networks = |list: &str| parse_stored(format!("edge.allow.site = {list}\n").as_bytes());
    for good in [
        "[]",
        "[\"10.0.0.0/8\"]",
        "[\"192.0.2.1\", \"2001:db8::1\"]",
        "[\"0.0.0.0/0\", \"::/0\"]",
    ] {
        assert!(networks(good).is_ok(), "{good}");
    }
    for (bad, wrong) in [
        ("\"10.0.0.0/8\"", "is not a list"),
        ("[1]", "holds something that is not a string"),
        (
            "[\"10.0.0.1/8\"]",
            "holds a network with bits set behind its length",
        ),
        (
            "[\"10.0.0.0/33\"]",
            "holds something that is neither a network nor an address",
        ),
        (
            "[\"10.0.0\"]",
            "holds something that is neither a network nor an address",
        ),
        (
            "[\"chat.example.com\"]",
            "holds something that is neither a network nor an address",
        ),
        (
            "[\"::ffff:10.0.0.1\"]",
            "holds an IPv4 network written as IPv6",
        ),
        ("[\"10.0.0.1\", \"10.0.0.1/32\"]", "holds one entry twice"),
    ] {
        let error = networks(bad).unwrap_err().to_string();
        assert!(error.contains(wrong), "{bad}: {error}");
    }
}

#[test]
fn nothing_in_a_header_s_value_can_end_it() {
    for bad in ["", " ", "a\\nb", "ä", "camera=()\\u0000"] {
        assert!(
            refusal(&format!("edge.permissions_policy = \"{bad}\"\n"))
                .contains("permissions_policy"),
            "{bad}"
        );
    }
    for bad in [
        "'self'",
        "*",
        "https://*",
        "http://a.example",
        "https://a.example/path",
        "https://a.example; script-src *",
        "https://a b",
    ] {
        assert!(
            refusal(&format!("edge.frame_ancestors = [\"{bad}\"]\n")).contains("frame_ancestors"),
            "{bad}"
        );
    }
    assert!(refusal("edge.referrer_policy = \"unsafe-url\"\n").contains("is not one of them"));
}

proptest! {
    #[test]
    fn numbers_and_networks_survive_writing_and_reading(
        upload in 1u64..=8192,
        connections in 16u64..=30_000,
        hsts in 0u64..=63_072_000,
        v4 in any::<u32>(),
        v6 in any::<u128>(),
        short in 0u8..=128,
    ) {
        let six = ipnet::Ipv6Net::new(v6.into(), short).unwrap().trunc();
        let six = if six.addr().to_ipv4_mapped().is_some() { "::/0".to_owned() } else { six.to_string() };
        let four = std::net::Ipv4Addr::from(v4);
        let text = format!(
            "edge.upload_mib = {upload}\nedge.limits.connections = {connections}\nedge.hsts_seconds = {hsts}\n\
             edge.allow.site = [\"{four}\", \"{six}\"]\n"
        );
        let read = stored(&text);
        prop_assert_eq!(stored(&read.to_toml()), read.clone());
        prop_assert_eq!(read.edge.upload_mib, upload);
    }
}

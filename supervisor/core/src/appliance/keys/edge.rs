//! What browsers are told, who may come in, and how much of everything.

use crate::appliance::edge::{Csp, ReferrerPolicy};
use crate::appliance::key::{Flag, Form, Key, Number, maybe, place, several, text};
use crate::appliance::value::network::{NETWORKS, parse_network};
use crate::appliance::value::web;

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "edge.csp",
        &text(place!(appliance.edge.csp), Csp::parse, Form::Word(Csp::WORDS)),
        "what is added to the server's Content-Security-Policy: `object-src 'none'; base-uri 'self'`; a full list; nothing. `strict` also turns \
         Mattermost's local image proxy on",
    ),
    Key::new(
        "edge.hsts_seconds",
        // Two years: what browsers' preload list recommends.
        &Number(place!(appliance.edge.hsts_seconds), 0..=63_072_000, "s"),
        "how long browsers come by https only; 0: they are not told. Never sent with a certificate of the machine's own authority",
    ),
    Key::new("edge.hsts_include_subdomains", &Flag(place!(appliance.edge.hsts_include_subdomains)), "the names below the site's too"),
    Key::new("edge.hsts_preload", &Flag(place!(appliance.edge.hsts_preload)), "only with subdomains and a year at least"),
    Key::new(
        "edge.referrer_policy",
        &text(place!(appliance.edge.referrer_policy), ReferrerPolicy::parse, Form::Word(ReferrerPolicy::WORDS)),
        "what is told to other sites of where somebody comes from",
    ),
    Key::new(
        "edge.permissions_policy",
        &maybe(place!(appliance.edge.permissions_policy), web::parse_permissions_policy, Form::Text(web::PERMISSIONS_POLICY)),
        "replaces the whole list. `clipboard-write=()` breaks copying, `microphone=()` and `display-capture=()` break calls",
    )
    .absent("the edge's list"),
    Key::new(
        "edge.frame_ancestors",
        &several(place!(appliance.edge.frame_ancestors), web::parse_frame_ancestor, Form::List(web::FRAME_ANCESTORS)),
        "whose pages may show the site in a frame, beside its own (Mattermost's FrameAncestors)",
    ),
    Key::new(
        "edge.upload_mib",
        &Number(place!(appliance.edge.upload_mib), 1..=8192, "MiB"),
        "the largest file that may be uploaded (Mattermost's MaxFileSize, and the edge's limit with 1 MiB more for the form around it)",
    ),
    Key::new(
        "edge.trusted_proxies",
        &several(place!(appliance.edge.trusted_proxies), parse_network, Form::List(NETWORKS)),
        "load balancers: their word about the client's address is believed. A list with everybody in it is refused",
    ),
    Key::new(
        "edge.proxy_protocol",
        &Flag(place!(appliance.edge.proxy_protocol)),
        "those speak the PROXY protocol (v1 or v2) before TLS",
    ),
    Key::new(
        "edge.allow.site",
        &several(place!(appliance.edge.allow.site), parse_network, Form::List(NETWORKS)),
        "may use the site at all",
    )
    .absent("everybody"),
    Key::new(
        "edge.allow.administrators",
        &several(place!(appliance.edge.allow.administrators), parse_network, Form::List(NETWORKS)),
        "may make administrators' calls",
    )
    .absent("everybody"),
    Key::new(
        "edge.allow.console",
        &several(place!(appliance.edge.allow.console), parse_network, Form::List(NETWORKS)),
        "may use the appliance's own console over the network (there is none yet: the key is kept for it)",
    )
    .absent("everybody"),
    Key::new(
        "edge.allow.metrics",
        &several(place!(appliance.edge.allow.metrics), parse_network, Form::List(NETWORKS)),
        "may read the metrics",
    )
    .absent("nobody"),
    Key::new(
        "edge.login.failures_per_account",
        // An account has two log-in ids, and Mattermost locks it after ten failures: twice five would be too many.
        &Number(place!(appliance.edge.login.failures_per_account), 1..=4, ""),
        "of one address for one log-in id; an account has two, its name and its e-mail address",
    ),
    Key::new(
        "edge.login.failures_per_address",
        &Number(place!(appliance.edge.login.failures_per_address), 1..=100_000, ""),
        "of one address for all: many people may sit behind it",
    ),
    Key::new("edge.login.window_seconds", &Number(place!(appliance.edge.login.window_seconds), 10..=86_400, "s"), "within so long"),
    Key::new(
        "edge.limits.connections",
        // Each may need a second descriptor towards Mattermost, and the unit has 65,536.
        &Number(place!(appliance.edge.limits.connections), 16..=30_000, ""),
        "held at once",
    ),
    Key::new(
        "edge.limits.connections_per_client",
        &Number(place!(appliance.edge.limits.connections_per_client), 4..=30_000, ""),
        "of one address (one /64 for IPv6)",
    ),
    Key::new("edge.limits.headers", &Number(place!(appliance.edge.limits.headers), 32..=1000, ""), "of one request"),
    Key::new(
        "edge.limits.header_bytes",
        // Browsers send 4 KiB of cookies as a matter of course.
        &Number(place!(appliance.edge.limits.header_bytes), 8192..=1_048_576, "bytes"),
        "all of them together",
    ),
    Key::new(
        "edge.limits.header_seconds",
        &Number(place!(appliance.edge.limits.header_seconds), 5..=300, "s"),
        "for a TLS handshake, for a request's headers, and for an idle HTTP/1.1 connection",
    ),
    Key::new(
        "edge.limits.body_idle_seconds",
        &Number(place!(appliance.edge.limits.body_idle_seconds), 5..=3600, "s"),
        "without a byte, then a body is given up; however slow, one that goes on is not",
    ),
    Key::new(
        "edge.limits.drain_seconds",
        // The unit is killed 15 s after it was told to stop.
        &Number(place!(appliance.edge.limits.drain_seconds), 0..=12, "s"),
        "for open requests when the edge is stopped",
    ),
];

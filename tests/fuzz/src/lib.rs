//! What must hold for any bytes, for each parser of something that comes from outside: a function per parser, which
//! panics when it does not. libFuzzer calls them through `targets/`, and `cargo test` with every file of the corpus.
//!
//! They call the product's own entry points and decide nothing about it.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a panic is how a finding is reported"
)]

use atalaya_core::appliance::{MAX_BYTES, Seed, Stored, parse_public, parse_seed, parse_stored};
use atalaya_core::link::{self, FromInit, ToInit};
use atalaya_core::release::{Kind, MattermostRelease, Release};
use atalaya_core::render::{Facts, render};
use atalaya_core::unit::parse_unit;
use atalayad::api::{Call, parse_request};
use atalayad::logs::segment::{VERSION, scan};
use atalayad::notify::{self, Word};
use atalayad::supervisor::Request;

pub mod bundle;
pub mod secure_boot;

// The edge's parsers without the edge: its TLS and ACME, compiled for libFuzzer, would take longer than all targets run.
#[path = "../../../supervisor/edge/src/guard/proxy_protocol.rs"]
pub mod proxy_protocol;
#[path = "../../../supervisor/edge/src/settings/mod.rs"]
pub mod settings;

use proxy_protocol::Step;

/// A parser under test: its name, which is also that of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 10] = [
    ("appliance_file", appliance_file),
    ("bundle", bundle::bundle),
    ("edge_settings", edge_settings),
    ("proxy_header", proxy_header),
    ("unit_file", unit_file),
    ("link_message", link_message),
    ("notify_datagram", notify_datagram),
    ("control_request", control_request),
    ("log_segment", log_segment),
    ("secure_boot", secure_boot::secure_boot),
];

/// A seed: what is kept of it and what everybody may read is understood again, and the same, and the edge understands what
/// is made from it; or mistakes, each on a line of this file.
pub fn appliance_file(bytes: &[u8]) {
    match parse_seed(bytes) {
        Ok(Seed {
            appliance, secrets, ..
        }) => {
            let rendered = render(&appliance, &facts());
            settings::parse(&rendered.edge_toml).expect("the edge understands its settings");
            let public = parse_public(appliance.to_toml().as_bytes());
            assert_eq!(public.expect("what we write is understood"), appliance);
            let kept = Stored { appliance, secrets };
            let text = kept.to_toml();
            // What stands between PEM blocks is left out, and headings are put in: it may be longer, but never by much.
            assert!(text.len() <= 2 * MAX_BYTES);
            assert_eq!(
                parse_stored(text.as_bytes()).expect("what we write is understood"),
                kept
            );
        }
        Err(invalid) => {
            let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
            assert!(!invalid.0.is_empty(), "refused without a reason");
            for problem in &invalid.0 {
                assert!(problem.line <= lines, "{problem}");
                assert!(!problem.to_string().contains(char::is_control), "{problem}");
            }
        }
    }
}

fn facts() -> Facts {
    Facts {
        memory_bytes: 1 << 32,
        cpus: 2,
        addresses: Vec::new(),
        found_site: None,
        release: Release {
            product: String::new(),
            version: String::new(),
            build: String::new(),
            built: String::new(),
            mattermost: MattermostRelease {
                version: String::new(),
                kind: Kind::Standin,
                source: String::new(),
                sha256: String::new(),
            },
            postgresql: String::new(),
            epoch: 0,
        },
    }
}

/// The edge's settings: whatever is taken for a site is one origin, and where a request is sent on to stays there.
pub fn edge_settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(settings) = settings::parse(text) else {
        return;
    };
    if let Some(site) = &settings.site {
        let again = settings::Site::parse(site.origin()).expect("an origin is an address");
        assert_eq!(&again, site);
        let host = site.host().trim_matches(['[', ']']);
        let covered = match site.address() {
            Some(address) => settings.addresses.contains(&address),
            None => settings.names.iter().any(|name| name == host),
        };
        assert!(covered, "no certificate would cover {}", site.origin());
        for path in ["/a?b", "//evil.example/", "@evil.example/", ".evil.example"] {
            let location = site.location(path);
            let rest = location.strip_prefix(site.origin());
            assert!(rest.is_some_and(|rest| rest.starts_with('/')), "{location}");
        }
    }
    let sorted = |names: &[String]| names.windows(2).all(|two| two[0] < two[1]);
    assert!(sorted(&settings.names), "{:?}", settings.names);
}

/// A PROXY protocol header as it comes off a connection: never more is read than it is long, and whatever stands behind it
/// changes nothing.
pub fn proxy_header(bytes: &[u8]) {
    let mut read = 0;
    loop {
        let rest = &bytes[read..];
        let more = match proxy_protocol::assess(&bytes[..read]) {
            Step::Done(client) => {
                assert!(read >= 15, "a header of {read} bytes");
                if let Some(client) = client {
                    assert_eq!(client, client.to_canonical(), "two names for one client");
                }
                return;
            }
            Step::Malformed => return,
            Step::Exactly(more) => more,
            Step::Line(most) => match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) if end < most => end + 1,
                _ => most.min(rest.len().max(1)),
            },
        };
        assert!(more > 0, "waits for nothing after {read} bytes");
        assert!(read + more <= 4096, "wants {more} more after {read}");
        if more > rest.len() {
            return;
        }
        read += more;
    }
}

/// A unit file: a unit, or one line that names a line of this file.
pub fn unit_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Err(error) = parse_unit("fuzzed", "fuzzed.toml", text) {
        let lines = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
        assert!((1..=lines).contains(&error.line), "{error}");
        assert!(!error.message.is_empty(), "refused without a reason");
    }
}

/// A datagram between init and atalayad, either way: what is understood can be said again and is understood the same.
pub fn link_message(bytes: &[u8]) {
    fn check<M>(bytes: &[u8])
    where
        M: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
    {
        let Ok(message) = link::decode::<M>(bytes) else {
            return;
        };
        // It may have become longer than a datagram: JSON can say one thing in several lengths.
        if let Ok(again) = link::encode(&message) {
            let heard = link::decode::<M>(&again).expect("what we say is understood");
            assert_eq!(message, heard);
        }
    }
    check::<ToInit>(bytes);
    check::<FromInit>(bytes);
}

/// What a unit says of itself: nothing that a terminal would obey gets on, and no process is named that cannot be one.
pub fn notify_datagram(bytes: &[u8]) {
    let Ok(words) = notify::parse(bytes) else {
        return;
    };
    for word in &words {
        match word {
            Word::Status(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
            Word::MainPid(pid) => assert!(*pid > 1, "{pid}"),
            Word::FdName(name) => assert!(!name.is_empty() && name.is_ascii(), "{name:?}"),
            _ => {}
        }
    }
    assert!(
        words.len() == 1 || !words.contains(&Word::Barrier),
        "{words:?}"
    );
}

/// A request as its first line, `METHOD PATH`, and its body: what is asked with GET changes nothing, and what is refused
/// is refused in three sentences.
pub fn control_request(bytes: &[u8]) {
    let (line, body) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    let Ok((method, path)) =
        std::str::from_utf8(line).map(|line| line.split_once(' ').unwrap_or((line, "")))
    else {
        return;
    };
    match parse_request(method, path, body) {
        Ok(Call::Owner(request)) => {
            let acts = matches!(
                request,
                Request::Start(_)
                    | Request::Stop(_)
                    | Request::Restart(_)
                    | Request::Reload(_)
                    | Request::Reset(_)
                    | Request::End(_)
            );
            assert_eq!(method, if acts { "POST" } else { "GET" }, "{request:?}");
        }
        Ok(Call::Logs(_)) => assert_eq!(method, "GET"),
        Ok(Call::Maintenance(_)) => assert_eq!(method, "POST"),
        Err(answer) => {
            assert!((400..500).contains(&answer.status), "{}", answer.status);
            for sentence in ["error", "data", "next"] {
                let said = answer.body[sentence].as_str();
                assert!(said.is_some_and(|said| !said.is_empty()), "{}", answer.body);
            }
        }
    }
}

/// A segment that a power cut, a full disk or a stranger left: what is whole is kept, what is torn is behind it, and after
/// the cut the next line is read.
pub fn log_segment(bytes: &[u8]) {
    const NEXT: &str =
        "{\"t\":\"2026-01-01T00:00:00.000Z\",\"unit\":\"fuzzed\",\"line\":\"next\"}\n";
    let found = scan(bytes);
    if found.version > VERSION {
        assert_eq!(found.good, bytes.len(), "a newer segment was to be cut");
        assert!(found.lines.is_empty(), "a newer segment was read");
        return;
    }
    let whole = &bytes[..found.good];
    assert!(
        whole.is_empty() || whole.ends_with(b"\n"),
        "cut inside a line"
    );
    let again = scan(whole);
    assert_eq!(again.lines, found.lines, "the cut lost a line");
    assert_eq!(again.good, whole.len(), "the cut left a torn tail");
    let longer = [whole, NEXT.as_bytes()].concat();
    let longer = scan(&longer);
    assert_eq!(longer.lines.len(), found.lines.len() + 1);
    assert!(longer.lines.starts_with(&found.lines));
}

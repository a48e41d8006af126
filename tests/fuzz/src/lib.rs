//! What must hold for any bytes, for each parser of something that comes from outside: a function per parser, which
//! panics when it does not. libFuzzer calls them through `targets/`, and `cargo test` with every file of the corpus.
//!
//! They call the product's own entry points and decide nothing about it.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a panic is how a finding is reported"
)]

use atalaya_core::link::{self, FromInit, ToInit};
use atalaya_core::unit::parse_unit;
use atalayad::api::{Call, parse_request};
use atalayad::logs::segment::{VERSION, scan};
use atalayad::notify::{self, Word};
use atalayad::supervisor::Request;

/// A parser under test: its name, which is also that of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 5] = [
    ("unit_file", unit_file),
    ("link_message", link_message),
    ("notify_datagram", notify_datagram),
    ("control_request", control_request),
    ("log_segment", log_segment),
];

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

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

/// A parser under test: its name, which is also that of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 2] = [("unit_file", unit_file), ("link_message", link_message)];

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

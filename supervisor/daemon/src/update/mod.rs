//! Updates, as far as they touch files: the record on /data, what units are asked and answer, what a boot is told by its firmware, what the
//! probe's report means. What follows from what is decided in `atalaya_core::update`; the owner of state carries it out
//! (`crate::supervisor`).

pub mod boot;
pub mod exchange;
pub mod network;
pub mod probe;
pub mod progress;
pub mod store;

use atalaya_core::update::task::{Asked, Source};

/// An update as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub source: Source,
    /// For people.
    pub shown: String,
    pub asked: Asked,
}

/// An address without what may be secret in it: neither user and password nor query.
pub fn shown_address(address: &str) -> String {
    let without_query = address.split(['?', '#']).next().unwrap_or_default();
    let shown = match without_query.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => without_query.to_owned(),
    };
    crate::console::harmless(&shown).chars().take(500).collect()
}

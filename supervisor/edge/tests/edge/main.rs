//! The edge as a process between a real TLS client and an upstream of the test's own, on loopback. What Mattermost answers is set by each
//! test; the contract suite covers the real answers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at its first surprise"
)]

mod abuse;
#[path = "../anything.rs"]
mod anything;
mod certificates;
mod changes;
mod client;
mod closed;
mod edge;
mod figures;
mod guard;
mod handing_over;
mod login;
mod probe;
mod sockets;
mod stopping;
mod strict;
mod supervised;
mod through;
mod upstream;

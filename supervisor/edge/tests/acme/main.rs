//! Orders at a real ACME server (Pebble) and proofs in a real DNS server (Knot), both from the tools tree, with the faults that
//! authorities, networks and disks have. Time is passed in, so that days take no longer than their requests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends at its first surprise"
)]

mod accounts;
#[path = "../anything.rs"]
mod anything;
mod dns;
mod faults;
mod front;
mod issue;
mod machine;
mod place;
mod process;
mod storage;

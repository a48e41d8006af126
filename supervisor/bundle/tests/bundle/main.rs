//! Bundles from the outside: written, read as an installation reads them, and refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod bad;
mod good;
mod keys;
mod policy;
mod signatures;
mod workshop;

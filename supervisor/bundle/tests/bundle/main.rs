//! Bundles from the outside: written, read as an installation reads them, and refused.

mod bad;
mod good;
mod keys;
mod policy;
mod workshop;

//! Everything about certificates: which one a connection gets, where they come from, when they are made anew.

pub mod challenges;
pub mod internal;
pub mod report;
pub mod serving;
pub mod store;

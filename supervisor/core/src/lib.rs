//! Decisions without effects. Nothing here opens a file or a socket, reads a clock or starts anything: values and
//! `now` come in, a new state and a list of effects go out.

pub mod appliance;
pub mod authority;
pub mod boot;
pub mod graph;
pub mod last_boot;
pub mod link;
pub mod machine;
pub mod release;
pub mod render;
pub mod renewal;
pub mod restart;
pub mod rfc3339;
pub mod system;
pub mod unit;
pub mod update;
pub mod why;
pub mod words;

//! The stand-in's programs on a real PostgreSQL: each test has a cluster, a release and files of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

mod address;
mod commands;
mod contract;
mod database;
mod faults;
mod life;
mod machine;
mod postgres;

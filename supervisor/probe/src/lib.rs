//! A small blocking client of Mattermost's API v4, and the probe made of it: what a user does, done once through the TLS edge. Decides
//! whether a server works for users; must not know how it is run, and reads no configuration.

mod client;
mod connection;
mod error;
mod local;
mod model;
mod probe;
mod socket;

pub use client::Client;
pub use connection::Target;
pub use error::ClientError;
pub use model::{Channel, FileInfo, Post, Team, User};
pub use probe::{Credentials, ProbeReport, StepReport, run_probe};
pub use socket::Socket;

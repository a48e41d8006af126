//! Who a client is and what it may do: its address behind load balancers, the networks that may come in, administrators' calls, failed
//! log-ins, connections at once. Decides; answers and sockets are made elsewhere.

pub mod address;
pub mod administrators;
pub mod allow;
pub mod login;
pub mod per_client;
pub mod proxy_protocol;

/// What is remembered of clients. Settings are passed in at each use, so that a reload forgets nothing.
#[derive(Debug, Default)]
pub struct Guard {
    pub logins: login::Logins,
    pub clients: per_client::PerClient,
}

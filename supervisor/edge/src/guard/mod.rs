//! Who a client is and what it may do: its address behind load balancers, the networks that may come in, administrators' calls, failed
//! log-ins, connections at once. The modules decide; `identify` is the one that reads from a connection. What is remembered of clients is
//! apart from the settings, so that a reload forgets nothing.

pub mod address;
pub mod administrators;
pub mod allow;
pub mod login;
pub mod per_client;
pub mod proxy_protocol;
pub mod refusal;

use std::net::IpAddr;

use serde_json::json;
use tokio::net::TcpStream;

use crate::log::Log;
use crate::settings::Settings;
use per_client::{PerClient, Place};
use proxy_protocol::HeaderError;

/// From whom a new connection is, and its place among that client's; None: it is to be closed. A load balancer's own connections are not
/// counted: everybody may be behind it.
pub async fn identify(
    stream: &mut TcpStream,
    peer: IpAddr,
    settings: &Settings,
    clients: &PerClient,
    log: &Log,
) -> Option<(IpAddr, Option<Place>)> {
    let access = &settings.access;
    let mut client = peer;
    if access.proxy_protocol && address::is_in(&access.trusted_proxies, peer) {
        let header = tokio::time::timeout(settings.limits.header(), proxy_protocol::read(stream));
        let why = match header.await {
            Ok(Ok(said)) => {
                client = said.unwrap_or(peer);
                None
            }
            // A health check that only looks whether the port is open.
            Ok(Err(HeaderError::Nothing)) => return None,
            Ok(Err(error)) => Some(crate::proxy::chain(&error)),
            Err(_) => Some("its PROXY protocol header did not come in time".to_owned()),
        };
        if let Some(why) = why {
            let details = json!({ "balancer": peer, "error": why });
            log.event("warn", "a load balancer's connection was closed", details);
            return None;
        }
    }
    if address::is_in(&access.trusted_proxies, client) {
        return Some((client, None));
    }
    let limit = settings.limits.connections_per_client;
    match clients.enter(client, limit) {
        Ok(place) => Some((client, Some(place))),
        Err(per_client::TooMany { first }) => {
            if first {
                let details = json!({ "client": client, "limit": limit });
                let message = "a client's connections are refused: it has as many open as one may";
                log.event("warn", message, details);
            }
            None
        }
    }
}

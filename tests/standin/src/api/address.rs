//! A client's address as the server takes it: from the first of the headers in TrustedProxyIPHeader that is there, of which the first
//! entry counts, else the connection's own.

use super::App;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

/// The other end of a connection over TCP; put into each request on it.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

pub struct ClientAddress(pub String);

impl FromRequestParts<Arc<App>> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        let config = app.config();
        let named = config.effective()["ServiceSettings"]["TrustedProxyIPHeader"].as_array();
        let said = named
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str())
            .find_map(|name| first_entry(&parts.headers, name));
        let peer = parts.extensions.get::<Peer>();
        Ok(Self(
            said.or(peer.map(|peer| peer.0.to_string()))
                .unwrap_or_default(),
        ))
    }
}

fn first_entry(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    let first = value.split_whitespace().next()?.trim_end_matches(',');
    (!first.is_empty()).then(|| first.to_owned())
}

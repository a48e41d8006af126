//! What the probe logs in with: kept on the disk, and given to the probe's unit at each boot together with the address that
//! the site has now.
//!
//! Both are 0400 for the user that makes the accounts; the probe, another user, gets a copy of its own by atalayad.

use std::io;

use atalaya_sys::durable;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{AdministratorError, Result};
use crate::places::Places;

/// The kept file. Written once before the user is made (with the password alone) and once when all is there.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Credentials {
    pub username: String,
    pub password: String,
    pub bot_token: String,
    pub team: String,
    pub channel: String,
}

pub(super) fn read(places: &Places) -> Credentials {
    // Damaged is as good as absent: everything in it can be made again.
    std::fs::read(places.probe_json())
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

pub(super) fn keep(places: &Places, credentials: &Credentials) -> Result<()> {
    // Strings: it cannot fail.
    let text = serde_json::to_vec(credentials).unwrap_or_default();
    Ok(durable::write(&places.probe_json(), &text, 0o400, None)?)
}

/// Writes what atalayad gives to `atalaya-probe --credentials`. It goes to this machine's own edge by the
/// door that is the probe's alone, open while users are kept out.
pub(super) fn publish(places: &Places) -> Result<()> {
    let Credentials {
        username,
        password,
        bot_token,
        team,
        channel,
    } = read(places);
    let given = json!({
        "username": username,
        "password": password,
        "bot_token": bot_token,
        "team": team,
        "channel": channel,
        "site": site(places)?,
        "connect": places.probe_socket(),
        "ca": places.edge_ca(),
    });
    // Strings: it cannot fail.
    let text = serde_json::to_vec(&given).unwrap_or_default();
    Ok(durable::write(
        &places.probe_credentials(),
        &text,
        0o400,
        None,
    )?)
}

/// The address that the edge was told.
fn site(places: &Places) -> Result<String> {
    #[derive(Deserialize)]
    struct Edge {
        site_address: String,
    }
    let path = places.rendered().join("edge.toml");
    let read = |source| AdministratorError::File {
        operation: "read",
        path: path.clone(),
        source,
    };
    let text = std::fs::read_to_string(&path).map_err(read)?;
    let edge: Edge = toml::from_str(&text).map_err(|error| read(io::Error::other(error)))?;
    Ok(edge.site_address)
}

//! Reads edge.toml and turns it into checked values. Decides which settings are valid; opens no socket and writes nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod site;
mod tables;

pub use site::Site;
pub use tables::{Access, Acme, Challenge, Csp, Dns, Headers, Limits, Login, Mode, Secrets, Tls};

/// Everything the edge is told; one value per process, read once at start.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// None until the machine knows its address: then a throw-away certificate serves, and nothing but pages of the edge's own.
    pub site: Option<Site>,
    /// DNS names of the certificate, the site's own among them.
    pub names: Vec<String>,
    /// IP addresses of the certificate, the site's own among them where it is one.
    pub addresses: Vec<IpAddr>,
    pub listen_https: SocketAddr,
    pub listen_http: SocketAddr,
    pub upstream: SocketAddr,
    pub state_dir: PathBuf,
    pub public_dir: PathBuf,
    pub upstream_state: PathBuf,
    /// The image holds the Mattermost stand-in: pages of the edge must say so.
    pub standin: bool,
    /// Where the appliance's own probe comes in while the edge is closed; None: nowhere.
    pub probe_socket: Option<PathBuf>,
    pub tls: Tls,
    pub headers: Headers,
    pub access: Access,
    pub login: Login,
    pub limits: Limits,
}

/// edge.toml as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site_address: Option<String>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    listen_https: SocketAddr,
    listen_http: SocketAddr,
    upstream: SocketAddr,
    state_dir: PathBuf,
    public_dir: PathBuf,
    upstream_state: PathBuf,
    #[serde(default)]
    standin: bool,
    probe_socket: Option<PathBuf>,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    access: Access,
    #[serde(default)]
    login: Login,
    #[serde(default)]
    limits: Limits,
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("failed to read edge settings {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("edge settings are not valid")]
    Parse { source: Box<toml::de::Error> },
    #[error("{path} is not valid")]
    Secrets { path: PathBuf },
    #[error("site address {address:?} is not valid: {why}")]
    Site { address: String, why: &'static str },
}

/// Reads and checks the file; unknown keys are an error.
pub fn load(path: &Path) -> Result<Settings, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text)
}

/// `edge-secrets.toml` in the unit's credentials; absent: there are none. What is wrong in it is told without its text.
pub fn load_secrets(path: &Path) -> Result<Secrets, SettingsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|_| SettingsError::Secrets {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Secrets::default()),
        Err(source) => Err(SettingsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

pub fn parse(text: &str) -> Result<Settings, SettingsError> {
    let written: Written = toml::from_str(text).map_err(|source| SettingsError::Parse {
        source: Box::new(source),
    })?;
    let site = written
        .site_address
        .as_deref()
        .map(Site::parse)
        .transpose()?;
    let mut names: Vec<String> = written
        .names
        .iter()
        .map(|name| name.to_ascii_lowercase())
        .collect();
    let mut addresses = written.addresses;
    match site.as_ref().map(|site| (site.address(), site.host())) {
        Some((Some(address), _)) => addresses.push(address),
        Some((None, host)) => names.push(host.to_owned()),
        None => {}
    }
    names.sort();
    names.dedup();
    addresses.sort();
    addresses.dedup();
    Ok(Settings {
        site,
        names,
        addresses,
        listen_https: written.listen_https,
        listen_http: written.listen_http,
        upstream: written.upstream,
        state_dir: written.state_dir,
        public_dir: written.public_dir,
        upstream_state: written.upstream_state,
        standin: written.standin,
        probe_socket: written.probe_socket,
        tls: written.tls,
        headers: written.headers,
        access: written.access,
        login: written.login,
        limits: written.limits,
    })
}

#[cfg(test)]
mod tests;

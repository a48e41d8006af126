//! The tables of edge.toml and of the secrets, each with its defaults. Values only.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

/// `[tls]`: where the certificate comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub mode: Mode,
    pub acme: Acme,
    /// PEM, the server's certificate first, of mode `static`. Its key is in the secrets.
    pub certificate: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Internal,
    Acme,
    Static,
}

/// `[tls.acme]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acme {
    /// Names beside the site's own that the certificate is asked for. Those of [`Settings::names`] that only this machine's network knows
    /// are not among them: no public authority signs `localhost`.
    pub names: Vec<String>,
    pub directory: String,
    /// E-mail addresses.
    pub contact: Vec<String>,
    /// PEM: whom to trust for the directory's own TLS, instead of the public authorities.
    pub authority: Option<String>,
    /// The ways to prove the name, in the order in which they are tried.
    pub challenges: Vec<Challenge>,
    pub profile: Option<String>,
    /// The key identifier of an External Account Binding; its HMAC key is in the secrets.
    pub external_account: Option<String>,
    pub dns: Option<Dns>,
    /// Seconds since 1970 before which no clock is believed: the image's build.
    pub not_before: u64,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            contact: Vec::new(),
            authority: None,
            challenges: vec![Challenge::TlsAlpn, Challenge::Http],
            profile: None,
            external_account: None,
            dns: None,
            not_before: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Challenge {
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
    #[serde(rename = "http-01")]
    Http,
    #[serde(rename = "dns-01")]
    Dns,
}

/// `[tls.acme.dns]`: RFC 2136 updates signed with TSIG (RFC 8945); the key itself is in the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    pub server: SocketAddr,
    /// The zone to update; None: asked of the server (SOA). With `_acme-challenge` delegated by CNAME the target's zone.
    pub zone: Option<String>,
    pub key_name: String,
    /// `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    pub key_algorithm: String,
}

/// `[headers]`: what browsers are told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Headers {
    pub csp: Csp,
    /// Seconds; 0: none. Never sent under the internal authority.
    pub hsts_seconds: u64,
    pub hsts_include_subdomains: bool,
    pub hsts_preload: bool,
    pub referrer_policy: String,
    /// Replaces the built-in list.
    pub permissions_policy: Option<String>,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            csp: Csp::Default,
            hsts_seconds: 86_400,
            hsts_include_subdomains: false,
            hsts_preload: false,
            referrer_policy: "no-referrer".to_owned(),
            permissions_policy: None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Csp {
    #[default]
    Default,
    Strict,
    Off,
}

/// `[access]`: who may come in. An empty list lets everyone in, but `metrics`, which then lets nobody in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    pub site: Vec<IpNet>,
    pub administrators: Vec<IpNet>,
    pub console: Vec<IpNet>,
    pub metrics: Vec<IpNet>,
    /// Load balancers whose word about the client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Those speak the PROXY protocol (v1 or v2) before TLS.
    pub proxy_protocol: bool,
}

/// `[login]`: failed log-ins, counted to trip before Mattermost locks an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Login {
    /// Failures of one address for one log-in id. An account has two, a name and an e-mail address, and Mattermost locks it after ten.
    pub failures_per_account: u32,
    /// Failures of one address for all: 300 people may sit behind it.
    pub failures_per_address: u32,
    pub window_seconds: u64,
}

impl Default for Login {
    fn default() -> Self {
        Self {
            failures_per_account: 4,
            failures_per_address: 100,
            window_seconds: 600,
        }
    }
}

/// What no other unit may read: `edge-secrets.toml` in the unit's credentials.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Secrets {
    /// PEM, of mode `static`.
    pub static_key: Option<String>,
    /// base64url, as authorities hand it out.
    pub external_account_hmac: Option<String>,
    /// base64.
    pub dns_key: Option<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// `[limits]`: figures that protect the edge from its clients. Defaults hold where edge.toml says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections held at once, both ports together.
    pub connections: usize,
    /// Connections of one client address (one /64 for IPv6). Many people may sit behind one.
    pub connections_per_client: usize,
    /// Headers of one request, and their bytes.
    pub headers: usize,
    pub header_bytes: usize,
    /// Bytes of a request's body; Mattermost's MaxFileSize is the same figure.
    pub body_bytes: u64,
    /// Seconds for a TLS handshake, for a request's headers, and for an idle HTTP/1.1 connection.
    pub header_seconds: u64,
    /// Seconds without a byte after which a request's or an answer's body is given up.
    pub body_idle_seconds: u64,
    /// Seconds that Mattermost may take to begin an answer, counted from the last byte of the request.
    pub answer_seconds: u64,
    /// Seconds that open requests get after SIGTERM.
    pub drain_seconds: u64,
    /// Seconds that they get while a successor serves already: a slow upload takes long and holds nobody up.
    pub handover_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_client: 2048,
            headers: 100,
            header_bytes: 32 * 1024,
            body_bytes: 100 * 1024 * 1024,
            header_seconds: 20,
            body_idle_seconds: 120,
            // As Mattermost's own documentation sets for proxies.
            answer_seconds: 600,
            drain_seconds: 10,
            handover_seconds: 900,
        }
    }
}
impl Limits {
    pub fn header(&self) -> Duration {
        Duration::from_secs(self.header_seconds)
    }

    pub fn body_idle(&self) -> Duration {
        Duration::from_secs(self.body_idle_seconds)
    }

    pub fn answer(&self) -> Duration {
        Duration::from_secs(self.answer_seconds)
    }

    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    pub fn handover(&self) -> Duration {
        Duration::from_secs(self.handover_seconds)
    }
}

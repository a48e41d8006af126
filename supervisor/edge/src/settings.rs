//! Reads edge.toml and turns it into checked values. Decides which settings are valid; opens no socket and writes nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use ipnet::IpNet;
use serde::Deserialize;

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

/// The address that users type: `https://host[:port]`, never with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    origin: String,
    host: String,
}

impl Site {
    pub fn parse(address: &str) -> Result<Self, SettingsError> {
        let invalid = |why| SettingsError::Site {
            address: address.to_owned(),
            why,
        };
        let uri: Uri = address.parse().map_err(|_| invalid("it is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(invalid("it does not begin with https://"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it contains a user name"));
        }
        // `https://host/` and `https://host` mean the same; anything longer is a path.
        if address.to_ascii_lowercase().trim_end_matches('/')
            != format!("https://{}", authority.as_str().to_ascii_lowercase())
        {
            return Err(invalid("it has a path"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        let port = match authority.port_u16() {
            None if authority.as_str().len() != authority.host().len() => {
                return Err(invalid("its port is not a number from 1 to 65535"));
            }
            None | Some(443) => String::new(),
            Some(port) => format!(":{port}"),
        };
        Ok(Self {
            origin: format!("https://{host}{port}"),
            host,
        })
    }

    /// `https://host[:port]`, without a slash at the end; the default port is left out.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// `host[:port]`, as a request names it.
    pub fn authority(&self) -> &str {
        self.origin.trim_start_matches("https://")
    }

    pub fn has_default_port(&self) -> bool {
        self.authority().len() == self.host.len()
    }

    /// Where a plain-text request for `path_and_query` is sent on to.
    pub fn location(&self, path_and_query: &str) -> String {
        if path_and_query.starts_with('/') {
            format!("{}{path_and_query}", self.origin)
        } else {
            format!("{}/", self.origin)
        }
    }

    /// The host as it stands in the address; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host, where it is an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
    }
}

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
    match site.as_ref().map(|site| (site.address(), &site.host)) {
        Some((Some(address), _)) => addresses.push(address),
        Some((None, host)) => names.push(host.clone()),
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
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
site_address = "https://localhost:8443"
names = ["localhost", "Atalaya"]
addresses = ["10.0.2.15", "127.0.0.1"]
listen_https = "[::]:443"
listen_http = "[::]:80"
upstream = "127.0.0.1:8065"
state_dir = "/var/lib/atalaya-edge"
public_dir = "/run/atalaya-edge"
upstream_state = "/run/atalaya/public/upstream.json"
standin = false
"#;

    #[test]
    fn the_rendered_file_is_understood() {
        let settings = parse(EXAMPLE).unwrap();
        assert_eq!(settings.site.unwrap().origin(), "https://localhost:8443");
        assert_eq!(settings.names, ["atalaya", "localhost"]);
        assert_eq!(settings.addresses.len(), 2);
        assert_eq!(settings.limits, Limits::default());
        assert_eq!(settings.tls, Tls::default());
    }

    /// What the appliance renders with every key set, and with none.
    #[test]
    fn the_appliance_s_own_files_are_understood() {
        let plain = parse(include_str!("../../core/src/render/golden/edge.toml")).unwrap();
        assert_eq!(plain.tls.mode, Mode::Internal);
        assert_eq!(plain.headers, Headers::default());
        assert_eq!(plain.access, Access::default());
        assert_eq!(plain.login, Login::default());
        let whole = parse(include_str!("../../core/src/render/golden/whole-edge.toml")).unwrap();
        assert_eq!(whole.tls.mode, Mode::Acme);
        assert_eq!(whole.tls.acme.challenges, [Challenge::Dns]);
        assert_eq!(whole.tls.acme.external_account.as_deref(), Some("kid-1"));
        assert!(whole.tls.acme.authority.is_some() && whole.tls.acme.dns.is_some());
        assert_eq!(whole.headers.csp, Csp::Strict);
        assert!(whole.access.proxy_protocol);
        assert_eq!(whole.access.trusted_proxies.len(), 2);
        assert_eq!(whole.limits.body_bytes, 251 * 1024 * 1024);
        let secrets: Secrets = toml::from_str(include_str!(
            "../../core/src/render/golden/whole-edge-secrets.toml"
        ))
        .unwrap();
        assert!(
            secrets
                .static_key
                .is_some_and(|key| key.starts_with("-----BEGIN PRIVATE KEY"))
        );
        assert!(secrets.external_account_hmac.is_some() && secrets.dns_key.is_some());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = parse(&format!("{EXAMPLE}colour = \"blue\"\n")).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("colour"), "{cause}");
        let error = parse(&format!("{EXAMPLE}[limits]\nconections = 5\n")).unwrap_err();
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .to_string()
                .contains("conections")
        );
    }

    #[test]
    fn a_site_address_is_https_host_and_port_only() {
        assert_eq!(
            Site::parse("https://Chat.Example.org/").unwrap().origin(),
            "https://chat.example.org"
        );
        assert_eq!(
            Site::parse("https://chat.example.org:443")
                .unwrap()
                .origin(),
            "https://chat.example.org"
        );
        assert_eq!(
            Site::parse("https://[fd00::1]:8443").unwrap().origin(),
            "https://[fd00::1]:8443"
        );
        for bad in [
            "http://chat.example.org",
            "https://chat.example.org/chat",
            "https://a@b.example",
            "https://",
            "chat",
            "https://host?x=1",
            "https://host:",
            "https://host:70000",
        ] {
            assert!(Site::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_certificate_always_covers_the_site() {
        let named = parse(&EXAMPLE.replace("localhost:8443", "chat.example.org")).unwrap();
        assert!(named.names.contains(&"chat.example.org".to_owned()));
        let numbered = parse(&EXAMPLE.replace("localhost:8443", "[fd00::7]")).unwrap();
        assert!(numbered.addresses.contains(&"fd00::7".parse().unwrap()));
    }

    #[test]
    fn a_redirect_keeps_path_and_query_and_never_leaves_the_site() {
        let site = Site::parse("https://localhost:8443").unwrap();
        assert_eq!(site.location("/a/b?c=d"), "https://localhost:8443/a/b?c=d");
        assert_eq!(
            site.location("//evil.example/"),
            "https://localhost:8443//evil.example/"
        );
        assert_eq!(site.location("*"), "https://localhost:8443/");
        assert_eq!(site.location(".evil.example"), "https://localhost:8443/");
    }
}

//! Reads edge.toml and turns it into checked values. Decides which settings are valid; opens no socket and writes nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use serde::Deserialize;

/// Everything the edge is told; one value per process, read once at start.
#[derive(Debug, Clone)]
pub struct Settings {
    pub site: Site,
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

    /// Where a plain-text request for `path_and_query` is sent on to.
    pub fn location(&self, path_and_query: &str) -> String {
        if path_and_query.starts_with('/') {
            format!("{}{path_and_query}", self.origin)
        } else {
            format!("{}/", self.origin)
        }
    }

    fn address(&self) -> Option<IpAddr> {
        self.host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
    }
}

/// Figures that protect the edge from its clients. Defaults hold where edge.toml says nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections held at once, both ports together.
    pub connections: usize,
    /// Seconds for a TLS handshake, for a request's headers, and for an idle HTTP/1.1 connection.
    pub header_seconds: u64,
    /// Seconds without a byte after which a request's or an answer's body is given up.
    pub body_idle_seconds: u64,
    /// Seconds that open requests get after SIGTERM.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            header_seconds: 20,
            body_idle_seconds: 120,
            drain_seconds: 10,
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

    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// edge.toml as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    site_address: String,
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

pub fn parse(text: &str) -> Result<Settings, SettingsError> {
    let written: Written = toml::from_str(text).map_err(|source| SettingsError::Parse {
        source: Box::new(source),
    })?;
    let site = Site::parse(&written.site_address)?;
    let mut names: Vec<String> = written
        .names
        .iter()
        .map(|name| name.to_ascii_lowercase())
        .collect();
    let mut addresses = written.addresses;
    match site.address() {
        Some(address) => addresses.push(address),
        None => names.push(site.host.clone()),
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
        assert_eq!(settings.site.origin(), "https://localhost:8443");
        assert_eq!(settings.names, ["atalaya", "localhost"]);
        assert_eq!(settings.addresses.len(), 2);
        assert_eq!(settings.limits.header_seconds, 20);
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

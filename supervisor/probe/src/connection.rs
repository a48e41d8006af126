//! Where the server is and whom to trust: the site's address, an address to dial instead, and the authority. HTTP and WebSocket both go
//! through here, so that both see the same names and the same certificate.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, DefaultConnector, NextTimeout, RustlsConnector};

use crate::error::ClientError;
use crate::local::{LocalConnector, Stream};

/// A server and how to reach it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address that users type, `https://host[:port]`. Certificates, Host and Origin follow it.
    pub site: String,
    /// `address:port` to dial instead of the site's own, where that leads elsewhere (behind a forwarded port), or the path of a local
    /// socket (inside the appliance).
    pub connect: Option<String>,
    /// The certificate authority to trust, PEM. No other is.
    pub ca_pem: String,
    /// The longest that one call may take, and one wait on a WebSocket.
    pub timeout: Duration,
}

impl Target {
    pub fn new(site: impl Into<String>, ca_pem: impl Into<String>) -> Self {
        Self {
            site: site.into(),
            connect: None,
            ca_pem: ca_pem.into(),
            timeout: Duration::from_secs(60),
        }
    }
}

/// A checked target, ready to connect.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `https://host[:port]`, nothing behind it.
    pub origin: String,
    /// `host[:port]` as it stands in Host.
    pub authority: String,
    pub timeout: Duration,
    host: String,
    way: Way,
    authorities: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    tls: Arc<ClientConfig>,
}

/// Where to dial.
#[derive(Debug, Clone)]
enum Way {
    Address(SocketAddr),
    Local(PathBuf),
}

pub(crate) type TlsStream = StreamOwned<ClientConnection, Stream>;

impl Connection {
    pub fn new(target: &Target) -> Result<Self, ClientError> {
        let invalid = |why| ClientError::Site {
            site: target.site.clone(),
            why,
        };
        let uri: Uri = target
            .site
            .parse()
            .map_err(|_| invalid("it is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(invalid("it does not begin with https://"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(invalid("it has a path"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let dial = match &target.connect {
            Some(connect) => connect.clone(),
            None => format!(
                "{}:{}",
                authority.host(),
                authority.port_u16().unwrap_or(443)
            ),
        };
        let resolve = |source| ClientError::Resolve {
            host: dial.clone(),
            source,
        };
        let way = if dial.starts_with('/') {
            Way::Local(PathBuf::from(&dial))
        } else {
            let absent = || resolve(std::io::Error::from(std::io::ErrorKind::NotFound));
            let mut addresses = dial.to_socket_addrs().map_err(resolve)?;
            Way::Address(addresses.next().ok_or_else(absent)?)
        };

        let unusable = |why: String| ClientError::Authority { why };
        let authorities: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(target.ca_pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| unusable(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots
                .add(authority.clone())
                .map_err(|error| unusable(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unusable("there is no certificate in it".to_owned()));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            origin: format!("https://{authority}"),
            authority: authority.to_string(),
            timeout: target.timeout,
            host,
            way,
            authorities,
            provider,
            tls: Arc::new(tls),
        })
    }

    /// An HTTP agent that dials this target whatever the URL's host is, and follows no redirect.
    pub fn agent(&self) -> ureq::Agent {
        let roots: Vec<Certificate<'static>> = self
            .authorities
            .iter()
            .map(|authority| Certificate::from_der(authority).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::clone(&self.provider))
            .build();
        let config = Config::builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("atalaya-probe")
            .timeout_global(Some(self.timeout))
            .build();
        match &self.way {
            Way::Address(address) => {
                ureq::Agent::with_parts(config, DefaultConnector::default(), Always(*address))
            }
            Way::Local(path) => {
                let connector =
                    ().chain(LocalConnector(path.clone()))
                        .chain(RustlsConnector::default());
                // Asked for and not dialled.
                let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 443));
                ureq::Agent::with_parts(config, connector, Always(nowhere))
            }
        }
    }

    /// A TLS stream to the target for anything but HTTP calls.
    pub fn open(&self) -> Result<TlsStream, ClientError> {
        let connect = |source| ClientError::Connect {
            action: "connect",
            source,
        };
        let stream = match &self.way {
            Way::Address(address) => {
                let stream = TcpStream::connect_timeout(address, self.timeout).map_err(connect)?;
                stream.set_nodelay(true).map_err(connect)?;
                Stream::Tcp(stream)
            }
            Way::Local(path) => Stream::Local(UnixStream::connect(path).map_err(connect)?),
        };
        stream
            .set_read_timeout(Some(self.timeout))
            .map_err(connect)?;
        stream
            .set_write_timeout(Some(self.timeout))
            .map_err(connect)?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_| ClientError::Site {
            site: self.origin.clone(),
            why: "its host is neither a name nor an address",
        })?;
        let session = ClientConnection::new(Arc::clone(&self.tls), name).map_err(|error| {
            ClientError::Connect {
                action: "set up TLS",
                source: std::io::Error::other(error),
            }
        })?;
        Ok(StreamOwned::new(session, stream))
    }
}

/// A resolver with one answer.
#[derive(Debug)]
struct Always(SocketAddr);

impl Resolver for Always {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_https_without_a_path_and_has_an_authority() {
        let check = |site: &str, ca: &str| {
            let mut target = Target::new(site, ca);
            target.connect = Some("127.0.0.1:1".to_owned());
            Connection::new(&target)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        for (site, why) in [
            ("http://a", "https"),
            ("https://a/chat", "path"),
            ("https://a?x=1", "path"),
            ("", "not a URL"),
        ] {
            let error = check(site, "").unwrap_err();
            assert!(error.contains(why), "{site}: {error}");
        }
        assert!(
            check("https://a", "")
                .unwrap_err()
                .contains("no certificate")
        );
        assert!(
            check(
                "https://a",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
            )
            .is_err()
        );
    }
}

//! HTTP to the server: one call, one whole answer. Trusts the given certificate authority and no other.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Request, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::Target;
use crate::http2::{Cause, Http2};
use http_body_util::Full;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0} is not an address such as https://host:port")]
    Address(String),
    #[error("an https address needs the certificate authority's file")]
    NoAuthority,
    #[error("the certificate authority's file holds no certificate that can be used")]
    Authority(#[source] rustls::Error),
    #[error("the certificate authority's file is not PEM")]
    Pem(#[source] rustls::pki_types::pem::Error),
    #[error("{method} {path}: no answer")]
    Call {
        method: String,
        path: String,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error("{method} {path}: no answer over HTTP/2")]
    Call2 {
        method: String,
        path: String,
        #[source]
        source: Cause,
    },
    #[error("HTTP/2 needs an https address")]
    Plain2,
    #[error("failed to open a WebSocket over HTTP/2")]
    Socket2(#[source] Cause),
    #[error("failed to connect")]
    Connect(#[source] std::io::Error),
    #[error("the WebSocket broke")]
    Socket(#[source] Box<tungstenite::Error>),
    #[error("nothing came by WebSocket within {0:?}")]
    TooLate(Duration),
    #[error("the local-mode socket: {0}")]
    Local(&'static str),
    #[error("the local-mode socket failed")]
    LocalIo(#[source] std::io::Error),
}

/// Longest answer that is read: far above any file the suite sends.
pub const LONGEST: u64 = 64 << 20;

/// A TLS or plain stream.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    http2: Option<Arc<Http2>>,
    pub origin: String,
    authority: String,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    pub timeout: Duration,
    pub token: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16, headers: Vec<(String, String)>, bytes: Vec<u8>) -> Self {
        Self {
            status,
            headers,
            bytes,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// A string field of the body.
    pub fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn new(target: &Target) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(target.address.clone());
        let uri: Uri = target.address.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        if !["", "/"].contains(&uri.path()) || uri.query().is_some() {
            return Err(wrong());
        }
        let authority = uri.authority().ok_or_else(wrong)?;
        let (tls, roots) = if secure {
            let pem = target.ca_pem.as_ref().ok_or(ClientError::NoAuthority)?;
            let (tls, roots) = tls_of(pem)?;
            (Some(tls), roots)
        } else {
            (None, Vec::new())
        };
        let tls_config = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(target.timeout))
            .tls_config(tls_config)
            .build()
            .new_agent();
        let origin = format!("{}://{authority}", if secure { "https" } else { "http" });
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority
            .port_u16()
            .unwrap_or(if secure { 443 } else { 80 });
        let http2 = if target.http2 {
            let tls = tls.as_deref().ok_or(ClientError::Plain2)?;
            let made = Http2::new(tls, &origin, &host, port, target.timeout);
            Some(Arc::new(made.map_err(ClientError::Connect)?))
        } else {
            None
        };
        Ok(Self {
            agent,
            http2,
            origin,
            authority: authority.to_string(),
            host,
            port,
            tls,
            timeout: target.timeout,
            token: None,
        })
    }

    /// The same server, as somebody else or as nobody.
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(str::to_owned),
            ..self.clone()
        }
    }

    pub fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.call("GET", path, &[], &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, ClientError> {
        self.send("POST", path, body)
    }

    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Answer, ClientError> {
        let json = [("content-type", "application/json")];
        self.call(method, path, &json, body.to_string().as_bytes())
    }

    pub fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        self.call("DELETE", path, &[], &[])
    }

    pub fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, ClientError> {
        let failed = |source: ureq::Error| ClientError::Call {
            method: method.to_owned(),
            path: path.to_owned(),
            source: Box::new(source),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(http2) = &self.http2 {
            let failed = |source| ClientError::Call2 {
                method: method.to_owned(),
                path: path.to_owned(),
                source,
            };
            let request = request.body(Full::from(body.to_vec()));
            return http2
                .call(request.map_err(|error| failed(error.into()))?)
                .map_err(failed);
        }
        // A request without a body has none at all: ureq refuses one with GET.
        let answer = if method == "GET" || method == "DELETE" {
            self.agent
                .run(request.body(()).map_err(|e| failed(e.into()))?)
        } else {
            self.agent
                .run(request.body(body).map_err(|e| failed(e.into()))?)
        };
        let answer = answer.map_err(failed)?;
        let (parts, mut body) = answer.into_parts();
        let bytes = body
            .with_config()
            .limit(LONGEST)
            .read_to_vec()
            .map_err(failed)?;
        let headers = parts
            .headers
            .iter()
            .map(|(n, v)| {
                let value = String::from_utf8_lossy(v.as_bytes()).into_owned();
                (n.to_string(), value)
            })
            .collect();
        Ok(Answer::new(parts.status.as_u16(), headers, bytes))
    }

    /// The HTTP/2 connection, where that is what is spoken.
    pub fn http2(&self) -> Option<&Http2> {
        self.http2.as_deref()
    }

    /// A fresh connection, for a WebSocket.
    pub fn open(&self) -> Result<Box<dyn Stream>, ClientError> {
        let tcp =
            TcpStream::connect((self.host.as_str(), self.port)).map_err(ClientError::Connect)?;
        tcp.set_nodelay(true).map_err(ClientError::Connect)?;
        tcp.set_read_timeout(Some(self.timeout))
            .map_err(ClientError::Connect)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| ClientError::Address(self.origin.clone()))?;
        let session =
            ClientConnection::new(Arc::clone(tls), name).map_err(ClientError::Authority)?;
        Ok(Box::new(StreamOwned::new(session, tcp)))
    }

    pub fn socket_url(&self) -> String {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/api/v4/websocket", self.authority)
    }
}

type Roots = Vec<Certificate<'static>>;

fn tls_of(pem: &str) -> Result<(Arc<ClientConfig>, Roots), ClientError> {
    let mut store = RootCertStore::empty();
    let mut roots = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(ClientError::Pem)?;
        roots.push(Certificate::from_der(&certificate).to_owned());
        store.add(certificate).map_err(ClientError::Authority)?;
    }
    if roots.is_empty() {
        return Err(ClientError::NoAuthority);
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Authority)?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok((Arc::new(config), roots))
}

//! A door in front of the authority: sees every request, and answers some of them itself as the test wishes.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::machine::TestAuthority;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    /// What was signed, if anything was.
    pub payload: Value,
}

pub type Answer = Option<Response<Full<Bytes>>>;
type Rule = Box<dyn Fn(&Seen) -> Answer + Send>;

pub struct Front {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    rule: Arc<Mutex<Rule>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Front {
    pub async fn start(authority: &TestAuthority, ip: Ipv4Addr, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (certificate, key) = authority.sign(ip);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_| None)));
        let door = Door {
            seen: Arc::clone(&seen),
            rule: Arc::clone(&rule),
            behind,
            connector: TlsConnector::from(Arc::new(client)),
        };
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, door) = (acceptor.clone(), door.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let service = service_fn(move |request| door.clone().pass(request));
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                        .ok();
                });
            }
        });
        Self {
            address,
            seen,
            rule,
            accepting,
        }
    }

    pub fn set_rule(&self, rule: impl Fn(&Seen) -> Answer + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Everything that was asked since the last time.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Clone)]
struct Door {
    seen: Arc<Mutex<Vec<Seen>>>,
    rule: Arc<Mutex<Rule>>,
    behind: SocketAddr,
    connector: TlsConnector,
}

impl Door {
    async fn pass(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let seen = Seen {
            path: parts.uri.path().to_owned(),
            payload: signed(&body),
        };
        self.seen.lock().unwrap().push(seen.clone());
        let own = (self.rule.lock().unwrap())(&seen);
        if let Some(own) = own {
            return Ok(own);
        }
        let request = Request::from_parts(parts, Full::new(body));
        // An authority that is away is a gateway's error, as with any real one.
        Ok(self.ask(request).await.unwrap_or_else(|_| {
            let mut away = Response::new(Full::new(Bytes::from("<html>away</html>")));
            *away.status_mut() = StatusCode::BAD_GATEWAY;
            away
        }))
    }

    async fn ask(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error>> {
        let tcp = TcpStream::connect(self.behind).await?;
        let name = ServerName::from(self.behind.ip());
        let stream = self.connector.connect(name, tcp).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}

/// The payload of a JWS.
fn signed(body: &[u8]) -> Value {
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = jws["payload"].as_str().unwrap_or_default();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}

/// An answer of the authority's own.
pub fn problem(status: u16, kind: &str, detail: &str, retry_after: Option<&str>) -> Answer {
    let body = serde_json::json!({
        "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status,
    });
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/problem+json")
        .header("replay-nonce", "bm90IG9uZQ");
    if let Some(retry_after) = retry_after {
        response = response.header("retry-after", retry_after);
    }
    response.body(Full::new(Bytes::from(body.to_string()))).ok()
}

pub fn json_answer(body: &Value, retry_after: &str) -> Answer {
    Response::builder()
        .header("content-type", "application/json")
        .header("retry-after", retry_after)
        .body(Full::new(Bytes::from(body.to_string())))
        .ok()
}

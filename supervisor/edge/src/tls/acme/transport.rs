//! HTTPS to the authority: whom to trust for it, and a client for instant-acme that remembers Retry-After, which the library keeps to itself.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::Failure;

/// Debian's list of public authorities (package ca-certificates); it comes with the image, and so does its renewal.
const PUBLIC_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// For one request.
const LIMIT: Duration = Duration::from_secs(60);
/// To find out whether there is a way to the authority.
const LOOK_LIMIT: Duration = Duration::from_secs(20);
/// Of one answer. Directories and chains have a few kilobytes.
const MOST_BYTES: usize = 1024 * 1024;

/// TLS towards the authority: it alone is trusted if `authority` (PEM) names one, else the public ones.
pub fn trust(authority: Option<&str>) -> Result<Arc<ClientConfig>, Failure> {
    let public;
    let pem = match authority {
        Some(pem) => pem,
        None => {
            public =
                std::fs::read_to_string(PUBLIC_AUTHORITIES).map_err(|error| Failure::Trust {
                    why: format!("failed to read {PUBLIC_AUTHORITIES}: {error}"),
                })?;
            &public
        }
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    let (taken, _) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err(Failure::Trust {
            why: "there is no certificate of an authority to trust".to_owned(),
        });
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Trust {
            why: error.to_string(),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Why this machine itself cannot get to the directory, if so: its name has no address, or there is no way to any. Nobody is asked anything
/// by that. An authority that is there and does not answer is another matter.
pub async fn offline(directory: &str) -> Option<std::io::Error> {
    let uri: Uri = directory.parse().ok()?;
    let host = uri.host()?.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(443);
    let look = async {
        let addresses = match tokio::net::lookup_host((host, port)).await {
            Ok(addresses) => addresses,
            Err(error) => return Some(error),
        };
        let mut no_way = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Err(error) if is_no_way(error.kind()) => no_way = Some(error),
                Ok(_) | Err(_) => return None,
            }
        }
        no_way
    };
    tokio::time::timeout(LOOK_LIMIT, look).await.unwrap_or(None)
}

fn is_no_way(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown
    )
}

/// A connection for each request: an order takes a dozen of them, every few weeks.
#[derive(Clone)]
pub struct Transport {
    tls: Arc<ClientConfig>,
    retry_after: Arc<Mutex<Option<String>>>,
}

type Error = Box<dyn std::error::Error + Send + Sync>;

impl Transport {
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self {
            tls,
            retry_after: Arc::default(),
        }
    }

    /// Retry-After of the last refusal (429 or 503), as it was written.
    pub fn retry_after(&self) -> Option<String> {
        self.retry_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn send(self, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let uri = request.uri().clone();
        if uri.scheme_str() != Some("https") {
            return Err(format!("{uri} does not begin with https://").into());
        }
        let authority = uri.authority().ok_or("the address has no host")?;
        let host = authority.host().trim_matches(['[', ']']);
        let server = ServerName::try_from(host.to_owned())?;
        let tcp = TcpStream::connect((host, authority.port_u16().unwrap_or(443))).await?;
        let stream = TlsConnector::from(self.tls).connect(server, tcp).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let host = HeaderValue::from_str(authority.as_str())?;
        request.headers_mut().insert(HOST, host);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>()?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
        connection.abort();
        if matches!(
            parts.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let said = parts.headers.get(RETRY_AFTER);
            *self
                .retry_after
                .lock()
                .unwrap_or_else(PoisonError::into_inner) =
                said.and_then(|said| Some(said.to_str().ok()?.trim().to_owned()));
        }
        Ok(BytesResponse::from(Response::from_parts(
            parts,
            Full::new(body),
        )))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let sent = tokio::time::timeout(LIMIT, self.clone().send(request));
        Box::pin(async move {
            match sent.await {
                Ok(answer) => answer.map_err(instant_acme::Error::Other),
                Err(_) => Err(instant_acme::Error::Other("no answer in a minute".into())),
            }
        })
    }
}

/// Retry-After in seconds from `now`: a number, or a date (RFC 9110 section 10.2.3).
pub fn seconds_of(retry_after: &str, now: i64) -> Option<i64> {
    if let Ok(seconds) = retry_after.parse::<u32>() {
        return Some(i64::from(seconds));
    }
    let date = httpdate::parse_http_date(retry_after).ok()?;
    let date = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(i64::try_from(date).ok()?.saturating_sub(now).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now = 784_111_777 - 90; // the example of RFC 9110
        for (text, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(90)),
            ("Sat, 06 Nov 1993 08:49:37 GMT", Some(0)),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800 - now)),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("-5", None),
        ] {
            assert_eq!(seconds_of(text, now), seconds, "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_means_offline_and_a_refusal_does_not() {
        assert!(offline("https://nowhere.invalid/directory").await.is_some());
        // Nobody listens on port 1; but the machine is there.
        assert!(offline("https://127.0.0.1:1/directory").await.is_none());
    }

    #[test]
    fn a_list_without_an_authority_is_refused() {
        assert!(trust(Some("no PEM")).is_err());
    }
}

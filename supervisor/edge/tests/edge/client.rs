//! Clients: HTTP/1.1 and HTTP/2 over TLS that trusts the edge's authority, raw bytes over TLS, WebSockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use serde_json::Value;
use tokio_rustls::TlsConnector;
use tungstenite::WebSocket;
use tungstenite::client::IntoClientRequest;

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

pub fn tls_config(
    ca_pem: &str,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A blocking TLS stream for raw bytes; the handshake is done.
pub fn raw(address: SocketAddr, ca_pem: &str, name: &'static str) -> std::io::Result<TlsStream> {
    raw_with(
        address,
        tls_config(ca_pem, rustls::DEFAULT_VERSIONS, &["http/1.1"]),
        name,
    )
}

pub fn raw_with(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: &'static str,
) -> std::io::Result<TlsStream> {
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
    tls_over(tcp, config, name)
}

/// TLS on a connection that is there already.
pub fn tls_over(
    tcp: TcpStream,
    config: Arc<ClientConfig>,
    name: &'static str,
) -> std::io::Result<TlsStream> {
    let session = ClientConnection::new(config, ServerName::try_from(name).unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Sends raw bytes and reads until the edge closes; a missing close_notify is an end like another.
pub fn exchange(stream: &mut (impl Read + Write), request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    stream.flush().unwrap();
    read_to_end(stream)
}

pub fn read_to_end(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
            ) => {}
        Err(error) => panic!("{error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub struct Answer {
    pub status: u16,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// One request on a connection of its own. `protocol` is h2 or http/1.1; the URI of an HTTP/2 request needs its authority.
pub fn send<B>(address: SocketAddr, ca_pem: &str, protocol: &str, request: Request<B>) -> Answer
where
    B: hyper::body::Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let config = tls_config(ca_pem, rustls::DEFAULT_VERSIONS, &[protocol]);
    let request = request.map(|body| BoxBody::new(body.map_err(Into::into)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let stream = TlsConnector::from(config)
            .connect(ServerName::try_from("localhost").unwrap(), tcp)
            .await
            .unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            Some(protocol.as_bytes())
        );
        let io = TokioIo::new(stream);
        let response = if protocol == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            version: parts.version,
            headers: parts.headers,
            body,
        }
    })
}

/// A GET over HTTP/1.1 with the site's Host.
pub fn get(address: SocketAddr, ca_pem: &str, path: &str) -> Answer {
    let request = Request::get(path)
        .header("host", "localhost:8443")
        .body(Full::<Bytes>::default())
        .unwrap();
    send(address, ca_pem, "http/1.1", request)
}

pub fn post(address: SocketAddr, ca_pem: &str, path: &str, body: &'static str) -> Answer {
    let request = Request::post(path)
        .header("host", "localhost:8443")
        .body(Full::from(body))
        .unwrap();
    send(address, ca_pem, "http/1.1", request)
}

/// An open WebSocket, as the web client opens it.
pub fn websocket(address: SocketAddr, ca_pem: &str) -> WebSocket<TlsStream> {
    let stream = raw(address, ca_pem, "localhost").unwrap();
    let mut request = "wss://localhost:8443/api/v4/websocket"
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("origin", "https://localhost:8443".parse().unwrap());
    let (socket, response) = tungstenite::client(request, stream).unwrap();
    assert_eq!(response.status(), 101);
    socket
}

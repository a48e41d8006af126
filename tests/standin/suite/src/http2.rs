//! The same calls over HTTP/2: one connection for everything, as a browser has it, WebSockets among its streams (RFC 8441).

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::error::Error;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::client::{Answer, LONGEST};

pub type Cause = Box<dyn Error + Send + Sync>;

/// The server answered a WebSocket's opening, and not with a WebSocket.
#[derive(Debug, thiserror::Error)]
#[error("a WebSocket was refused: status {0}")]
pub struct Refused(StatusCode);

/// One server over one connection, which is made when it is needed.
pub struct Http2 {
    /// Its only thread carries the connection on while nobody asks.
    runtime: Runtime,
    tls: Arc<ClientConfig>,
    origin: String,
    host: String,
    port: u16,
    timeout: Duration,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Http2 {
    /// # Errors
    /// If no thread can be started.
    pub fn new(
        tls: &ClientConfig,
        origin: &str,
        host: &str,
        port: u16,
        timeout: Duration,
    ) -> Result<Self, io::Error> {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?,
            tls: Arc::new(tls),
            origin: origin.to_owned(),
            host: host.to_owned(),
            port,
            timeout,
            connection: Mutex::new(None),
        })
    }

    /// One call, one whole answer.
    pub fn call(&self, request: Request<Full<Bytes>>) -> Result<Answer, Cause> {
        self.within(async {
            let response = self.sender().await?.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let limit = usize::try_from(LONGEST).unwrap_or(usize::MAX);
            let body = Limited::new(body, limit).collect().await?.to_bytes();
            let header =
                |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                    (
                        name.to_string(),
                        String::from_utf8_lossy(value.as_bytes()).into_owned(),
                    )
                };
            let headers = parts.headers.iter().map(header).collect();
            Ok(Answer::new(parts.status.as_u16(), headers, body.to_vec()))
        })
    }

    /// A WebSocket's bytes: a stream of the one connection, opened by an extended CONNECT.
    pub fn open_socket(&self, uri: &str, headers: &[(&str, &str)]) -> Result<UnixStream, Cause> {
        self.within(async {
            let mut sender = self.sender().await?;
            let mut request = Request::builder()
                .method(Method::CONNECT)
                .uri(uri)
                .extension(hyper::ext::Protocol::from_static("websocket"))
                .header("sec-websocket-version", "13");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut response = sender.send_request(request.body(Full::default())?).await?;
            if response.status() != StatusCode::OK {
                return Err(Refused(response.status()).into());
            }
            let upgraded = hyper::upgrade::on(&mut response).await?;
            let (ours, theirs) = UnixStream::pair()?;
            theirs.set_nonblocking(true)?;
            let mut theirs = tokio::net::UnixStream::from_std(theirs)?;
            tokio::spawn(async move {
                let mut upgraded = TokioIo::new(upgraded);
                // However it ends, both sides are closed by it, and the reader sees that.
                tokio::io::copy_bidirectional(&mut upgraded, &mut theirs)
                    .await
                    .ok();
            });
            ours.set_read_timeout(Some(self.timeout))?;
            Ok(ours)
        })
    }

    fn within<T>(&self, work: impl Future<Output = Result<T, Cause>>) -> Result<T, Cause> {
        self.runtime
            .block_on(async { tokio::time::timeout(self.timeout, work).await? })
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, Cause> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.as_ref().filter(|known| !known.is_closed()) {
            return Ok(sender.clone());
        }
        let tcp = tokio::net::TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("the server does not speak HTTP/2".into());
        }
        let (mut sender, io) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(io);
        // What the server offers is known when it has answered once.
        let first = Request::head(format!("{}/api/v4/system/ping", self.origin));
        sender.send_request(first.body(Full::default())?).await?;
        *connection = Some(sender.clone());
        Ok(sender)
    }
}

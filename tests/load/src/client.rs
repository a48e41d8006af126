//! Clients: as cheap as can be, because they share the processors with the proxy that is measured. They check that an answer is a good one
//! and nothing of the certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend::{Big, SMALL, UPLOAD, WEBSOCKET};

/// RFC 6455, section 1.3.
pub const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// Where to, and how.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    host: String,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Target {
    /// A proxy that serves `https://localhost:PORT`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(address: SocketAddr) -> anyhow::Result<Target> {
        Ok(Target {
            address,
            host: format!("localhost:{}", address.port()),
            http1: connector(b"http/1.1")?,
            http2: connector(b"h2")?,
        })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new connection with a whole TLS 1.3 handshake: none is resumed.
    ///
    /// # Errors
    /// There is no connection, or the proxy does not speak that protocol.
    pub async fn connect(&self, protocol: Protocol) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address)
            .await
            .context("failed to connect")?;
        stream.set_nodelay(true)?;
        let (connector, expected) = match protocol {
            Protocol::Http1 => (&self.http1, &b"http/1.1"[..]),
            Protocol::Http2 => (&self.http2, &b"h2"[..]),
        };
        let stream = connector
            .connect(ServerName::try_from("localhost")?, stream)
            .await
            .context("TLS failed")?;
        ensure!(
            stream.get_ref().1.alpn_protocol() == Some(expected),
            "the proxy speaks another protocol"
        );
        Ok(stream)
    }

    /// An HTTP/1.1 connection.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn http1(&self) -> anyhow::Result<Http1> {
        Ok(Http1 {
            stream: self.connect(Protocol::Http1).await?,
            request: format!(
                "GET {SMALL} HTTP/1.1\r\nHost: {}\r\n{}\r\n",
                self.host, BROWSER
            )
            .into_bytes(),
            host: self.host.clone(),
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// An HTTP/2 connection.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn http2(&self) -> anyhow::Result<Http2> {
        let stream = self.connect(Protocol::Http2).await?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1024 * 1024)
            .initial_connection_window_size(4 * 1024 * 1024)
            .handshake(TokioIo::new(stream))
            .await?;
        // How it ended is told by its requests.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Http2 {
            sender,
            origin: format!("https://{}", self.host),
        })
    }
}

/// What browsers send.
const BROWSER: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: */*\r\nAccept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\nX-Requested-With: XMLHttpRequest\r\n\
Cookie: MMAUTHTOKEN=be9f5dkwhpgyxyqxnhz3ka4pse; MMUSERID=be9f5dkwhpgyxyqxnhz3ka4pse; MMCSRF=be9f5dkwhpgyxyqxnhz3ka4pse\r\n";

/// One HTTP/1.1 connection.
pub struct Http1 {
    stream: TlsStream<TcpStream>,
    request: Vec<u8>,
    host: String,
    buffer: Vec<u8>,
}

impl Http1 {
    /// A small request and its whole answer, whose head is returned.
    ///
    /// # Errors
    /// The answer is not a good one, or the connection has ended.
    pub async fn get(&mut self) -> anyhow::Result<String> {
        send(&mut self.stream, &self.request).await?;
        let (head, bytes) = self.answer().await?;
        ensure!(bytes > 100, "the answer is too short");
        Ok(head)
    }

    /// Fetches so many bytes.
    ///
    /// # Errors
    /// As [`Http1::get`].
    pub async fn download(&mut self, bytes: u64) -> anyhow::Result<()> {
        let head = format!(
            "GET {}{bytes} HTTP/1.1\r\nHost: {}\r\n\r\n",
            crate::backend::BIG,
            self.host
        );
        send(&mut self.stream, head.as_bytes()).await?;
        let (_, got) = self.answer().await?;
        ensure!(got == bytes, "{got} bytes instead of {bytes}");
        Ok(())
    }

    /// Sends so many bytes.
    ///
    /// # Errors
    /// As [`Http1::get`].
    pub async fn upload(&mut self, bytes: u64) -> anyhow::Result<()> {
        let head = format!(
            "POST {UPLOAD} HTTP/1.1\r\nHost: {}\r\nContent-Length: {bytes}\r\n\r\n",
            self.host
        );
        send(&mut self.stream, head.as_bytes()).await?;
        let piece = vec![b'x'; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left)
                .unwrap_or(piece.len())
                .min(piece.len());
            self.stream.write_all(&piece[..length]).await?;
            left -= length as u64;
        }
        self.stream.flush().await?;
        self.answer().await?;
        Ok(())
    }

    /// Turns it into a WebSocket.
    ///
    /// # Errors
    /// The proxy refuses.
    pub async fn websocket(mut self) -> anyhow::Result<TlsStream<TcpStream>> {
        let head = format!(
            "GET {WEBSOCKET} HTTP/1.1\r\nHost: {0}\r\nOrigin: https://{0}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n",
            self.host
        );
        send(&mut self.stream, head.as_bytes()).await?;
        let (head, rest) = self.head().await?;
        ensure!(
            head.starts_with("HTTP/1.1 101"),
            "no WebSocket: {}",
            head.lines().next().unwrap_or_default()
        );
        ensure!(rest == 0, "bytes before the first message");
        Ok(self.stream)
    }

    /// Reads to the end of the head; the bytes behind it that came along are left in the buffer.
    async fn head(&mut self) -> anyhow::Result<(String, usize)> {
        self.buffer.clear();
        loop {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection has ended"
            );
            if let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?.to_owned();
                return Ok((head, self.buffer.len() - end - 4));
            }
        }
    }

    /// Reads a whole answer: its head, and how long its body was.
    async fn answer(&mut self) -> anyhow::Result<(String, u64)> {
        let (head, mut got) = self.head().await?;
        ensure!(
            head.starts_with("HTTP/1.1 200"),
            "not 200: {}",
            head.lines().next().unwrap_or_default()
        );
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<u64>().ok())?
        });
        let length = length.context("the answer does not say how long it is")?;
        while (got as u64) < length {
            self.buffer.clear();
            match self.stream.read_buf(&mut self.buffer).await? {
                0 => bail!("the connection has ended"),
                read => got += read,
            }
        }
        Ok((head, length))
    }
}

/// With flush: TLS may keep what it was given where the socket would block, or where this task has done as much as it may in one turn
/// (tokio's budget), and reading sends nothing.
async fn send(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> anyhow::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    Ok(())
}

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub struct Http2 {
    sender: hyper::client::conn::http2::SendRequest<Big>,
    origin: String,
}

impl Http2 {
    /// A small request and its whole answer.
    ///
    /// # Errors
    /// The answer is not a good one, or the connection has ended.
    pub async fn get(&mut self) -> anyhow::Result<()> {
        let mut request =
            hyper::Request::get(format!("{}{SMALL}", self.origin)).body(Big::new(0))?;
        for line in BROWSER.lines() {
            if let Some((name, value)) = line.split_once(": ") {
                let name: hyper::header::HeaderName = name.parse()?;
                request.headers_mut().insert(name, value.parse()?);
            }
        }
        ensure!(self.exchange(request).await? > 100, "the answer is short");
        Ok(())
    }

    /// Fetches so many bytes.
    ///
    /// # Errors
    /// As [`Http2::get`].
    pub async fn download(&mut self, bytes: u64) -> anyhow::Result<()> {
        let path = format!("{}{}{bytes}", self.origin, crate::backend::BIG);
        let request = hyper::Request::get(path).body(Big::new(0))?;
        let got = self.exchange(request).await?;
        ensure!(got == bytes, "{got} bytes instead of {bytes}");
        Ok(())
    }

    /// Sends so many bytes.
    ///
    /// # Errors
    /// As [`Http2::get`].
    pub async fn upload(&mut self, bytes: u64) -> anyhow::Result<()> {
        let path = format!("{}{UPLOAD}", self.origin);
        let request = hyper::Request::post(path).body(Big::new(bytes))?;
        self.exchange(request).await?;
        Ok(())
    }

    async fn exchange(&mut self, request: hyper::Request<Big>) -> anyhow::Result<u64> {
        use http_body_util::BodyExt;
        self.sender.ready().await?;
        let mut response = self.sender.send_request(request).await?;
        ensure!(response.status() == 200, "status {}", response.status());
        let mut bytes = 0;
        while let Some(frame) = response.body_mut().frame().await {
            bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }
}

fn connector(protocol: &[u8]) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = Arc::new(Anyone(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(trust)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes every certificate: checking it is the client's work, which nobody measures.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

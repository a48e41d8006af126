//! Accepts connections, ends TLS, speaks HTTP/1.1 and HTTP/2, stops in good order. What a request becomes is `proxy`'s business.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::body::Answer;
use crate::connections::{Client, Connections, Door, Place};
use crate::drain::{Drain, Ending};
use crate::framing::Checked;
use crate::guard::per_client::{self, PerClient};
use crate::guard::{self, allow, refusal};
use crate::listen::prepare;
use crate::log::Log;
use crate::metrics::{Broken, Handshake, Metrics};
use crate::proxy::{ClientBody, Proxy};
use crate::reload::Current;
use crate::settings::Limits;
use crate::tls::challenges::ACME_TLS;
use crate::tls::serving::{Serving, Source};
use crate::workers::Workers;

/// HTTP/2: requests at once on one connection, and bytes a client may send ahead on one stream and on all of them.
const MAX_STREAMS: u32 = 128;
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one stream's answer that wait for the client.
const SEND_BUFFER: usize = 64 * 1024;

/// TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1.
pub fn tls(serving: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME_TLS.to_vec()];
    // Resumption by tickets: nothing is remembered for a client that never returns.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What every connection needs.
#[derive(Clone)]
pub struct Context {
    pub settings: Current,
    pub log: Log,
    pub metrics: Arc<Metrics>,
    pub drain: Drain,
    pub connections: Connections,
    pub clients: PerClient,
    pub serving: Arc<Serving>,
}

struct Guest {
    stream: TcpStream,
    address: IpAddr,
    place: Place,
    /// As they were when it came.
    limits: Limits,
}

impl Context {
    /// The next connection; None once the edge stops.
    async fn next(&mut self, listener: &TcpListener) -> Option<Guest> {
        let mut full = false;
        loop {
            let accepted = tokio::select! {
                _ending = self.drain.begun() => return None,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors or memory, or the client is gone already: accept again a little later.
                    self.log.event(
                        "warn",
                        "failed to accept a connection",
                        json!({ "error": error.to_string() }),
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let limits = self.settings.load().limits.clone();
            if let Some(place) = self.connections.take(limits.connections) {
                self.metrics.connections.inc();
                // Fails only for a connection that is gone; reading will say so.
                prepare(&stream, limits.body_idle()).ok();
                return Some(Guest {
                    stream,
                    address: client_address(peer),
                    place,
                    limits,
                });
            }
            self.metrics.refused_connections.inc();
            if !full {
                full = true;
                let details = json!({ "limit": limits.connections });
                self.log.event(
                    "warn",
                    "connections are refused: as many as allowed are open",
                    details,
                );
            }
        }
    }
}

impl Context {
    /// Whose connection it is, and its share; None if it is to be closed or the edge stops.
    async fn identify(
        &mut self,
        stream: &mut TcpStream,
        peer: IpAddr,
    ) -> Option<(IpAddr, Option<per_client::Place>)> {
        let settings = self.settings.load();
        tokio::select! {
            () = self.drain.stopping() => None,
            identified = guard::identify(stream, peer, &settings, &self.clients, &self.log) => identified,
        }
    }
}

fn http1(limits: &Limits) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header())
        .max_header_size(limits.header_bytes)
        .max_buf_size(4 * limits.header_bytes);
    // The library's own figure; to say it costs a copy of them all with each request.
    if limits.headers != 100 {
        builder.max_headers(limits.headers);
    }
    builder
}

fn http2(limits: &Limits) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(limits.header())
        // WebSockets (RFC 8441).
        .enable_connect_protocol();
    builder
}

/// Serves the site until the edge stops.
pub async fn serve_https(
    mut context: Context,
    listener: TcpListener,
    tls: TlsAcceptor,
    workers: Arc<Workers>,
) {
    while let Some(guest) = context.next(&listener).await {
        let Guest {
            stream,
            address,
            place,
            limits,
        } = guest;
        let (tls, mut context) = (tls.clone(), context.clone());
        let served = workers.serve(stream, async move |mut stream, proxy| {
            let Some((address, share)) = context.identify(&mut stream, address).await else {
                return;
            };
            let client = Client {
                address,
                door: Door::Public,
                tls: "",
                trusted: false,
                drain: context.drain.clone(),
                _place: place,
                _share: share,
            };
            serve_tls(context, &limits, client, stream, tls, proxy).await;
        });
        // Nothing can be said to a client whose connection cannot be watched.
        served.ok();
    }
}

/// One connection, from its handshake to its end.
pub async fn serve_tls<IO>(
    mut context: Context,
    limits: &Limits,
    mut client: Client,
    stream: IO,
    tls: TlsAcceptor,
    proxy: Arc<Proxy>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let source_before = context.serving.source();
    let handshake = tokio::select! {
        () = context.drain.stopping() => return,
        handshake = tokio::time::timeout(limits.header(), tls.accept(stream)) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        // Port scans and clients that do not trust the authority end here; a line for each would drown the log.
        Ok(Err(_)) => return context.metrics.handshake(Handshake::Failed),
        Err(_) => return context.metrics.handshake(Handshake::TooSlow),
    };
    let session = stream.get_ref().1;
    let (version, name) = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => (Handshake::Tls12, "TLSv1.2"),
        _ => (Handshake::Tls13, "TLSv1.3"),
    };
    context.metrics.handshake(version);
    client.tls = name;
    // Where the certificate changed during the handshake, the lesser of the two counts.
    client.trusted = source_before.min(context.serving.source()) >= Some(Source::Static);
    if session.alpn_protocol() == Some(ACME_TLS) {
        // The certificate was all that was asked for (RFC 8737 section 3).
        return;
    }
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let client = Arc::new(client);
    let service = service_fn(move |request: Request<Incoming>| {
        let (proxy, client) = (Arc::clone(&proxy), Arc::clone(&client));
        async move { Ok::<_, Infallible>(proxy.serve::<IO>(&client, request).await) }
    });
    if is_http2 {
        let connection = http2(limits).serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ending = context.drain.begun() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        count_broken(&context.metrics, &ended, true);
    } else {
        let io = TokioIo::new(Checked::new(stream));
        run_http1(&mut context, limits, io, service).await;
    }
}

/// Serves port 80 until the edge stops: the authority's certificate, and the way to the site.
pub async fn serve_http(
    mut context: Context,
    listener: TcpListener,
    redirect: Arc<crate::redirect::Redirect>,
) {
    while let Some(guest) = context.next(&listener).await {
        let (redirect, mut context) = (Arc::clone(&redirect), context.clone());
        tokio::spawn(async move {
            let Guest {
                mut stream,
                address,
                place: _held,
                limits,
            } = guest;
            let Some((address, _share)) = context.identify(&mut stream, address).await else {
                return;
            };
            let settings = context.settings.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let access = &settings.load().access;
                let (path, headers) = (request.uri().path(), request.headers());
                let client = guard::address::of_request(address, headers, &access.trusted_proxies);
                let response = match allow::assess_plain(access, client, path) {
                    Ok(()) => redirect.answer(&request),
                    Err(denied) => refusal::denied(denied, client, path, headers, ""),
                };
                let response = response.map(|body| Answer::own(body, None));
                async move { Ok::<Response<ClientBody>, Infallible>(response) }
            });
            run_http1(&mut context, &limits, TokioIo::new(stream), service).await;
        });
    }
}

async fn run_http1<IO, S, F>(context: &mut Context, limits: &Limits, io: TokioIo<IO>, service: S)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<ClientBody>,
            Error = Infallible,
            Future = F,
        > + Send,
    F: Future<Output = Result<Response<ClientBody>, Infallible>> + Send,
{
    let (asked, has_asked) = (Notify::new(), AtomicBool::new(false));
    let service = service_fn(|request| {
        has_asked.store(true, Ordering::Relaxed);
        asked.notify_waiters();
        service.call(request)
    });
    let metrics = Arc::clone(&context.metrics);
    let count = |ended| count_broken(&metrics, &ended, has_asked.load(Ordering::Relaxed));
    let connection = http1(limits).serve_connection(io, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ending = tokio::select! {
        ended = connection.as_mut() => return count(ended),
        ending = context.drain.begun() => ending,
    };
    if ending == Ending::HandedOver {
        // Who has just come in is about to ask, and who is idle may be asking at this moment: closed now, he would get no answer. So the next
        // answer says that it is the last here.
        tokio::select! {
            ended = connection.as_mut() => return count(ended),
            () = asked.notified() => {}
            () = context.drain.stopping() => {}
            () = tokio::time::sleep(limits.header()) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    count(connection.await);
}

/// How a connection's requests fared is told by their lines; one that ends between them has none.
fn count_broken(metrics: &Metrics, ended: &hyper::Result<()>, has_asked: bool) {
    let Err(error) = ended else {
        return;
    };
    if error.is_timeout() && !has_asked {
        metrics.broke(Broken::TooSlow);
    } else if error.is_parse() {
        metrics.broke(Broken::Malformed);
    } else if !error.is_timeout() {
        metrics.broke(Broken::CutOff);
    }
}

/// IPv4 clients of a socket for both families show as ::ffff:a.b.c.d; everyone else knows them as a.b.c.d.
fn client_address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

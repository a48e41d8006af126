//! What a fault of the edge's own costs: the task in which it happens, one connection as a rule. It is said and counted; the others go on.

use prometheus_client::metrics::counter::Counter;
use serde_json::json;

use crate::log::Log;

/// From now on a panic is a line in the log, with its place.
pub fn report(log: Log, crashes: Counter) {
    std::panic::set_hook(Box::new(move |panic| {
        crashes.inc();
        let said = panic.payload();
        let why = said
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| said.downcast_ref::<&str>().copied());
        let at = panic.location().map(ToString::to_string);
        let details = json!({ "at": at, "why": why });
        log.event("error", "a task of the edge crashed", details);
    }));
}

#[cfg(test)]
mod tests {
    use std::io::Result;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use http_body_util::Empty;
    use hyper::Request;
    use hyper::body::Bytes;
    use hyper_util::rt::TokioIo;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::admission::{Admission, UpstreamState};
    use crate::connections::{Client, Connections, Door};
    use crate::guard::per_client::PerClient;
    use crate::metrics::Metrics;
    use crate::own::Own;
    use crate::proxy::Proxy;
    use crate::redirect::Redirect;
    use crate::reload::Current;
    use crate::server::{self, serve_tls};
    use crate::settings::{Limits, Secrets, parse};
    use crate::tls::certificates::Certificates;
    use crate::tls::challenges::Challenges;

    /// A connection on which the edge finds a fault of its own.
    struct Faulty;

    impl AsyncRead for Faulty {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<Result<()>> {
            panic!("a fault, made for a test")
        }
    }

    impl AsyncWrite for Faulty {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    struct Running {
        context: server::Context,
        proxy: Arc<Proxy>,
        tls: TlsAcceptor,
        authority: String,
    }

    impl Running {
        /// An edge without ports, closed to users: each request is answered by the page.
        fn start(directory: &std::path::Path) -> (Self, impl Sized) {
            let place = directory.display();
            let settings = parse(&format!(
                "site_address = \"https://localhost:8443\"\nnames = [\"localhost\"]\naddresses = []\n\
                 listen_https = \"127.0.0.1:0\"\nlisten_http = \"127.0.0.1:0\"\nupstream = \"127.0.0.1:1\"\n\
                 state_dir = \"{place}\"\npublic_dir = \"{place}\"\nupstream_state = \"{place}/upstream.json\"\n"
            ))
            .unwrap();
            let (log, metrics) = (Log::start().unwrap(), Arc::new(Metrics::new()));
            let challenges = Challenges::default();
            let certificates = Certificates::start(
                &settings,
                &Secrets::default(),
                challenges.clone(),
                log.clone(),
                UnixTime::now(),
            )
            .unwrap();
            let (drainer, drain) = crate::drain::channel();
            let closed = Admission::new(UpstreamState::default(), 0);
            let (told, admission) = tokio::sync::watch::channel(closed);
            let current = Current::new(settings);
            let context = server::Context {
                settings: current.clone(),
                log: log.clone(),
                metrics: Arc::clone(&metrics),
                drain: drain.clone(),
                connections: Connections::default(),
                clients: PerClient::default(),
                serving: Arc::clone(certificates.serving()),
            };
            let own = Own {
                connections: context.connections.clone(),
                admission: admission.clone(),
                log: log.clone(),
            };
            let redirect = Redirect::new(current.clone(), Arc::clone(&certificates), challenges);
            let redirect = Arc::new(redirect);
            let proxy = Proxy::new(current, log, metrics, admission, redirect, own);
            let running = Self {
                context,
                proxy: Arc::new(proxy),
                tls: server::tls(Arc::clone(certificates.serving()) as _).unwrap(),
                authority: certificates.authority().unwrap().pem.clone(),
            };
            (running, (drainer, told))
        }

        fn serve<IO>(&self, io: IO) -> tokio::task::JoinHandle<()>
        where
            IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        {
            let client = Client {
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                door: Door::Public,
                tls: "",
                trusted: false,
                drain: self.context.drain.clone(),
                _place: self.context.connections.take(10).unwrap(),
                _share: None,
            };
            let (context, tls, proxy) = (
                self.context.clone(),
                self.tls.clone(),
                Arc::clone(&self.proxy),
            );
            tokio::spawn(async move {
                serve_tls(context, &Limits::default(), client, io, tls, proxy).await;
            })
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_crash_of_one_connections_task_affects_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (running, _held) = Running::start(directory.path());
        let (here, there) = tokio::io::duplex(64 * 1024);
        let other = running.serve(there);
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(running.authority.as_bytes()).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, here)
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        let ask = || {
            Request::get("/api/v4/users/me")
                .header("host", "localhost:8443")
                .body(Empty::<Bytes>::new())
                .unwrap()
        };
        assert_eq!(sender.send_request(ask()).await.unwrap().status(), 503);
        assert_eq!(running.context.connections.open(), 1);

        let crashed = running.serve(Faulty).await;
        assert!(crashed.unwrap_err().is_panic());
        // Its place is free again, the connection beside it goes on, and new ones come.
        assert_eq!(running.context.connections.open(), 1);
        sender.ready().await.unwrap();
        assert_eq!(sender.send_request(ask()).await.unwrap().status(), 503);
        let (_here, there) = tokio::io::duplex(1024);
        let next = running.serve(there);
        assert_eq!(running.context.connections.open(), 2);
        for task in [other, next] {
            task.abort();
        }
        connection.abort();
    }
}

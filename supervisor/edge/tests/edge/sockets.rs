//! WebSockets over HTTP/2 (RFC 8441): many on one connection, each a stream of its own.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::client::{get, tls_config};
use crate::edge::{Edge, Place};
use crate::upstream::Upstream;

/// A short frame of a client with a mask of zeros (RFC 6455 section 5.2).
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(text.as_bytes());
    frame
}

async fn connect(edge: &Edge, place: &Place) -> SendRequest<Empty<Bytes>> {
    let config = tls_config(&place.ca_pem(), rustls::DEFAULT_VERSIONS, &["h2"]);
    let tcp = tokio::net::TcpStream::connect(edge.https()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(config).connect(name, tcp).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    // An answer means that the settings are known, by which the edge offers sockets.
    let first = Request::get("https://localhost:8443/page")
        .body(Empty::new())
        .unwrap();
    let answer = sender.send_request(first).await.unwrap();
    answer.into_body().collect().await.unwrap();
    sender
}

async fn open(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Response<Incoming> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("https://localhost:8443{path}"))
        .header("origin", "https://localhost:8443")
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("websocket"))
        .body(Empty::new())
        .unwrap();
    sender.send_request(request).await.unwrap()
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

#[test]
fn several_websockets_share_one_connection_with_requests() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    run(async {
        let mut sender = connect(&edge, &place).await;
        let mut sockets = Vec::new();
        for _ in 0..3 {
            let response = open(&mut sender, "/api/v4/websocket").await;
            assert_eq!(response.status(), 200);
            for name in ["sec-websocket-accept", "upgrade", "connection"] {
                assert!(!response.headers().contains_key(name), "{name}");
            }
            let upgraded = hyper::upgrade::on(response).await.unwrap();
            sockets.push(TokioIo::new(upgraded));
        }
        for (index, socket) in sockets.iter_mut().enumerate() {
            let text = format!("number {index}");
            socket.write_all(&frame(&text)).await.unwrap();
            let mut echo = vec![0; 2 + text.len()];
            socket.read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo[2..], text.as_bytes());
        }
        // One that ends leaves the others.
        let mut first = sockets.remove(0);
        first.shutdown().await.unwrap();
        let mut rest = Vec::new();
        first.read_to_end(&mut rest).await.ok();
        sockets[0].write_all(&frame("still there")).await.unwrap();
        let mut echo = [0; 13];
        sockets[0].read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo[2..], b"still there");
    });
    let line = edge.wait_log(|line| line["event"] == "request" && line["method"] == "CONNECT");
    assert_eq!(
        (&line["protocol"], &line["status"]),
        (&"h2".into(), &200.into())
    );
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&14.into(), &10.into())
    );
}

#[test]
fn what_is_no_websocket_is_not_opened() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    run(async {
        let mut sender = connect(&edge, &place).await;
        // Mattermost's refusal reaches the client.
        assert_eq!(open(&mut sender, "/nowhere").await.status(), 404);
        // A page is no socket, and a wrong answer to the key is none either.
        assert_eq!(open(&mut sender, "/page").await.status(), 502);
        assert_eq!(open(&mut sender, "/wrong-accept").await.status(), 502);
        let other = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_2)
            .uri("https://localhost:8443/api/v4/websocket")
            .extension(Protocol::from_static("connect-udp"))
            .body(Empty::new())
            .unwrap();
        assert_eq!(sender.send_request(other).await.unwrap().status(), 405);
    });
    assert_eq!(get(edge.https(), &place.ca_pem(), "/page").status, 200);
}

#[test]
fn websockets_of_both_protocols_end_with_the_edge() {
    let upstream = Upstream::start();
    let place = Place::new(upstream.address);
    let edge = place.start_open();
    run(async {
        let mut sender = connect(&edge, &place).await;
        let response = open(&mut sender, "/api/v4/websocket").await;
        let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        socket.write_all(&frame("there")).await.unwrap();
        let mut echo = [0; 7];
        socket.read_exact(&mut echo).await.unwrap();
        edge.terminate();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.ok();
        assert!(rest.is_empty());
    });
    let (status, output) = edge.wait_exit();
    assert!(status.success() && !output.contains("cut off"), "{output}");
}

//! WebSockets: how each protocol asks for one, and carrying it. Mattermost upgrades HTTP/1.1 only, so for HTTP/2 (RFC 8441) the edge makes
//! the key and checks the answer to it. Reads no frame. An idle socket holds no buffer of its own: thousands are open at once.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::ext::Protocol;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::forward::drop_hop_by_hop;
use crate::record::Record;

/// Bytes that are taken from one side at a time; on the stack while they are passed on.
const CHUNK: usize = 8192;
/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How a client asks for a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// RFC 6455 section 4: GET with Upgrade; the key is the client's.
    Upgrade,
    /// RFC 8441: CONNECT with `:protocol` on a stream of HTTP/2; there is no key.
    Connect,
}

/// Whether a request asks to become a WebSocket, in the form of its protocol. No other protocol is ever switched to.
pub fn assess_opening(request: &Parts) -> Option<Opening> {
    match (request.version, &request.method) {
        (Version::HTTP_11, &Method::GET)
            if has_token(&request.headers, &header::CONNECTION, "upgrade")
                && has_token(&request.headers, &header::UPGRADE, "websocket") =>
        {
            Some(Opening::Upgrade)
        }
        (Version::HTTP_2, &Method::CONNECT) => request
            .extensions
            .get::<Protocol>()
            .filter(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
            .map(|_| Opening::Connect),
        _ => None,
    }
}

/// The key of an opening that has none of its own; `random` is used once.
pub fn make_key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2).
pub fn accept(key: &[u8]) -> String {
    let mut text = key.to_vec();
    text.extend_from_slice(GUID.as_bytes());
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// Makes the headers of an opening those of an upgrade, whose connection-specific ones have been dropped already.
pub fn ask_upstream(headers: &mut HeaderMap, key: Option<&str>) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(key) = key.and_then(|key| HeaderValue::from_str(key).ok()) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
}

/// The upstream has switched: what the client is told. None: it has not understood the key that the edge gave it.
pub fn answer_client(
    response: Response<()>,
    opening: Opening,
    key: Option<&str>,
) -> Option<Response<()>> {
    let (mut parts, ()) = response.into_parts();
    let is_websocket = has_token(&parts.headers, &header::UPGRADE, "websocket");
    drop_hop_by_hop(&mut parts.headers);
    match (opening, key) {
        (Opening::Connect, Some(key)) => {
            let answer = parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT)?;
            if answer.as_bytes() != accept(key.as_bytes()).as_bytes() {
                return None;
            }
            parts.status = StatusCode::OK;
            parts.version = Version::HTTP_2;
        }
        // The client checks the answer to its own key.
        _ => ask_upstream(&mut parts.headers, None),
    }
    is_websocket.then(|| Response::from_parts(parts, ()))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// One way of a socket.
struct Way<'a> {
    /// Read and not yet written. Empty but when the other side is slower.
    waiting: Bytes,
    unflushed: bool,
    ended: bool,
    bytes: &'a AtomicU64,
}

/// The upstream's end, and what either side has sent before it is carried.
pub struct Ends {
    pub upstream: TcpStream,
    pub from_upstream: Bytes,
    pub from_client: Bytes,
}

impl Ends {
    /// Until both sides have ended, one has broken, or it must `leave`.
    pub async fn run<C>(mut self, mut client: C, record: &Record, leave: impl Future<Output = ()>)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let early = [self.from_client, self.from_upstream];
        let counts = [&*record.bytes_in, &*record.bytes_out];
        tokio::select! {
            // How it ended concerns the two sides alone.
            _ended = carry(&mut client, &mut self.upstream, early, counts) => {}
            // Clients connect again by themselves; a proper end of TLS tells them at once that they must.
            () = leave => { client.shutdown().await.ok(); }
        }
    }
}

/// Carries both ways until both have ended. `early` is what was read before from the client and from the upstream, `counts` the bytes that
/// have gone from each.
async fn carry<C, U>(
    client: &mut C,
    upstream: &mut U,
    early: [Bytes; 2],
    counts: [&AtomicU64; 2],
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let way = |waiting: Bytes, bytes| Way {
        waiting,
        unflushed: false,
        ended: false,
        bytes,
    };
    let [from_client, from_upstream] = early;
    let mut to_upstream = way(from_client, counts[0]);
    let mut to_client = way(from_upstream, counts[1]);
    let (mut there_done, mut back_done) = (false, false);
    poll_fn(|context| {
        if !there_done {
            there_done = to_upstream.poll(context, client, upstream)?.is_ready();
        }
        if !back_done {
            back_done = to_client.poll(context, upstream, client)?.is_ready();
        }
        if there_done && back_done {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

impl Way<'_> {
    fn poll<F, T>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            while !self.waiting.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(context, &self.waiting))?;
                self.passed(written)?;
                self.waiting = self.waiting.split_off(written);
            }
            if self.unflushed {
                ready!(Pin::new(&mut *to).poll_flush(context))?;
                self.unflushed = false;
            }
            if self.ended {
                return Pin::new(&mut *to).poll_shutdown(context);
            }
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            ready!(Pin::new(&mut *from).poll_read(context, &mut chunk))?;
            let mut read = chunk.filled();
            self.ended = read.is_empty();
            while !read.is_empty() {
                match Pin::new(&mut *to).poll_write(context, read) {
                    Poll::Ready(written) => {
                        let written = written?;
                        self.passed(written)?;
                        read = &read[written..];
                    }
                    Poll::Pending => {
                        // Its waker is registered; the copy is what waits meanwhile.
                        self.waiting = Bytes::copy_from_slice(read);
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn passed(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn parts(builder: hyper::http::request::Builder) -> Parts {
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_a_websocket_may_be_opened() {
        let upgrade = |value: &str| {
            Request::get("/")
                .header("connection", "keep-alive, Upgrade")
                .header("upgrade", value)
        };
        assert_eq!(
            assess_opening(&parts(upgrade("WebSocket"))),
            Some(Opening::Upgrade)
        );
        assert_eq!(assess_opening(&parts(upgrade("h2c"))), None);
        let alone = Request::get("/").header("upgrade", "websocket");
        assert_eq!(assess_opening(&parts(alone)), None);
        let posted = upgrade("websocket").method("POST");
        assert_eq!(assess_opening(&parts(posted)), None);
        let connect = |protocol: &'static str| {
            Request::connect("https://chat/api/v4/websocket")
                .version(Version::HTTP_2)
                .extension(Protocol::from_static(protocol))
        };
        assert_eq!(
            assess_opening(&parts(connect("websocket"))),
            Some(Opening::Connect)
        );
        assert_eq!(assess_opening(&parts(connect("connect-udp"))), None);
        let plain = Request::connect("chat:443").version(Version::HTTP_2);
        assert_eq!(assess_opening(&parts(plain)), None);
    }

    #[test]
    fn the_answer_to_a_key_is_that_of_the_specification() {
        // RFC 6455 section 1.3.
        let (key, answer) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept(key.as_bytes()), answer);
        let switched = |answer: &str| {
            Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", answer)
                .body(())
                .unwrap()
        };
        let told = answer_client(switched(answer), Opening::Connect, Some(key)).unwrap();
        assert_eq!(told.status(), 200);
        assert!(told.headers().is_empty(), "{:?}", told.headers());
        assert!(answer_client(switched("other"), Opening::Connect, Some(key)).is_none());
        let told = answer_client(switched("its own"), Opening::Upgrade, None).unwrap();
        assert_eq!(told.status(), 101);
        assert_eq!(told.headers()["sec-websocket-accept"], "its own");
        assert_eq!(told.headers()["upgrade"], "websocket");
        let mut other = switched(answer);
        other
            .headers_mut()
            .insert("upgrade", HeaderValue::from_static("h2c"));
        assert!(answer_client(other, Opening::Upgrade, None).is_none());
    }

    #[tokio::test]
    async fn a_slow_side_loses_nothing_and_both_ends_are_passed_on() {
        let (mut browser, mut client) = duplex(16);
        let (mut upstream, mut server) = duplex(16);
        let (bytes_in, bytes_out) = (AtomicU64::new(0), AtomicU64::new(0));
        let sent: Vec<u8> = (0..=255_u8).cycle().take(100_000).collect();
        let carried = async {
            let early = [Bytes::new(), Bytes::from_static(b"early")];
            let counts = [&bytes_in, &bytes_out];
            let carried = carry(&mut client, &mut upstream, early, counts).await;
            drop((client, upstream));
            carried
        };
        let talk = async {
            let mut early = [0; 5];
            browser.read_exact(&mut early).await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(&mut browser);
            let (mut there, mut back) = (Vec::new(), Vec::new());
            let echo = async {
                server.read_to_end(&mut there).await.unwrap();
                server.write_all(&there).await.unwrap();
                server.shutdown().await.unwrap();
            };
            let send = async {
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let receive = async { reader.read_to_end(&mut back).await.unwrap() };
            tokio::join!(echo, send, receive);
            assert_eq!(&early, b"early");
            assert_eq!(back, sent);
        };
        let (carried, ()) = tokio::join!(carried, talk);
        carried.unwrap();
        assert_eq!(bytes_in.into_inner(), 100_000);
        assert_eq!(bytes_out.into_inner(), 100_005);
    }
}

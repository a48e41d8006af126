//! Carrying a WebSocket's bytes between a client and Mattermost. Reads no frame. An idle one holds no buffer of its own, and a task of its own
//! size: thousands are open at once.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;

use crate::admission::Admission;
use crate::drain::Drain;
use crate::framing::Checked;
use crate::record::Record;

/// Bytes that are taken from one side at a time; on the stack while they are passed on.
const CHUNK: usize = 8192;

/// A WebSocket that both sides have agreed to.
pub struct Socket {
    pub client: OnUpgrade,
    pub upstream: TcpStream,
    /// Read of the upstream with the head of its answer.
    pub early: Bytes,
}

impl Socket {
    /// Waits for the client's side of the connection and begins to carry; ends when that runs. `IO` is what TLS is spoken over, `held` is let
    /// go when the socket has ended.
    pub async fn begin<IO>(
        self,
        record: Box<Record>,
        leave: impl Future<Output = ()> + Send + 'static,
        held: impl Send + 'static,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // An error means that the client is gone.
        let Ok(client) = self.client.await else {
            return;
        };
        let upstream = self.upstream;
        match client.downcast::<TokioIo<Checked<TlsStream<IO>>>>() {
            // HTTP/1.1: nothing of what carried HTTP is needed any more.
            Ok(parts) => {
                let early = [parts.read_buf, self.early];
                let client = parts.io.into_inner().into_inner();
                let carried = carry_until(client, upstream, early, record, leave, held);
                tokio::spawn(carried);
            }
            // A stream of HTTP/2.
            Err(client) => {
                let (early, client) = ([Bytes::new(), self.early], TokioIo::new(client));
                let carried = carry_until(client, upstream, early, record, leave, held);
                tokio::spawn(carried);
            }
        }
    }
}

/// Resolves when the edge stops, and for a user's socket when users are kept out on purpose. That Mattermost or its database is away for a
/// moment ends no socket: they find their way back behind it.
pub async fn must_leave(mut drain: Drain, admission: Option<watch::Receiver<Admission>>) {
    let closes = async {
        match admission {
            Some(mut admission) => {
                let is_closed = |now: &Admission| now.maintenance().is_some();
                admission.wait_for(is_closed).await.ok();
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ending = drain.begun() => {}
        () = closes => {}
    }
}

/// Until both sides have ended, one has broken, or it must `leave`. Not an `async fn`, which would keep what it is given twice.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice, and there are thousands of these"
)]
fn carry_until<C>(
    mut client: C,
    mut upstream: TcpStream,
    early: [Bytes; 2],
    record: Box<Record>,
    leave: impl Future<Output = ()> + Send + 'static,
    held: impl Send + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    async move {
        let counts = [&*record.bytes_in, &*record.bytes_out];
        tokio::select! {
            // How it ended concerns the two sides alone.
            _ended = carry(&mut client, &mut upstream, early, counts) => {}
            // Clients connect again by themselves; a proper end of TLS tells them at once that they must.
            () = leave => { client.shutdown().await.ok(); }
        }
        drop(held);
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
    let way = |early: Bytes, bytes| Way {
        // Nothing, but as a piece of the buffer that HTTP was read into, would keep that buffer.
        waiting: if early.is_empty() {
            Bytes::new()
        } else {
            early
        },
        // The head of the answer may wait in TLS yet: who upgrades a connection does not wait until it has left.
        unflushed: true,
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

/// One way of a socket.
struct Way<'a> {
    /// Read and not yet written. Empty but when the other side is slower.
    waiting: Bytes,
    unflushed: bool,
    ended: bool,
    bytes: &'a AtomicU64,
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

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

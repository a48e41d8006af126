//! Connections to Mattermost: asks on one that is kept, else on a new one, and keeps it again when the answer has been read. A connection has
//! no task of its own: whoever waits for its answer drives it, so that a request takes one task and wakes no other. Knows nothing of rules.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long an idle connection is kept: below Mattermost's IdleTimeout (300 s, set by the appliance), so that no request meets a closing one.
const IDLE_LIMIT: Duration = Duration::from_secs(240);
/// Connections that are kept at most; more are only open while they are used.
const KEPT: usize = 256;
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Bytes of an answer's header section, and of what is read ahead of its body.
const READ_AHEAD: usize = 128 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("failed to connect to {address}")]
    Connect {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("no answer from {address}")]
    Http {
        address: SocketAddr,
        source: hyper::Error,
    },
}

impl AskError {
    /// The request's own body ended it.
    pub fn is_of_body(&self) -> bool {
        matches!(self, Self::Http { source, .. } if source.is_user())
    }
}

/// Mattermost as it is asked.
pub struct Upstream<B: Body + 'static> {
    address: SocketAddr,
    kept: Kept<B>,
}

type Kept<B> = Arc<Mutex<Vec<(Instant, Link<B>)>>>;

/// One connection; `ended` when it must not be driven any more.
struct Link<B: Body + 'static> {
    sender: SendRequest<B>,
    connection: http1::Connection<TokioIo<TcpStream>, B>,
    ended: bool,
}

/// What Mattermost answered: a message, or a connection that now speaks another protocol, with what was already read of it.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every reply is the large one, and a box would be an allocation for each"
)]
pub enum Reply<B: Body + Unpin + Send + 'static>
where
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Answer(Response<AnswerBody<B>>),
    Switched(Response<()>, TcpStream, Bytes),
}

impl<B> Upstream<B>
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            kept: Arc::default(),
        }
    }

    /// The same address, with connections of its own.
    pub fn twin(&self) -> Self {
        Self::new(self.address)
    }

    /// Sends the request and waits for the head of the answer. A kept connection that turns out to be closed before the request was sent is
    /// passed over; one that closes afterwards is an error, because Mattermost may have acted already.
    pub async fn ask(&self, mut request: Request<B>) -> Result<Reply<B>, AskError> {
        loop {
            let mut link = match self.take().await {
                Some(link) => link,
                None => self.connect().await?,
            };
            match link.ask(request).await {
                Ok(response) => return Ok(link.asked(response, &self.kept)),
                Err(mut failed) => match failed.take_message() {
                    // Only a kept one can have closed before: a new one fails with its own error.
                    Some(unsent) if failed.error().is_canceled() || failed.error().is_closed() => {
                        request = unsent;
                    }
                    _ => {
                        return Err(AskError::Http {
                            address: self.address,
                            source: failed.into_error(),
                        });
                    }
                },
            }
        }
    }

    async fn connect(&self) -> Result<Link<B>, AskError> {
        let failed = |source| AskError::Connect {
            address: self.address,
            source,
        };
        let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(self.address))
            .await
            .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_AHEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| AskError::Http {
                address: self.address,
                source,
            })?;
        Ok(Link {
            sender,
            connection,
            ended: false,
        })
    }

    /// The connection that was used last and is still open.
    async fn take(&self) -> Option<Link<B>> {
        loop {
            let (since, mut link) = {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.pop()?
            };
            // The others have been idle for even longer; `forget_idle` sees to them.
            if since.elapsed() < IDLE_LIMIT
                && poll_fn(|context| Poll::Ready(link.is_usable(context))).await
            {
                return Some(link);
            }
        }
    }

    /// Closes what has been idle for too long, or was closed by Mattermost; to be called from time to time.
    pub fn forget_idle(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut context = Context::from_waker(Waker::noop());
        kept.retain_mut(|(since, link)| {
            since.elapsed() < IDLE_LIMIT && link.is_usable(&mut context)
        });
    }
}

impl<B> Link<B>
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn ask(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, TrySendError<Request<B>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let (connection, ended) = (&mut self.connection, &mut self.ended);
        poll_fn(|context| {
            // The connection first: it sends the request and reads the answer in this very task.
            drive(connection, ended, context);
            answer.as_mut().poll(context)
        })
        .await
    }

    fn asked(mut self, response: Response<Incoming>, kept: &Kept<B>) -> Reply<B> {
        let (parts, body) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            // The head of the answer is the last that this connection says in HTTP.
            let mut context = Context::from_waker(Waker::noop());
            self.drive(&mut context);
            let rest = self.connection.into_parts();
            return Reply::Switched(
                Response::from_parts(parts, ()),
                rest.io.into_inner(),
                rest.read_buf,
            );
        }
        Reply::Answer(Response::from_parts(
            parts,
            AnswerBody {
                incoming: body,
                link: Some(self),
                kept: Arc::clone(kept),
            },
        ))
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        drive(&mut self.connection, &mut self.ended, context);
    }

    /// Whether the next request can be sent on it.
    fn is_usable(&mut self, context: &mut Context<'_>) -> bool {
        self.drive(context);
        !self.ended && self.sender.is_ready()
    }
}

/// How the connection ended is told by the answer.
fn drive<B>(
    connection: &mut http1::Connection<TokioIo<TcpStream>, B>,
    ended: &mut bool,
    context: &mut Context<'_>,
) where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !*ended {
        *ended = Pin::new(connection).poll(context).is_ready();
    }
}

/// An answer's body; drives the connection that it comes from, and gives it back when it has been read to its end.
pub struct AnswerBody<B>
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    incoming: Incoming,
    link: Option<Link<B>>,
    kept: Kept<B>,
}

impl<B> Body for AnswerBody<B>
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let Some(link) = &mut this.link else {
            return Poll::Pending;
        };
        // Nothing had been read ahead; asking for it has just told the connection that it is wanted.
        link.drive(context);
        Pin::new(&mut this.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl<B> Drop for AnswerBody<B>
where
    B: Body + Unpin + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn drop(&mut self) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        // One that is in the middle of a message, a request's too, is not ready and is closed.
        if link.is_usable(&mut Context::from_waker(Waker::noop())) {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT {
                kept.push((Instant::now(), link));
            }
        }
    }
}

//! Bodies on their way through: counts their bytes, gives up one that makes no progress or is too large, drops trailers. Holds one frame at a
//! time, so a body of any size takes the same memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Sleep};

use crate::upstream::AnswerBody;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("a body made no progress for {} s", .0.as_secs())]
pub struct NoProgress(Duration);

#[derive(Debug, thiserror::Error)]
#[error("a body is larger than allowed")]
pub struct TooLarge;

/// What goes to the upstream: a client's body as it comes, or one that was read already.
pub type Outgoing = Either<Passing<Incoming>, Full<Bytes>>;
/// What comes from there.
pub type FromUpstream = Passing<AnswerBody<Outgoing>>;

/// A body that passes through, with its count of bytes.
pub struct Passing<B> {
    inner: B,
    bytes: Arc<AtomicU64>,
    idle: Duration,
    /// Bytes that may still come.
    left: u64,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// Counts bodies that broke off.
    broken: Option<Counter>,
}

impl<B> Passing<B> {
    pub fn new(inner: B, bytes: Arc<AtomicU64>, idle: Duration) -> Self {
        Self {
            inner,
            bytes,
            idle,
            left: u64::MAX,
            timer: None,
            waiting: false,
            broken: None,
        }
    }

    /// `broken` counts if it ends before its end.
    pub fn counted(self, broken: Counter) -> Self {
        Self {
            broken: Some(broken),
            ..self
        }
    }

    fn breaks(&self) {
        if let Some(broken) = &self.broken {
            broken.inc();
        }
    }

    /// Ends with [`TooLarge`] once more than `limit` bytes have come.
    pub fn at_most(self, limit: u64) -> Self {
        Self {
            left: limit,
            ..self
        }
    }
}

impl<B> Body for Passing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match Pin::new(&mut this.inner).poll_frame(context) {
                Poll::Ready(frame) => {
                    this.waiting = false;
                    match frame {
                        Some(Ok(frame)) => match frame.data_ref() {
                            Some(data) => {
                                let length = data.len() as u64;
                                this.bytes.fetch_add(length, Ordering::Relaxed);
                                let Some(left) = this.left.checked_sub(length) else {
                                    return Poll::Ready(Some(Err(Box::new(TooLarge))));
                                };
                                this.left = left;
                                return Poll::Ready(Some(Ok(frame)));
                            }
                            // Trailers end here: nothing behind the edge uses them, and they could carry headers past its rules.
                            None => continue,
                        },
                        Some(Err(error)) => {
                            this.breaks();
                            return Poll::Ready(Some(Err(error.into())));
                        }
                        None => return Poll::Ready(None),
                    }
                }
                Poll::Pending => {
                    let deadline = Instant::now() + this.idle;
                    let timer = this
                        .timer
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
                    if !this.waiting {
                        timer.as_mut().reset(deadline);
                        this.waiting = true;
                    }
                    ready!(timer.as_mut().poll(context));
                    this.breaks();
                    return Poll::Ready(Some(Err(Box::new(NoProgress(this.idle)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What the edge answers with: something of its own, or the upstream's body. `done` is dropped when the answer has been sent or cut off.
pub struct Answer<D> {
    source: Source,
    _done: D,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is the large one, and a box would be an allocation for each"
)]
enum Source {
    Own(Full<Bytes>),
    Upstream(FromUpstream),
}

impl<D> Answer<D> {
    pub fn own(bytes: impl Into<Bytes>, done: D) -> Self {
        Self {
            source: Source::Own(Full::new(bytes.into())),
            _done: done,
        }
    }

    pub fn upstream(body: FromUpstream, done: D) -> Self {
        Self {
            source: Source::Upstream(body),
            _done: done,
        }
    }
}

impl<D: Unpin> Body for Answer<D> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Source::Own(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Source::Upstream(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(body) => body.is_end_stream(),
            Source::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(body) => body.size_hint(),
            Source::Upstream(body) => body.size_hint(),
        }
    }
}

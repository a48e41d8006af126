//! Bodies on their way through: counts their bytes, gives up one that makes no progress, drops trailers. Holds one frame at a time, so a
//! body of any size takes the same memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("a body made no progress for {} s", .0.as_secs())]
pub struct NoProgress(Duration);

/// A body that passes through, with its count of bytes.
pub struct Passing {
    inner: Incoming,
    bytes: Arc<AtomicU64>,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Passing {
    pub fn new(inner: Incoming, bytes: Arc<AtomicU64>, idle: Duration) -> Self {
        Self {
            inner,
            bytes,
            idle,
            timer: None,
            waiting: false,
        }
    }
}

impl Body for Passing {
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
                                this.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                                return Poll::Ready(Some(Ok(frame)));
                            }
                            // Trailers end here: nothing behind the edge uses them, and they could carry headers past its rules.
                            None => continue,
                        },
                        Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
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

enum Source {
    Own(Full<Bytes>),
    Upstream(Passing),
}

impl<D> Answer<D> {
    pub fn own(bytes: impl Into<Bytes>, done: D) -> Self {
        Self {
            source: Source::Own(Full::new(bytes.into())),
            _done: done,
        }
    }

    pub fn upstream(body: Passing, done: D) -> Self {
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

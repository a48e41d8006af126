//! A file as a response body, read piece by piece: at most two pieces of 64 KiB are in memory.

use axum::body::Bytes;
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{Receiver, channel};

pub struct FileBody {
    pieces: Receiver<std::io::Result<Bytes>>,
}

impl FileBody {
    /// Starts reading. With `corrupt`, the first byte is changed (a fault).
    pub fn read(mut file: File, mut corrupt: bool) -> Self {
        let (sender, pieces) = channel(1);
        tokio::spawn(async move {
            loop {
                let mut buffer = vec![0; 65_536];
                let piece = match file.read(&mut buffer).await {
                    Ok(0) => return,
                    Ok(n) => {
                        buffer.truncate(n);
                        if std::mem::take(&mut corrupt) {
                            buffer[0] ^= 1;
                        }
                        Ok(Bytes::from(buffer))
                    }
                    Err(error) => Err(error),
                };
                let failed = piece.is_err();
                // The reader may be gone; an error is the last piece.
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        Self { pieces }
    }
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.pieces
            .poll_recv(context)
            .map(|piece| piece.map(|p| p.map(Frame::data)))
    }
}

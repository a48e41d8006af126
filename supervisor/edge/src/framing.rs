//! What the HTTP library forgives and this edge does not: a request with both Content-Length and Transfer-Encoding. RFC 9112 section 6.1 lets
//! a server refuse it, because it is how requests are smuggled past whatever stands before. The library takes the chunks, drops the length
//! and says nothing, so the bytes are looked at on their way in. Decides nothing else: all that is malformed is the library's to refuse.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Where a reader of requests stands. Follows lengths only as far as to know where the next head begins.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    /// The line so far, lower case, cut: no name or figure that matters is longer.
    line: Line,
    /// Content-Length; Some(None) where it is no figure.
    length: Option<Option<u64>>,
    chunked: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    RequestLine,
    Header,
    /// Bytes of a body with a length, or of a chunk, that are still to come.
    Body(u64),
    ChunkSize,
    /// The chunk, its end of line included.
    Chunk(u64),
    Trailer,
    /// It cannot be known where the next head begins. The library refuses such a request; should it not, the connection goes nowhere.
    Lost,
}

const LINE: usize = 40;

#[derive(Debug)]
struct Line {
    bytes: [u8; LINE],
    length: usize,
    is_cut: bool,
    /// The last byte before the line feed is a carriage return.
    ends_whole: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; LINE],
            length: 0,
            is_cut: false,
            ends_whole: false,
        }
    }
}

impl Line {
    fn push(&mut self, part: &[u8]) {
        let free = LINE - self.length;
        let taken = part.len().min(free);
        self.bytes[self.length..self.length + taken].copy_from_slice(&part[..taken]);
        self.bytes[self.length..self.length + taken].make_ascii_lowercase();
        self.length += taken;
        self.is_cut |= part.len() > free;
        if let Some(last) = part.last() {
            self.ends_whole = *last == b'\r';
        }
    }

    fn text(&self) -> &[u8] {
        self.bytes[..self.length].trim_ascii_end()
    }
}

/// A request was found that must not be understood; its head ends with the byte at this place.
#[derive(Debug, PartialEq, Eq)]
pub struct Conflict(pub usize);

impl Framing {
    /// Goes through the next bytes of a connection.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), Conflict> {
        let mut at = 0;
        while at < bytes.len() {
            let left = &bytes[at..];
            match &mut self.state {
                State::Body(rest) | State::Chunk(rest) => {
                    let taken =
                        usize::try_from(*rest).map_or(left.len(), |rest| rest.min(left.len()));
                    *rest -= taken as u64;
                    at += taken;
                    if *rest == 0 {
                        self.state = match self.state {
                            State::Chunk(_) => State::ChunkSize,
                            _ => State::RequestLine,
                        };
                    }
                }
                State::Lost => return Err(Conflict(at)),
                State::RequestLine | State::Header | State::ChunkSize | State::Trailer => {
                    let end = left.iter().position(|byte| *byte == b'\n');
                    self.line.push(&left[..end.unwrap_or(left.len())]);
                    at += end.map_or(left.len(), |end| end + 1);
                    if end.is_some() {
                        self.end_line().map_err(|()| Conflict(at - 1))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), ()> {
        let line = std::mem::take(&mut self.line);
        let text = line.text();
        self.state = match self.state {
            // Empty lines before a request are passed over (RFC 9112 section 2.2).
            State::RequestLine if text.is_empty() => State::RequestLine,
            State::RequestLine | State::Header if !text.is_empty() => {
                self.note(text, line.is_cut);
                State::Header
            }
            State::Header => return self.end_head(),
            State::ChunkSize => match chunk_size(text) {
                Some(0) => State::Trailer,
                // Two more for the end of line behind it.
                Some(size) => State::Chunk(size.saturating_add(2)),
                None => State::Lost,
            },
            // Only here the library takes a lone line feed for a part of the line.
            State::Trailer if !line.ends_whole => State::Lost,
            State::Trailer if text.is_empty() => State::RequestLine,
            other => other,
        };
        Ok(())
    }

    fn note(&mut self, line: &[u8], is_cut: bool) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        match &line[..colon] {
            b"transfer-encoding" => self.chunked = true,
            b"content-length" => {
                let value = line[colon + 1..].trim_ascii();
                let text = (!is_cut).then(|| std::str::from_utf8(value).ok()).flatten();
                self.length = Some(text.and_then(|value| value.parse().ok()));
            }
            _ => {}
        }
    }

    fn end_head(&mut self) -> Result<(), ()> {
        let (length, chunked) = (self.length.take(), std::mem::take(&mut self.chunked));
        self.state = match (length, chunked) {
            (Some(_), true) => {
                self.state = State::Lost;
                return Err(());
            }
            (None, true) => State::ChunkSize,
            (None | Some(Some(0)), false) => State::RequestLine,
            (Some(Some(length)), false) => State::Body(length),
            (Some(None), false) => State::Lost,
        };
        Ok(())
    }
}

/// RFC 9112 section 7.1: hexadecimal, then perhaps an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|byte| *byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

/// A stream whose reader never sees a request with two lengths whole: the last byte of its head is spoilt, so that it is refused as malformed
/// and the connection closed.
pub struct Checked<IO> {
    inner: IO,
    framing: Box<Framing>,
}

impl<IO> Checked<IO> {
    pub fn new(inner: IO) -> Self {
        Self {
            inner,
            framing: Box::default(),
        }
    }

    /// The stream itself, when it has ceased to speak HTTP.
    pub fn into_inner(self) -> IO {
        self.inner
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Checked<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let read = &mut buffer.filled_mut()[before..];
        if let Err(Conflict(at)) = self.framing.follow(read) {
            read[at..].fill(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Checked<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HARMLESS: &str = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 49\r\n\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n\
         POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1a;x=y\r\nContent-Length: 3\r\n\r\nX: yz\r\n0\r\nTrailer: 1\r\n\r\n\
         GET /c HTTP/1.1\r\nX-Content-Length: 5\r\nHost: a\r\n\r\nPOST /d HTTP/1.1\nContent-Length: 0\n\nGET / HTTP/1.1\r\n\r\n";

    fn conflict_in(text: &str) -> bool {
        Framing::default().follow(text.as_bytes()).is_err()
    }

    #[test]
    fn bodies_are_no_heads() {
        assert_eq!(Framing::default().follow(HARMLESS.as_bytes()), Ok(()));
        let mut framing = Framing::default();
        framing.follow(HARMLESS.as_bytes()).unwrap();
        assert_eq!(framing.state, State::RequestLine);
    }

    #[test]
    fn two_lengths_are_found_in_either_order_and_spelling_and_behind_other_requests() {
        for headers in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding: gzip\r\nX: 1\r\ncontent-LENGTH:5\r\n",
            "Content-Length: 0\r\nTransfer-Encoding:chunked\r\n",
            "Content-Length: +5\r\nTransfer-Encoding: identity\r\n",
            "Content-Length:                                               5\r\nTransfer-Encoding: x\r\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
            assert!(conflict_in(&request), "{headers}");
            assert!(conflict_in(&format!("{HARMLESS}{request}")), "{headers}");
        }
    }

    #[test]
    fn after_a_chunk_without_a_size_nothing_is_believed() {
        assert!(conflict_in(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET / HTTP/1.1\r\n"
        ));
    }

    #[test]
    fn where_the_library_reads_otherwise_nothing_more_is_believed() {
        // A length with so many blanks that it is cut, and a lone line feed among trailers.
        let blanks = " ".repeat(LINE);
        assert!(conflict_in(&format!(
            "POST / HTTP/1.1\r\nContent-Length:{blanks}5\r\n\r\nhelloGET"
        )));
        assert!(conflict_in(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\nGET"
        ));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_arrive(cuts in prop::collection::vec(0usize..400, 0..20), conflict: bool) {
            let last = if conflict { "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" } else { "" };
            let text = format!("{HARMLESS}{last}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut framing = Framing::default();
            let found = cuts
                .windows(2)
                .any(|cut| framing.follow(&text.as_bytes()[cut[0]..cut[1]]).is_err());
            prop_assert_eq!(found, conflict);
        }

        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            Framing::default().follow(&bytes).ok();
        }
    }
}

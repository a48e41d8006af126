//! From a unit's two pipes to batches of whole lines. It never waits for the disk: what finds no room is dropped and counted.
//! Only while the disk takes lines, merely slower than they come, does it pause, and for at most [`PAUSE`]: a moment later there is
//! room, and 1 MiB of pipe lies between the pause and the unit.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use memchr::{memchr, memrchr};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout_at};

use super::line::{Batch, Stream};
use super::shared::Shared;

/// A longer line is cut into pieces of this size, in bytes; each but the last is marked as going on.
pub const LINE_LIMIT: usize = 1 << 20;
/// Read at once, in bytes.
const READ_BYTES: usize = 128 << 10;
/// The longest a pump holds back a unit that is faster than a disk that works.
pub const PAUSE: Duration = Duration::from_millis(20);

thread_local! {
    /// All pumps run on one thread and read in turn: one buffer, however many units there are.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Cuts a stream of bytes into whole lines. Pure.
#[derive(Default)]
pub struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes bytes and hands on what is whole: lines with newlines between them, and whether the last goes on.
    pub fn feed(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Vec<u8>, bool)) {
        // The line that was begun before may become too long by what comes.
        while let Some(room) = LINE_LIMIT.checked_sub(self.pending.len()) {
            let end = memchr(b'\n', bytes).unwrap_or(bytes.len());
            if end <= room {
                break;
            }
            let (head, tail) = bytes.split_at(room);
            self.pending.extend_from_slice(head);
            bytes = tail;
            let rest = self.pending.split_off(whole_characters(&self.pending));
            each(std::mem::replace(&mut self.pending, rest), true);
        }
        let Some(last) = memrchr(b'\n', bytes) else {
            self.pending.extend_from_slice(bytes);
            return;
        };
        let (whole, rest) = bytes.split_at(last);
        let mut lines = std::mem::take(&mut self.pending);
        lines.extend_from_slice(whole);
        each(lines, false);
        self.pending
            .extend_from_slice(rest.get(1..).unwrap_or_default());
    }

    /// What is left when nothing more comes.
    pub fn finish(&mut self, each: &mut impl FnMut(Vec<u8>, bool)) {
        if !self.pending.is_empty() {
            each(std::mem::take(&mut self.pending), false);
        }
    }
}

/// The length without a character that is only begun at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        let Some(byte) = bytes.get(at) else { break };
        let needs = match byte {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => break,
        };
        return if needs > back { at } else { bytes.len() };
    }
    bytes.len()
}

/// One of a unit's pipes.
struct Source {
    pipe: Option<Receiver>,
    stream: Stream,
    splitter: Splitter,
}

impl Source {
    fn open(pipe: Option<OwnedFd>, stream: Stream) -> Self {
        Self {
            // A pipe that cannot be watched has nothing to say.
            pipe: pipe.and_then(|pipe| Receiver::from_owned_fd(pipe).ok()),
            stream,
            splitter: Splitter::default(),
        }
    }

    async fn readable(&self) {
        match &self.pipe {
            // An error shows again when it is read.
            Some(pipe) => drop(pipe.readable().await),
            None => std::future::pending().await,
        }
    }

    /// Reads once, without waiting, and hands on what is whole.
    fn read(&mut self, each: &mut impl FnMut(Stream, Vec<u8>, bool)) {
        let Some(pipe) = &self.pipe else { return };
        let (splitter, stream) = (&mut self.splitter, self.stream);
        let mut each = |bytes: Vec<u8>, more: bool| each(stream, bytes, more);
        let is_open = BUFFER.with_borrow_mut(|buffer| match pipe.try_read(buffer) {
            Ok(0) => false,
            Ok(read) => {
                splitter.feed(buffer.get(..read).unwrap_or_default(), &mut each);
                true
            }
            Err(error) => matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
            ),
        });
        if !is_open {
            splitter.finish(&mut each);
            self.pipe = None;
        }
    }
}

/// Reads both pipes until nobody holds the other ends. `heard` sees every batch before it is queued.
pub(super) async fn pump(
    shared: Arc<Shared>,
    unit: Arc<str>,
    (stdout, stderr): (OwnedFd, Option<OwnedFd>),
    mut heard: impl FnMut(&Batch),
) {
    let mut out = Source::open(Some(stdout), Stream::Stdout);
    let mut err = Source::open(stderr, Stream::Stderr);
    let mut batches = Vec::new();
    while out.pipe.is_some() || err.pipe.is_some() {
        tokio::select! {
            () = out.readable() => {}
            () = err.readable() => {}
        }
        let mut each = |stream, bytes: Vec<u8>, more| {
            let mut batch = Batch::new(Arc::clone(&unit), stream, None, bytes);
            batch.more = more;
            batches.push(batch);
        };
        out.read(&mut each);
        err.read(&mut each);
        for batch in batches.drain(..) {
            heard(&batch);
            offer(&shared, batch).await;
        }
        // Others want their turn too.
        tokio::task::yield_now().await;
    }
}

/// Queues a batch, after a pause if the disk only needs a moment.
async fn offer(shared: &Shared, mut batch: Batch) {
    let deadline = Instant::now() + PAUSE;
    loop {
        let room = shared.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        batch = match shared.offer(batch) {
            Ok(()) => return,
            Err(batch) => batch,
        };
        if !shared.disk_moves(PAUSE) || timeout_at(deadline, room).await.is_err() {
            break;
        }
    }
    shared.offer_or_drop(batch);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut found = Vec::new();
        let mut each = |bytes: Vec<u8>, more| found.push((bytes, more));
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter.feed(chunk, &mut each);
        }
        splitter.finish(&mut each);
        found
    }

    #[test]
    fn lines_are_whole_wherever_the_reads_end() {
        let text = b"one\n\ntwo\r\nthree";
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            let joined: Vec<_> = split(&[head, tail])
                .into_iter()
                .map(|(bytes, _)| bytes)
                .collect();
            assert_eq!(joined.join(&b'\n'), text, "cut at {cut}");
        }
        assert_eq!(split(&[b"\n"]), [(vec![], false)]);
    }

    #[test]
    fn a_line_of_the_limit_is_whole_and_a_longer_one_is_marked() {
        let mut line = vec![b'x'; LINE_LIMIT];
        line.push(b'\n');
        let chunks: Vec<&[u8]> = line.chunks(READ_BYTES).collect();
        let whole = split(&chunks);
        assert_eq!((whole.len(), whole[0].0.len()), (1, LINE_LIMIT));
        line.insert(0, b'x');
        let chunks: Vec<&[u8]> = line.chunks(READ_BYTES).collect();
        let pieces: Vec<_> = split(&chunks)
            .into_iter()
            .map(|(bytes, more)| (bytes.len(), more))
            .collect();
        assert_eq!(pieces, [(LINE_LIMIT, true), (1, false)]);
    }

    #[test]
    fn a_cut_never_goes_through_a_character() {
        let line = "\u{e9}".repeat(LINE_LIMIT);
        let line = format!("x{line}");
        let chunks: Vec<&[u8]> = line.as_bytes().chunks(READ_BYTES).collect();
        let pieces = split(&chunks);
        assert!(pieces.len() >= 3);
        for (bytes, _) in &pieces {
            assert!(std::str::from_utf8(bytes).is_ok());
        }
        let all: Vec<u8> = pieces.into_iter().flat_map(|(bytes, _)| bytes).collect();
        assert_eq!(all, line.as_bytes());
    }
}

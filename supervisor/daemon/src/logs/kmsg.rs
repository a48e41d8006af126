//! The kernel's own messages, /dev/kmsg (Documentation/ABI/testing/dev-kmsg): one read is one record. The number of the last one is
//! kept in /run, so that an atalayad that starts again goes on where the former stopped; a gap in the numbers is counted.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use tokio::io::unix::AsyncFd;

use super::line::{Batch, Level, Stream};
use super::shared::Shared;
use crate::clock;

const DEVICE: &str = "/dev/kmsg";
/// The kernel cuts a record there (CONSOLE_EXT_LOG_MAX, and a little).
const RECORD_BYTES: usize = 16 << 10;
const KERNEL: &str = "kernel";
/// Whoever writes to /dev/kmsg is not the kernel; its facility says so. init does, before there is anybody else to tell.
const INIT: &str = "init";
const INIT_PREFIX: &[u8] = b"init: ";
const OTHERS: &str = "kmsg";

/// One record.
#[derive(Debug, PartialEq, Eq)]
struct Record<'a> {
    level: Level,
    /// 0 is the kernel (syslog(3)).
    facility: u32,
    sequence: u64,
    /// Microseconds since the kernel started.
    us: u64,
    text: &'a [u8],
}

/// `6,339,5140900,-;the text`, then lines of the dictionary, which begin with a space.
fn parse(record: &[u8]) -> Option<Record<'_>> {
    let semicolon = memchr::memchr(b';', record)?;
    let (head, text) = record.split_at(semicolon);
    let text = text.get(1..)?;
    let text = memchr::memchr(b'\n', text).map_or(text, |end| text.get(..end).unwrap_or(text));
    let mut fields = std::str::from_utf8(head).ok()?.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    Some(Record {
        level: Level::of_priority(priority),
        facility: priority >> 3,
        sequence: fields.next()?.parse().ok()?,
        us: fields.next()?.parse().ok()?,
        text,
    })
}

/// The kernel writes what is not printable as `\x1b`, and the backslash as `\x5c`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .strip_prefix(b"x")
            .filter(|_| *first == b'\\')
            .and_then(|tail| std::str::from_utf8(tail.get(..2)?).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            // A line stays a line.
            Some(code) if code != b'\n' => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            Some(_) | None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

pub(super) fn open() -> io::Result<File> {
    let mut device = File::options()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open(DEVICE)?;
    // The beginning of what the kernel still has.
    device.seek(SeekFrom::Start(0))?;
    Ok(device)
}

/// From records to batches: all that can be read at once, in order.
struct Source {
    mark: PathBuf,
    /// The number of the next one that was not seen yet.
    next: u64,
    names: [Arc<str>; 3],
}

impl Source {
    fn new(mark: PathBuf) -> Self {
        let text = fs::read_to_string(&mark).unwrap_or_default();
        Self {
            mark,
            next: text.trim().parse().unwrap_or(0),
            names: [KERNEL.into(), INIT.into(), OTHERS.into()],
        }
    }

    fn take(&mut self, bytes: &[u8], each: &mut impl FnMut(Batch)) {
        let Some(record) = parse(bytes) else { return };
        if record.sequence < self.next {
            return;
        }
        let missing = record.sequence - self.next;
        if missing > 0 {
            let text = format!("{missing} lines were dropped: the kernel's buffer was full");
            each(self.batch(0, Level::Warning, record.us, text.into_bytes()));
        }
        self.next = record.sequence + 1;
        let text = unescape(record.text);
        each(self.batch(record.facility, record.level, record.us, text));
    }

    fn batch(&self, facility: u32, level: Level, us: u64, text: Vec<u8>) -> Batch {
        let [kernel, init, others] = &self.names;
        let (unit, text) = match text.strip_prefix(INIT_PREFIX) {
            _ if facility == 0 => (kernel, text),
            Some(rest) => (init, rest.to_vec()),
            None => (others, text),
        };
        let mut batch = Batch::new(Arc::clone(unit), Stream::Kmsg, Some(level), text);
        // When it was said, not when it was read.
        let ago_ms = clock::boottime_us().saturating_sub(us) / 1000;
        batch.wall_ms = batch.wall_ms.saturating_sub(ago_ms);
        batch
    }

    fn keep_mark(&self) {
        // In /run, which is memory. Without it lines are logged twice after a crash.
        write_mark(&self.mark, self.next).ok();
    }
}

fn write_mark(path: &Path, next: u64) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    io::Write::write_all(&mut file, next.to_string().as_bytes())?;
    fs::rename(&temporary, path)
}

pub(super) async fn pump(shared: Arc<Shared>, device: File, mark: PathBuf) {
    #[allow(deprecated)]
    // its successor is unsafe, for types that lend a descriptor which is not theirs; a File does not
    let Ok(mut device) = AsyncFd::new(device) else {
        return;
    };
    let mut source = Source::new(mark);
    let mut record = vec![0; RECORD_BYTES];
    loop {
        let Ok(mut ready) = device.readable_mut().await else {
            return;
        };
        let mut seen = false;
        loop {
            match ready.get_inner_mut().read(&mut record) {
                Ok(0) => return,
                Ok(length) => {
                    seen = true;
                    let bytes = record.get(..length).unwrap_or_default();
                    source.take(bytes, &mut |batch| shared.offer_or_drop(batch));
                }
                // EPIPE: what was to be read next is overwritten; the gap shows in the numbers.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    break;
                }
                Err(_) => return,
            }
        }
        if seen {
            source.keep_mark();
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_the_kernel_documents_it() {
        let record = b"6,339,5140900,-,caller=T1;NET: Registered \\x5c protocol\n SUBSYSTEM=net\n";
        let parsed = parse(record).unwrap();
        assert_eq!(
            (parsed.level, parsed.facility, parsed.sequence, parsed.us),
            (Level::Info, 0, 339, 5_140_900)
        );
        assert_eq!(unescape(parsed.text), b"NET: Registered \\ protocol");
        assert_eq!(parse(b"30,1,2,-;x").unwrap().facility, 3);
        assert_eq!(unescape(b"a\\x1b[31m\\xzz\\"), b"a\x1b[31m\\xzz\\");
        assert_eq!(unescape(b"a\\x0ab"), b"a\\x0ab");
        for junk in [&b""[..], b";", b"x,1,2,-;y", b"6,1;y", b"\xff;"] {
            assert_eq!(parse(junk), None);
        }
    }

    #[test]
    fn a_gap_is_counted_and_what_was_seen_is_not_told_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("kmsg");
        let mut said = Vec::new();
        let mut take = |source: &mut Source, record: &[u8]| {
            source.take(record, &mut |batch| {
                said.extend(batch.texts().map(|text| format!("{}: {text}", batch.unit)));
            });
        };
        let mut source = Source::new(mark.clone());
        take(&mut source, b"6,0,1,-;zero");
        take(&mut source, b"6,4,1,-;four");
        source.keep_mark();
        let mut again = Source::new(mark);
        take(&mut again, b"6,0,1,-;zero");
        take(&mut again, b"6,4,1,-;four");
        take(&mut again, b"6,5,1,-;init: five");
        take(&mut again, b"30,6,1,-;init: data: ready");
        take(&mut again, b"30,7,1,-;udevd[1]: words");
        assert_eq!(
            said,
            [
                "kernel: zero",
                "kernel: 3 lines were dropped: the kernel's buffer was full",
                "kernel: four",
                "kernel: init: five",
                "init: data: ready",
                "kmsg: udevd[1]: words"
            ]
        );
    }
}

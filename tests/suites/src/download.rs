//! A web server for one file, as an administrator's own: it understands ranges, and can break off in the middle. What a
//! machine with QEMU's network asks for at 10.0.2.2 comes from here.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Context;

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Download {
    port: u16,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    /// Answers end after so many bytes; 0: they do not.
    limit: AtomicU64,
    sent: AtomicU64,
    /// No more than so many bytes are sent in all.
    held_after: Mutex<u64>,
    more: Condvar,
    over: AtomicBool,
    /// The `Range` of each request.
    asked: Mutex<Vec<Option<String>>>,
}

impl Download {
    /// Serves this file under its own name and any other.
    pub fn start(file: &Path) -> anyhow::Result<Download> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen on loopback")?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            file: file.to_owned(),
            limit: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            held_after: Mutex::new(u64::MAX),
            more: Condvar::new(),
            over: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        let server = thread::spawn(move || {
            for stream in listener.incoming() {
                if served.over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&served);
                // One who goes away in the middle is no fault of this server's.
                thread::spawn(move || answer(stream, &shared).ok());
            }
        });
        Ok(Download {
            port,
            shared,
            server: Some(server),
        })
    }

    /// Its address as a machine behind QEMU's network sees it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://10.0.2.2:{}/atalaya.bundle", self.port)
    }

    /// Every answer from now on breaks off after so many bytes; 0: none does.
    pub fn break_off_after(&self, bytes: u64) {
        self.shared.limit.store(bytes, Ordering::Relaxed);
    }

    /// When about so many bytes were sent in all, whoever asks has to wait; [`u64::MAX`]: nobody has.
    pub fn hold_after(&self, bytes: u64) {
        let held = self.shared.held_after.lock();
        *held.unwrap_or_else(PoisonError::into_inner) = bytes;
        self.shared.more.notify_all();
    }

    /// Bytes of the file that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// The `Range` of each request so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Option<String>> {
        let asked = self.shared.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.hold_after(u64::MAX);
        // The accepting thread looks at the flag when somebody comes.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
        if let Some(server) = self.server.take() {
            server.join().ok();
        }
    }
}

impl Shared {
    fn wait_for_leave(&self) {
        let held = self
            .held_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_held = |held: &mut u64| self.sent.load(Ordering::Relaxed) >= *held;
        drop(self.more.wait_while(held, is_held));
    }
}

fn answer(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let (mut request, mut range) = (String::new(), None);
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    let mut file = File::open(&shared.file)?;
    let size = file.metadata()?.len();
    shared
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(range.clone());
    let (from, to) = match range.as_deref().map(|range| parse_range(range, size)) {
        None => (0, size),
        Some(Some(part)) => part,
        Some(None) => {
            return write!(
                stream,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{size}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
    };
    let status = match range {
        Some(_) => format!(
            "206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}",
            to - 1
        ),
        None => "200 OK".to_owned(),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
         Accept-Ranges: bytes\r\nETag: \"{size}\"\r\nConnection: close\r\n\r\n",
        to - from
    )?;
    if request.starts_with("HEAD") {
        return Ok(());
    }
    let limit = match shared.limit.load(Ordering::Relaxed) {
        0 => u64::MAX,
        limit => limit,
    };
    file.seek(SeekFrom::Start(from))?;
    let mut part = file.take((to - from).min(limit));
    let mut piece = vec![0; 1 << 16];
    loop {
        let count = part.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        shared.wait_for_leave();
        stream.write_all(&piece[..count])?;
        shared.sent.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// `bytes=FROM-` or `bytes=FROM-LAST`, as the half-open range that it means.
fn parse_range(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let to = match last {
        "" => size,
        last => last.parse::<u64>().ok()?.checked_add(1)?.min(size),
    };
    (from < to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(port: u16, range: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        write!(stream, "GET /x HTTP/1.1\r\n{range}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
        let body = answer.split_off(end.unwrap() + 4);
        (String::from_utf8(answer).unwrap(), body)
    }

    #[test]
    fn a_file_is_served_whole_in_part_and_broken_off() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789").unwrap();
        let server = Download::start(file.path()).unwrap();
        let (head, body) = get(server.port, "");
        assert!(head.starts_with("HTTP/1.1 200 ") && body == b"0123456789");
        let (head, body) = get(server.port, "Range: bytes=4-6\r\n");
        assert!(head.contains("Content-Range: bytes 4-6/10") && body == b"456");
        let (head, _) = get(server.port, "Range: bytes=10-\r\n");
        assert!(head.starts_with("HTTP/1.1 416 "));
        server.break_off_after(3);
        let (head, body) = get(server.port, "Range: bytes=5-\r\n");
        assert!(head.contains("Content-Length: 5") && body == b"567");
        assert_eq!((server.sent(), server.asked().len()), (16, 4));
        server.hold_after(16);
        let port = server.port;
        let held = thread::spawn(move || get(port, "Range: bytes=5-\r\n"));
        while server.asked().len() < 5 {
            thread::yield_now();
        }
        assert_eq!(server.sent(), 16, "who asks now has to wait");
        server.hold_after(u64::MAX);
        assert_eq!(held.join().unwrap().1, b"567");
    }
}

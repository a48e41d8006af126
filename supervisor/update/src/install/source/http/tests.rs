use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread::JoinHandle;

/// What a server does with one request; the next request gets the next, the last goes on for ever.
#[derive(Debug, Clone, Copy)]
enum Deed {
    /// The part that was asked for.
    Serve,
    /// The same, but the connection ends after so many bytes of it.
    BreakOff(usize),
    /// The whole, whatever was asked for.
    Whole,
    /// A part of another file of the same length.
    Changed,
    Status(u16, &'static str),
}

/// A web server on a port of its own with one file.
struct Server {
    address: String,
    /// The Range of each request.
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(file: Vec<u8>, deeds: Vec<Deed>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/atalaya.bundle", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&asked);
        let thread = std::thread::spawn(move || {
            let mut deeds = deeds.into_iter();
            let mut deed = deeds.next().unwrap();
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some(range) = request(&mut stream) {
                    if range == "stop" {
                        return;
                    }
                    requests.lock().unwrap().push(range.clone());
                    let go_on = answer(stream.get_mut(), &file, &range, deed);
                    deed = deeds.next().unwrap_or(deed);
                    if !go_on {
                        break;
                    }
                }
            }
        });
        Self {
            address,
            asked,
            thread: Some(thread),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let place = self.address.split('/').nth(2).unwrap();
        let mut stream = TcpStream::connect(place).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nrange: stop\r\n\r\n")
            .unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The value of Range of the next request.
fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut range = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("range:") {
            range = value.trim().to_owned();
        }
        if line == "\r\n" {
            return Some(range);
        }
    }
}

fn answer(stream: &mut TcpStream, file: &[u8], range: &str, deed: Deed) -> bool {
    let parsed = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'));
    let (first, last) = parsed.map_or((0, file.len() - 1), |(first, last)| {
        (first.parse().unwrap(), last.parse().unwrap())
    });
    let last = usize::min(last, file.len() - 1);
    let tag = if matches!(deed, Deed::Changed) {
        "new"
    } else {
        "old"
    };
    let part = |body: &[u8]| {
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\netag: \"{tag}\"\r\ncontent-range: bytes {first}-{last}/{}\r\ncontent-length: {}\r\n\r\n",
            file.len(),
            last + 1 - first
        );
        [head.as_bytes(), body].concat()
    };
    let bytes = match deed {
        Deed::Status(code, headers) => {
            format!("HTTP/1.1 {code} No\r\n{headers}content-length: 0\r\n\r\n").into_bytes()
        }
        Deed::Serve | Deed::Changed if first >= file.len() => format!(
            "HTTP/1.1 416 No\r\ncontent-range: bytes */{}\r\ncontent-length: 0\r\n\r\n",
            file.len()
        )
        .into_bytes(),
        Deed::Serve | Deed::Changed => part(&file[first..=last]),
        Deed::BreakOff(count) => part(&file[first..first + count]),
        Deed::Whole => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", file.len());
            [head.as_bytes(), file].concat()
        }
    };
    // Whoever skips closes the connection.
    stream.write_all(&bytes).is_ok() && !matches!(deed, Deed::BreakOff(_))
}

fn file(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index / 7 % 251) as u8).collect()
}

/// A source that waits for nothing, and the seconds it was to wait.
fn http(server: &Server) -> (Http, Meter, Arc<Mutex<Vec<u64>>>) {
    let meter = Meter::default();
    let waits = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&waits);
    let http = Http::new(&server.address, meter.clone())
        .unwrap()
        .waiting_by(Box::new(move |pause| {
            noted.lock().unwrap().push(pause.as_secs())
        }));
    (http, meter, waits)
}

fn read(source: &mut Http, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let mut done = 0;
    while done < count {
        match source.read(&mut bytes[done..])? {
            0 => break,
            more => done += more,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[test]
fn a_whole_file_comes_in_ranges_that_grow() {
    let file = file(5 << 20);
    let server = Server::start(file.clone(), vec![Deed::Serve]);
    let (mut source, meter, waits) = http(&server);
    assert!(read(&mut source, 6 << 20).unwrap() == file);
    assert_eq!(source.read(&mut [0; 10]).unwrap(), 0);
    assert_eq!(meter.bytes(), 5 << 20);
    assert!(waits.lock().unwrap().is_empty());
    let asked = server.asked();
    assert_eq!(asked[..2], ["bytes=0-262143", "bytes=262144-786431"]);
    assert_eq!(asked.len(), 5);
}

#[test]
fn what_is_skipped_is_not_fetched() {
    let file = file(4 << 20);
    let server = Server::start(file.clone(), vec![Deed::Serve]);
    let (mut source, meter, _) = http(&server);
    let mut bytes = read(&mut source, 1000).unwrap();
    source.skip(2 << 20).unwrap();
    bytes.extend(read(&mut source, 1000).unwrap());
    // A short gap costs less than a request.
    source.skip(1000).unwrap();
    bytes.extend(read(&mut source, 1000).unwrap());
    let second = 1000 + (2 << 20);
    let expected = [
        &file[..1000],
        &file[second..second + 1000],
        &file[second + 2000..second + 3000],
    ];
    assert!(bytes == expected.concat());
    assert_eq!(server.asked().len(), 2);
    assert_eq!(meter.bytes(), 4000);
    // Behind the end there is nothing.
    source.skip(4 << 20).unwrap();
    assert_eq!(source.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn what_was_announced_is_asked_for_at_once_and_no_more() {
    let file = file(4 << 20);
    let server = Server::start(file.clone(), vec![Deed::Serve]);
    let (mut source, meter, _) = http(&server);
    source.announce(3 << 20);
    // Of what was announced some may be skipped, when it turns out to be there.
    let mut bytes = read(&mut source, 1 << 20).unwrap();
    source.skip(1000).unwrap();
    bytes.extend(read(&mut source, (2 << 20) - 1000).unwrap());
    source.skip(500_000).unwrap();
    source.announce(2000);
    bytes.extend(read(&mut source, 2000).unwrap());
    let last = (3 << 20) + 500_000;
    let expected = [
        &file[..1 << 20],
        &file[(1 << 20) + 1000..3 << 20],
        &file[last..last + 2000],
    ];
    assert!(bytes == expected.concat());
    let ranges = [
        format!("bytes=0-{}", (3 << 20) - 1),
        format!("bytes={last}-{}", last + 1999),
    ];
    assert_eq!(server.asked(), ranges);
    assert_eq!(meter.bytes(), (3 << 20) + 2000);
}

#[test]
fn what_breaks_off_is_continued_where_it_ended() {
    let file = file(300_000);
    let deeds = vec![
        Deed::BreakOff(100_000),
        Deed::Status(503, "retry-after: 7\r\n"),
        Deed::BreakOff(50_000),
        Deed::Serve,
    ];
    let server = Server::start(file.clone(), deeds);
    let (mut source, meter, waits) = http(&server);
    assert!(read(&mut source, 400_000).unwrap() == file);
    assert_eq!(waits.lock().unwrap()[..], [1, 7, 1]);
    assert_eq!(meter.bytes(), 300_000);
    let asked = server.asked();
    assert!(asked[1].starts_with("bytes=100000-") && asked[3].starts_with("bytes=150000-"));
}

#[test]
fn a_server_without_ranges_is_read_from_the_beginning() {
    let file = file(600_000);
    let server = Server::start(file.clone(), vec![Deed::Whole]);
    let (mut source, meter, _) = http(&server);
    let mut bytes = read(&mut source, 1000).unwrap();
    source.skip(500_000).unwrap();
    bytes.extend(read(&mut source, 200_000).unwrap());
    assert!(bytes == [&file[..1000], &file[501_000..]].concat());
    assert_eq!(source.read(&mut [0; 10]).unwrap(), 0);
    assert_eq!(server.asked().len(), 1);
    assert_eq!(meter.bytes(), 600_000);
}

#[test]
fn two_files_are_not_mixed() {
    for changed in [Deed::Changed, Deed::Whole] {
        let server = Server::start(file(1 << 20), vec![Deed::Serve, changed]);
        let (mut source, ..) = http(&server);
        let error = read(&mut source, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("has changed"), "{error}");
    }
}

#[test]
fn a_refusal_is_final_and_a_server_that_never_answers_is_given_up() {
    let server = Server::start(file(10), vec![Deed::Status(404, "")]);
    let (mut source, _, waits) = http(&server);
    let error = read(&mut source, 10).unwrap_err().to_string();
    assert!(
        error.contains("404") && error.contains("/atalaya.bundle"),
        "{error}"
    );
    assert!(waits.lock().unwrap().is_empty());

    let server = Server::start(file(10), vec![Deed::Status(500, "")]);
    let (mut source, _, waits) = http(&server);
    let error = read(&mut source, 10).unwrap_err().to_string();
    assert!(error.contains("500"), "{error}");
    assert_eq!(waits.lock().unwrap()[..], [1, 2]);
}

#[test]
fn nothing_secret_is_shown() {
    for (address, expected) in [
        (
            "https://me:word@example.com/b?token=1#x",
            "https://example.com/b",
        ),
        (
            "https://example.com:8443/a@b",
            "https://example.com:8443/a@b",
        ),
        ("http://example.com?q", "http://example.com"),
    ] {
        assert_eq!(shown(address), expected);
    }
}

#[test]
fn what_is_no_web_address_is_refused() {
    for address in [
        "",
        "ftp://example.com/b",
        "/etc/passwd",
        "file:///etc/passwd",
    ] {
        assert!(Http::new(address, Meter::default()).is_err(), "{address}");
    }
}

#[test]
fn ranges_are_read_strictly() {
    assert_eq!(content_range("bytes 0-99/1000"), Some((0, 99, 1000)));
    for text in [
        "",
        "bytes 0-99/*",
        "bytes 5-4/10",
        "bytes 0-10/10",
        "0-1/2",
        "bytes -1/2",
    ] {
        assert_eq!(content_range(text), None, "{text}");
    }
}

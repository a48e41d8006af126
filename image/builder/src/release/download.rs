//! Fetches a file over HTTPS: with progress, continued where a former try ended, put into place when it is complete.

use crate::progress::Stage;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::tls::{RootCerts, TlsConfig};

/// No connection within this time counts as not to be had.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Nothing received for this long ends a try.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// A broken transfer is continued this often.
const TRIES: u32 = 5;
/// The machine's own certificates, so that a company's own authority counts here too.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Downloads `address` to `file`; what there is of it is kept in `file`.part when it breaks off.
pub fn fetch(address: &str, file: &Path, stage: &Stage<'_>) -> Result<(), String> {
    let part = part_of(file);
    let agent = agent()?;
    let mut tries = 0;
    loop {
        match continue_download(&agent, address, &part, stage) {
            Ok(()) => break,
            Err(Broken::Final(reason)) => return Err(reason),
            Err(Broken::Midway(reason)) => {
                tries += 1;
                if tries == TRIES {
                    return Err(reason);
                }
                stage.note(&format!("{reason}; continuing"));
            }
        }
    }
    fs::rename(&part, file).map_err(|error| error.to_string())
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

enum Broken {
    /// Trying again is of no use.
    Final(String),
    /// Some of it came.
    Midway(String),
}

fn agent() -> Result<ureq::Agent, String> {
    let pem = fs::read(CERTIFICATES).map_err(|error| format!("{CERTIFICATES}: {error}"))?;
    let roots: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    Ok(ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_resolve(Some(CONNECT_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(SILENCE_LIMIT))
        .http_status_as_error(false)
        .build()
        .into())
}

fn continue_download(
    agent: &ureq::Agent,
    address: &str,
    part: &Path,
    stage: &Stage<'_>,
) -> Result<(), Broken> {
    let have = fs::metadata(part).map_or(0, |data| data.len());
    let mut request = agent.get(address);
    if have > 0 {
        request = request.header("range", format!("bytes={have}-"));
    }
    let response = request
        .call()
        .map_err(|error| Broken::Final(error.to_string()))?;
    let status = response.status().as_u16();
    let mut done = match status {
        206 => have,
        200 => 0,
        // The part is the whole already; its checksum will tell.
        416 if have > 0 => return Ok(()),
        _ => return Err(Broken::Final(format!("the server answers {status}"))),
    };
    let length: Option<u64> = response
        .headers()
        .get("content-length")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let total = length.map(|length| done + length);
    let io = |error: std::io::Error| Broken::Final(format!("{}: {error}", part.display()));
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(part)
        .map_err(io)?;
    file.set_len(done).map_err(io)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(done)).map_err(io)?;
    let mut body = response.into_body().into_reader();
    let mut block = vec![0_u8; 1 << 16];
    let mut shown = Shown::new();
    loop {
        let count = body
            .read(&mut block)
            .map_err(|error| Broken::Midway(format!("the transfer broke off ({error})")))?;
        if count == 0 {
            break;
        }
        file.write_all(block.get(..count).unwrap_or_default())
            .map_err(io)?;
        done += count as u64;
        shown.show(stage, done, total);
    }
    if total.is_some_and(|total| done < total) {
        return Err(Broken::Midway("the transfer ended early".to_owned()));
    }
    file.sync_all().map_err(io)
}

/// On a terminal the line moves; without one, a line comes at every tenth.
struct Shown {
    tenth: u64,
    last: Instant,
}

impl Shown {
    fn new() -> Self {
        Self {
            tenth: 0,
            last: Instant::now(),
        }
    }

    fn show(&mut self, stage: &Stage<'_>, done: u64, total: Option<u64>) {
        let text = match total {
            Some(total) => format!("{} of {} MiB", done >> 20, total >> 20),
            None => format!("{} MiB", done >> 20),
        };
        if stage.is_terminal() {
            if self.last.elapsed() > Duration::from_millis(200) {
                stage.say(&text);
                self.last = Instant::now();
            }
        } else if let Some(tenth) = total.and_then(|total| (done * 10).checked_div(total))
            && tenth > self.tenth
        {
            self.tenth = tenth;
            stage.note(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    /// Answers each connection with the next of `answers`; gives the Range headers it saw.
    fn server(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/f", listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            let mut ranges = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut range = String::new();
                for line in BufReader::new(&stream).lines() {
                    let line = line.unwrap().to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("range: ") {
                        range = value.to_owned();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                ranges.push(range);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            ranges
        });
        (address, thread)
    }

    fn download(address: &str, file: &Path) -> Result<(), String> {
        let mut progress = Progress::new();
        let stage = progress.stage("release");
        fetch(address, file, &stage)
    }

    #[test]
    fn a_broken_transfer_is_continued_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let (address, thread) = server(vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\n01234".to_owned(),
            "HTTP/1.1 206 Partial\r\ncontent-length: 5\r\nconnection: close\r\n\r\n56789"
                .to_owned(),
        ]);
        download(&address, &file).unwrap();
        assert_eq!(thread.join().unwrap(), ["", "bytes=5-"]);
        assert_eq!(fs::read(&file).unwrap(), b"0123456789");
        assert!(!part_of(&file).exists());
    }

    #[test]
    fn a_server_that_cannot_continue_sends_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        File::create(part_of(&file))
            .unwrap()
            .write_all(b"old!!")
            .unwrap();
        let (address, thread) = server(vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nnew".to_owned(),
        ]);
        download(&address, &file).unwrap();
        assert_eq!(thread.join().unwrap(), ["bytes=5-"]);
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_refusal_is_told_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let (address, thread) = server(vec![
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        ]);
        assert_eq!(
            download(&address, &file).unwrap_err(),
            "the server answers 404"
        );
        thread.join().unwrap();
        assert!(!file.exists() && !part_of(&file).exists());
    }

    #[test]
    fn nobody_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let text = download(
            &format!("http://127.0.0.1:{port}/f"),
            &folder.path().join("f"),
        )
        .unwrap_err();
        assert!(text.to_lowercase().contains("refused"), "{text}");
    }

    use std::fs::File;
}

//! A bundle on a web server, read by ranges: what is skipped is not fetched, and what breaks off is continued.
//!
//! A range is asked for, not the rest of the file, because a connection that is closed in the middle has always brought more than was read. It
//! is what was announced; where nothing was, it doubles as long as everything in it is wanted.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use atalaya_bundle::Source;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, BodyReader};

use super::Meter;
use super::patience::Patience;

/// Debian's public authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Nothing received for this long ends a try.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
const REDIRECTS: u32 = 5;
const FIRST_RANGE: u64 = 256 << 10;
const LONGEST_RANGE: u64 = 8 << 20;
/// A shorter gap is read and dropped: to ask again takes longer.
pub const GAP: u64 = 64 << 10;

/// What waits between two tries.
pub type Waiter = Box<dyn FnMut(Duration)>;

pub struct Http {
    agent: Agent,
    address: String,
    meter: Meter,
    /// Of the byte that is read next.
    position: u64,
    /// Of the whole bundle, once the server has said it.
    total: Option<u64>,
    /// Whether the server gives parts; it does until it has given the whole instead.
    ranges: bool,
    /// Strong ETag: parts of two files must not be mixed.
    tag: Option<String>,
    range: u64,
    /// Up to there everything was said to be wanted.
    announced: u64,
    body: Option<Open>,
    patience: Patience,
    wait: Waiter,
}

/// A response that is being read.
struct Open {
    reader: BodyReader<'static>,
    /// Of its next byte in the bundle.
    at: u64,
    /// Where it ends, if that is known.
    end: Option<u64>,
}

/// Why a request brought nothing.
#[derive(Debug)]
enum Failure {
    /// To ask again is of no use.
    Final(String),
    /// The server may have asked to be left alone for a while.
    Passing(String, Option<Duration>),
    /// The position is behind the last byte.
    End,
}

impl Http {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// It is no address, or the public authorities cannot be read.
    pub fn new(address: &str, meter: Meter) -> io::Result<Self> {
        let secure = address.starts_with("https://");
        if !secure && !address.starts_with("http://") {
            let text = "an address begins with http:// or https://";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut config = Agent::config_builder()
            .proxy(None)
            .max_redirects(REDIRECTS)
            .https_only(secure)
            .http_status_as_error(false)
            .user_agent("atalaya-update")
            .accept_encoding("identity")
            .timeout_resolve(Some(CONNECT_LIMIT))
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_recv_response(Some(SILENCE_LIMIT))
            .timeout_per_read(Some(SILENCE_LIMIT));
        if secure {
            config = config.tls_config(tls()?);
        }
        Ok(Self {
            agent: config.build().into(),
            address: address.to_owned(),
            meter,
            position: 0,
            total: None,
            ranges: true,
            tag: None,
            range: FIRST_RANGE,
            announced: 0,
            body: None,
            patience: Patience::default(),
            wait: Box::new(std::thread::sleep),
        })
    }

    /// With something else that waits.
    #[must_use]
    pub fn waiting_by(mut self, wait: Waiter) -> Self {
        self.wait = wait;
        self
    }

    /// A response whose next byte is the wanted one.
    fn open(&mut self) -> Result<&mut Open, Failure> {
        if self.body.as_ref().is_none_or(|open| !self.leads_to(open)) {
            self.body = None;
            self.body = Some(self.ask()?);
        }
        let position = self.position;
        let open = self.body.as_mut().ok_or(Failure::End)?;
        while open.at < position {
            let mut dropped = [0; 16 << 10];
            let wanted = usize::try_from(position - open.at).unwrap_or(usize::MAX);
            let length = wanted.min(dropped.len());
            let count = match open.reader.read(&mut dropped[..length]) {
                Ok(0) => return Err(Failure::End),
                Ok(count) => count,
                Err(error) => return Err(Failure::Passing(error.to_string(), None)),
            };
            self.meter.add(count);
            open.at += count as u64;
        }
        Ok(open)
    }

    /// Whether to read on in it is better than to ask again.
    fn leads_to(&self, open: &Open) -> bool {
        let near = self.position.saturating_sub(open.at) <= GAP;
        let ends_before = open.end.is_some_and(|end| end < self.position);
        open.at <= self.position && (!self.ranges || near && !ends_before)
    }

    fn ask(&mut self) -> Result<Open, Failure> {
        if self.total.is_some_and(|total| self.position >= total) {
            return Err(Failure::End);
        }
        let announced = self.announced.saturating_sub(self.position);
        let range = if announced > 0 { announced } else { self.range };
        let last = self.position.saturating_add(range) - 1;
        let mut request = self.agent.get(&self.address);
        if self.ranges {
            request = request.header(header::RANGE, format!("bytes={}-{last}", self.position));
            if let Some(tag) = &self.tag {
                request = request.header(header::IF_RANGE, tag);
            }
        }
        let response = request.call().map_err(failure)?;
        let status = response.status().as_u16();
        match status {
            200 => self.whole(response),
            206 => self.part(response),
            416 if self.position > 0 => Err(Failure::End),
            408 | 425 | 429 | 500..=599 => {
                let text = format!("the server answers {}", response.status());
                Err(Failure::Passing(text, retry_after(response.headers())))
            }
            _ => Err(Failure::Final(format!(
                "the server answers {}",
                response.status()
            ))),
        }
    }

    fn whole(&mut self, response: Response<Body>) -> Result<Open, Failure> {
        if self.tag.is_some() && self.ranges {
            return Err(changed());
        }
        let total = response.body().content_length();
        if self.total.is_some() && total.is_some() && self.total != total {
            return Err(changed());
        }
        self.ranges = false;
        self.total = self.total.or(total);
        Ok(Open {
            reader: response.into_body().into_reader(),
            at: 0,
            end: total,
        })
    }

    fn part(&mut self, response: Response<Body>) -> Result<Open, Failure> {
        let headers = response.headers();
        let (first, last, total) = headers
            .get(header::CONTENT_RANGE)
            .and_then(|value| content_range(value.to_str().ok()?))
            .ok_or_else(|| Failure::Final("the server sends parts without saying which".into()))?;
        if first != self.position {
            let text = "the server sends another part than it was asked for";
            return Err(Failure::Final(text.into()));
        }
        let tag = headers
            .get(header::ETAG)
            .and_then(|value| value.to_str().ok())
            .filter(|tag| !tag.starts_with("W/"))
            .map(str::to_owned);
        let differs = |old: &Option<String>| old.is_some() && tag.is_some() && *old != tag;
        if self.total.is_some_and(|known| known != total) || differs(&self.tag) {
            return Err(changed());
        }
        self.total = Some(total);
        self.tag = self.tag.take().or(tag);
        Ok(Open {
            reader: response.into_body().into_reader(),
            at: first,
            end: Some(last + 1),
        })
    }

    /// All of a range was wanted. To see its end lets the next question use the same connection.
    fn end_range(&mut self) {
        if let Some(mut open) = self.body.take() {
            drop(open.reader.read(&mut [0]));
        }
        self.range = (self.range * 2).min(LONGEST_RANGE);
    }

    /// Waits before the next try, unless it was one too many.
    fn pause(&mut self, reason: &str, asked: Option<Duration>) -> io::Result<()> {
        self.body = None;
        self.range = FIRST_RANGE;
        let Some(pause) = self.patience.pause(asked) else {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{}: {reason}", shown(&self.address)),
            ));
        };
        eprintln!(
            "{}: {reason}; asking again in {} s",
            shown(&self.address),
            pause.as_secs()
        );
        (self.wait)(pause);
        Ok(())
    }
}

impl Source for Http {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let tried = match self.open() {
                Ok(open) => match open.reader.read(buffer) {
                    Ok(count) => Ok((count, open.end)),
                    Err(error) => Err(Failure::Passing(error.to_string(), None)),
                },
                Err(failure) => Err(failure),
            };
            match tried {
                Ok((0, end)) => {
                    self.body = None;
                    if end.is_some_and(|end| end > self.position) {
                        self.pause("the connection ended too early", None)?;
                    } else if end.is_none() || self.total == Some(self.position) {
                        return Ok(0);
                    }
                }
                Ok((count, end)) => {
                    self.meter.add(count);
                    self.position += count as u64;
                    self.patience.renew();
                    if end == Some(self.position) {
                        self.end_range();
                    } else if let Some(open) = &mut self.body {
                        open.at = self.position;
                    }
                    return Ok(count);
                }
                Err(Failure::End) => return Ok(0),
                Err(Failure::Final(reason)) => {
                    return Err(io::Error::other(format!(
                        "{}: {reason}",
                        shown(&self.address)
                    )));
                }
                Err(Failure::Passing(reason, asked)) => self.pause(&reason, asked)?,
            }
        }
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.position = self
            .position
            .checked_add(bytes)
            .ok_or(io::ErrorKind::InvalidInput)?;
        if self.body.as_ref().is_some_and(|open| !self.leads_to(open)) {
            self.body = None;
            self.range = FIRST_RANGE;
        }
        Ok(())
    }

    fn announce(&mut self, bytes: u64) {
        self.announced = self.position.saturating_add(bytes);
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Http")
            .field("address", &shown(&self.address))
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// An address without what may be secret in it: user, password, query.
pub fn shown(address: &str) -> String {
    let plain = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else {
        return plain.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

fn tls() -> io::Result<TlsConfig> {
    let pem = std::fs::read(AUTHORITIES).map_err(|error| {
        let text = format!("failed to read the public authorities {AUTHORITIES}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    let authorities = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    });
    let authorities: Vec<_> = authorities.collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(authorities)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build())
}

fn changed() -> Failure {
    Failure::Final("the file on the server has changed meanwhile".into())
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        // A certificate that does not hold comes as invalid data.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Failure::Final(error.to_string())
        }
        ureq::Error::Io(error) => Failure::Passing(error.to_string(), None),
        ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_) => Failure::Passing(error.to_string(), None),
        _ => Failure::Final(error.to_string()),
    }
}

/// Seconds; a date is not asked for by anybody who serves files.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// `bytes 0-99/1000`: first, last, of all.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last < total).then_some((first, last, total))
}

#[cfg(test)]
mod tests;

//! The rules for a message that goes through: which requests are refused, which headers are dropped, overwritten and added. Pure.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri};

use crate::settings::Site;
use crate::socket::Opening;

/// Headers that concern one connection only (RFC 9110 section 7.6.1), and those that ask for things the edge does itself.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// A request that is refused before anything is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request names no host")]
    NoHost,
    #[error("the request names more than one host")]
    SeveralHosts,
    #[error("the request's host is not a name or address with perhaps a port")]
    Host,
    #[error("the request's target is not a path")]
    Target,
    #[error("the request's target is for another protocol than https")]
    Scheme,
    #[error("the edge is not a proxy for other hosts")]
    Connect,
    #[error("the edge does not send requests back")]
    Trace,
    #[error("the request has more headers than this server takes")]
    Headers,
    #[error(
        "this server is updated as a whole, by an update of the appliance; messages and files are not touched"
    )]
    Upgrade,
    #[error("the file or message is larger than this server allows")]
    TooLarge,
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoHost | Self::SeveralHosts | Self::Host | Self::Target | Self::Scheme => {
                StatusCode::BAD_REQUEST
            }
            Self::Connect | Self::Trace => StatusCode::METHOD_NOT_ALLOWED,
            Self::Headers => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Upgrade => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

/// The one host that a request is for, as it goes on to the upstream.
pub fn assess_host(request: &Parts, opening: Option<Opening>) -> Result<HeaderValue, Refusal> {
    if request.method == Method::CONNECT && opening.is_none() {
        return Err(Refusal::Connect);
    }
    // What comes back would hold what scripts of a page may not read.
    if request.method == Method::TRACE {
        return Err(Refusal::Trace);
    }
    if request
        .uri
        .scheme_str()
        .is_some_and(|scheme| scheme != "https")
    {
        return Err(Refusal::Scheme);
    }
    if !request.uri.path().starts_with('/') {
        return Err(Refusal::Target);
    }
    let mut named = request.headers.get_all(header::HOST).iter();
    let host = named.next();
    if named.next().is_some() {
        return Err(Refusal::SeveralHosts);
    }
    // HTTP/2 has it in :authority, HTTP/1.1 in an absolute-form target; where both are given they must agree.
    match (request.uri.authority(), host) {
        (Some(authority), Some(host))
            if !host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            Err(Refusal::SeveralHosts)
        }
        (_, Some(host)) if !host.is_empty() => {
            if host.as_bytes().iter().all(|byte| is_of_host(*byte)) {
                Ok(host.clone())
            } else {
                Err(Refusal::Host)
            }
        }
        // The parser of targets lets a user name through.
        (Some(authority), _) if authority.as_str().contains('@') => Err(Refusal::Host),
        (Some(authority), _) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::NoHost)
        }
        (None, _) => Err(Refusal::NoHost),
    }
}

/// Names, addresses of both families and a port need no more than these.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
}

/// Whether a request's host is the site, its port included; the default port may be named.
pub fn is_for_site(host: &HeaderValue, site: &Site) -> bool {
    let named = host.as_bytes();
    let authority = site.authority().as_bytes();
    named.eq_ignore_ascii_case(authority)
        || (site.has_default_port()
            && named
                .strip_suffix(b":443")
                .is_some_and(|named| named.eq_ignore_ascii_case(authority)))
}

/// Paths that answer under every name and address of the machine: those of the edge itself, which people and authorities look for before the
/// site's name works.
pub fn is_for_any_host(path: &str) -> bool {
    path.starts_with("/.well-known/acme-challenge/")
        || path.starts_with("/_atalaya/")
        || matches!(path, "/ca" | "/ca.crt")
}

/// Calls by which the server would replace itself: its program is the image's, and only an update of the appliance changes it.
pub fn is_self_upgrade(path: &str) -> bool {
    let decoded = decoded(path);
    let mut parts = decoded.split('/').filter(|part| !part.is_empty());
    parts.next() == Some("api") && parts.nth(1) == Some("upgrade_to_enterprise")
}

/// Makes a client's headers fit for the upstream. What a client says about who it is does not survive.
pub fn rewrite_request(headers: &mut HeaderMap, host: HeaderValue, client: IpAddr) {
    drop_hop_by_hop(headers);
    // The edge itself answers an expectation: hyper sends 100 Continue when the upstream first asks for the body.
    headers.remove(header::EXPECT);
    headers.remove(header::FORWARDED);
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded-") || *name == X_REAL_IP)
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
    if let Ok(address) = HeaderValue::from_str(&client.to_string()) {
        headers.insert(X_FORWARDED_FOR, address.clone());
        headers.insert(X_REAL_IP, address);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(header::HOST, host);
    join_cookies(headers);
}

/// The target as it goes to the upstream: path and query alone.
pub fn upstream_target(target: &Uri) -> Uri {
    target
        .path_and_query()
        .map_or_else(Uri::default, |target| Uri::from(target.clone()))
}

/// A path that Mattermost answers in JSON.
pub fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// The log-in call whose refusal is looked at twice, in every spelling that Mattermost takes for it.
pub fn is_login(method: &Method, path: &str) -> bool {
    method == Method::POST && decoded(path).trim_end_matches('/') == "/api/v4/users/login"
}

/// A path with its %XX decoded; what is no ASCII stays as it is, because no path that is looked for has it.
pub fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        match after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        {
            Some(byte) if byte.is_ascii() => {
                decoded.push(char::from(byte));
                rest = &after[2..];
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    Cow::Owned(decoded + rest)
}

/// What concerns one connection does not go on to the next.
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // The usual ones are dropped anyway.
        .filter(|name| {
            !HOP_BY_HOP
                .iter()
                .any(|hop| name.eq_ignore_ascii_case(hop.as_str()))
        })
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// HTTP/2 may send a cookie header in pieces; in HTTP/1.1 they are one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces = headers.get_all(header::COOKIE);
    if pieces.iter().nth(1).is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests;

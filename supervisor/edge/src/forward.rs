//! The rules for a message that goes through: which requests are refused, which headers are dropped, overwritten and added. Pure.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Uri, Version};

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

/// Powerful features that Mattermost has no use for. Microphone, camera, screen capture and clipboard stay as browsers have them: calls and
/// copying need them.
const PERMISSIONS: &str = "accelerometer=(), bluetooth=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), midi=(), payment=(), serial=(), usb=()";

/// Added beside the server's own policy; browsers enforce both. The real web client works with it.
const CONTENT_SECURITY: &str = "object-src 'none'; base-uri 'self'";

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// A request that is refused before anything is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the request names no host")]
    NoHost,
    #[error("the request names more than one host")]
    SeveralHosts,
    #[error("the request's target is not a path")]
    Target,
    #[error("the edge is not a proxy for other hosts")]
    Connect,
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::NoHost | Self::SeveralHosts | Self::Target => StatusCode::BAD_REQUEST,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

/// The one host that a request is for, as it goes on to the upstream.
pub fn assess_host(request: &Parts) -> Result<HeaderValue, Refusal> {
    if request.method == Method::CONNECT {
        return Err(Refusal::Connect);
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
        (_, Some(host)) if !host.is_empty() => Ok(host.clone()),
        (Some(authority), _) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::NoHost)
        }
        (None, _) => Err(Refusal::NoHost),
    }
}

/// Whether a request asks to become a WebSocket. Only HTTP/1.1 knows this form; no other protocol is ever switched to.
pub fn is_websocket(request: &Parts) -> bool {
    request.version == Version::HTTP_11
        && request.method == Method::GET
        && has_token(&request.headers, &header::CONNECTION, "upgrade")
        && has_token(&request.headers, &header::UPGRADE, "websocket")
}

/// Makes a client's headers fit for the upstream. What a client says about who it is does not survive.
pub fn rewrite_request(
    headers: &mut HeaderMap,
    host: HeaderValue,
    client: IpAddr,
    websocket: bool,
) {
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
    if websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// Makes the upstream's headers fit for a client and adds what browsers should hear.
pub fn rewrite_response(headers: &mut HeaderMap, websocket: bool) {
    drop_hop_by_hop(headers);
    headers.remove(header::SERVER);
    headers.remove(HeaderName::from_static("x-powered-by"));
    if websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        return;
    }
    // Mattermost sends an empty one, beside which a second has no effect.
    headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(PERMISSIONS));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("no-referrer"));
    headers.append(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY),
    );
    // Never under the internal authority, which is the only one yet: a browser that does not trust it would be locked out, and `localhost`
    // is shared with everything else on a developer's machine.
    headers.remove(header::STRICT_TRANSPORT_SECURITY);
}

/// The address at the upstream for a client's target.
pub fn upstream_uri(target: &Uri, upstream: &str) -> Result<Uri, Refusal> {
    let path = target
        .path_and_query()
        .map_or("/", |target| target.as_str());
    Uri::builder()
        .scheme("http")
        .authority(upstream)
        .path_and_query(path)
        .build()
        .map_err(|_| Refusal::Target)
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
pub fn decoded(path: &str) -> String {
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
    decoded + rest
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// HTTP/2 may send a cookie header in pieces; in HTTP/1.1 they are one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if pieces.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn parts(
        build: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Parts {
        build(Request::builder()).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_host_is_the_only_one_named() {
        let host =
            |request: &Parts| assess_host(request).map(|host| host.to_str().unwrap().to_owned());
        assert_eq!(
            host(&parts(|r| r.uri("/").header("host", "Chat:8443"))).unwrap(),
            "Chat:8443"
        );
        assert_eq!(
            host(&parts(|r| r
                .version(Version::HTTP_2)
                .uri("https://chat:8443/")))
            .unwrap(),
            "chat:8443"
        );
        assert_eq!(
            host(&parts(|r| r.uri("https://chat/").header("host", "CHAT"))).unwrap(),
            "CHAT"
        );
        assert_eq!(host(&parts(|r| r.uri("/"))), Err(Refusal::NoHost));
        assert_eq!(
            host(&parts(|r| r.uri("/").header("host", ""))),
            Err(Refusal::NoHost)
        );
        assert_eq!(
            host(&parts(|r| r
                .uri("/")
                .header("host", "a")
                .header("host", "a"))),
            Err(Refusal::SeveralHosts)
        );
        assert_eq!(
            host(&parts(|r| r.uri("https://a/").header("host", "b"))),
            Err(Refusal::SeveralHosts)
        );
        assert_eq!(
            host(&parts(|r| r.uri("*").method("OPTIONS").header("host", "a"))),
            Err(Refusal::Target)
        );
        assert_eq!(
            host(&parts(|r| r
                .uri("a:1")
                .method("CONNECT")
                .header("host", "a:1"))),
            Err(Refusal::Connect)
        );
    }

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let mut request = parts(|r| {
            r.header("x-forwarded-for", "1.1.1.1")
                .header("x-forwarded-for", "2.2.2.2")
                .header("x-forwarded-port", "1")
                .header("x-real-ip", "3.3.3.3")
                .header("forwarded", "for=4.4.4.4")
                .header("connection", "close, X-Forwarded-For, X-Secret")
                .header("x-secret", "1")
                .header("te", "trailers")
                .header("expect", "100-continue")
                .header("authorization", "Bearer x")
        });
        rewrite_request(
            &mut request.headers,
            HeaderValue::from_static("h:1"),
            "9.9.9.9".parse().unwrap(),
            false,
        );
        let mut seen: Vec<(String, String)> = request
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        seen.sort();
        let expected = [
            ("authorization", "Bearer x"),
            ("host", "h:1"),
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-host", "h:1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "9.9.9.9"),
        ];
        assert_eq!(
            seen,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn cookies_in_pieces_become_one() {
        let mut request = parts(|r| r.header("cookie", "a=1").header("cookie", "b=2; c=3"));
        rewrite_request(
            &mut request.headers,
            HeaderValue::from_static("h"),
            "::1".parse().unwrap(),
            false,
        );
        let cookies: Vec<_> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn only_a_websocket_may_upgrade() {
        let upgrade = |value: &str| {
            parts(|r| {
                r.header("connection", "keep-alive, Upgrade")
                    .header("upgrade", value)
            })
        };
        assert!(is_websocket(&upgrade("WebSocket")));
        assert!(!is_websocket(&upgrade("h2c")));
        assert!(!is_websocket(&parts(|r| r.header("upgrade", "websocket"))));
        let mut request = upgrade("h2c");
        rewrite_request(
            &mut request.headers,
            HeaderValue::from_static("h"),
            "::1".parse().unwrap(),
            false,
        );
        assert!(
            !request.headers.contains_key("upgrade") && !request.headers.contains_key("connection")
        );
        let mut request = upgrade("websocket");
        rewrite_request(
            &mut request.headers,
            HeaderValue::from_static("h"),
            "::1".parse().unwrap(),
            true,
        );
        assert_eq!(request.headers["upgrade"], "websocket");
    }

    #[test]
    fn answers_get_the_headers_that_browsers_need() {
        let mut headers = HeaderMap::new();
        headers.insert("permissions-policy", HeaderValue::from_static(""));
        headers.insert("server", HeaderValue::from_static("x"));
        headers.insert(
            "content-security-policy",
            HeaderValue::from_static("frame-ancestors 'self'"),
        );
        headers.insert(
            "strict-transport-security",
            HeaderValue::from_static("max-age=1"),
        );
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        rewrite_response(&mut headers, false);
        assert_eq!(headers.get_all("permissions-policy").iter().count(), 1);
        assert!(
            !headers["permissions-policy"]
                .to_str()
                .unwrap()
                .contains("clipboard")
        );
        assert_eq!(headers.get_all("content-security-policy").iter().count(), 2);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        for gone in ["server", "transfer-encoding", "strict-transport-security"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn paths_are_told_apart() {
        assert!(is_api("/api/v4/users") && is_api("/api"));
        assert!(!is_api("/apiary") && !is_api("/team/api/"));
        assert!(
            is_login(&Method::POST, "/api/v4/users/login")
                && is_login(&Method::POST, "/api/v4/users/login/")
        );
        assert!(is_login(&Method::POST, "/api/v4/users/%6Cog%69n"));
        assert!(!is_login(&Method::POST, "/api/v4/users/%6") && !is_login(&Method::POST, "/%zz%é"));
        assert!(!is_login(&Method::GET, "/api/v4/users/login"));
    }
}

//! How each protocol asks for a WebSocket, and what it is told. Mattermost upgrades HTTP/1.1 only, so for HTTP/2 (RFC 8441) the edge makes
//! the key and checks the answer to it. Pure; `proxy::carrying` carries them.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::ext::Protocol;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};

use crate::forward::drop_hop_by_hop;

/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// How a client asks for a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// RFC 6455 section 4: GET with Upgrade; the key is the client's.
    Upgrade,
    /// RFC 8441: CONNECT with `:protocol` on a stream of HTTP/2; there is no key.
    Connect,
}

/// Whether a request asks to become a WebSocket, in the form of its protocol. No other protocol is ever switched to.
pub fn assess_opening(request: &Parts) -> Option<Opening> {
    match (request.version, &request.method) {
        (Version::HTTP_11, &Method::GET)
            if has_token(&request.headers, &header::CONNECTION, "upgrade")
                && has_token(&request.headers, &header::UPGRADE, "websocket") =>
        {
            Some(Opening::Upgrade)
        }
        (Version::HTTP_2, &Method::CONNECT) => request
            .extensions
            .get::<Protocol>()
            .filter(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
            .map(|_| Opening::Connect),
        _ => None,
    }
}

/// The key of an opening that has none of its own; `random` is used once.
pub fn make_key(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2).
pub fn accept(key: &[u8]) -> String {
    let mut text = key.to_vec();
    text.extend_from_slice(GUID.as_bytes());
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// Makes the headers of an opening those of an upgrade, whose connection-specific ones have been dropped already.
pub fn ask_upstream(headers: &mut HeaderMap, key: Option<&str>) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(key) = key.and_then(|key| HeaderValue::from_str(key).ok()) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
}

/// The upstream has switched: what the client is told. None: it has not understood the key that the edge gave it.
pub fn answer_client(
    response: Response<()>,
    opening: Opening,
    key: Option<&str>,
) -> Option<Response<()>> {
    let (mut parts, ()) = response.into_parts();
    let is_websocket = has_token(&parts.headers, &header::UPGRADE, "websocket");
    drop_hop_by_hop(&mut parts.headers);
    match (opening, key) {
        (Opening::Connect, Some(key)) => {
            let answer = parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT)?;
            if answer.as_bytes() != accept(key.as_bytes()).as_bytes() {
                return None;
            }
            parts.status = StatusCode::OK;
            parts.version = Version::HTTP_2;
        }
        // The client checks the answer to its own key.
        _ => ask_upstream(&mut parts.headers, None),
    }
    is_websocket.then(|| Response::from_parts(parts, ()))
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

    fn parts(builder: hyper::http::request::Builder) -> Parts {
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_a_websocket_may_be_opened() {
        let upgrade = |value: &str| {
            Request::get("/")
                .header("connection", "keep-alive, Upgrade")
                .header("upgrade", value)
        };
        assert_eq!(
            assess_opening(&parts(upgrade("WebSocket"))),
            Some(Opening::Upgrade)
        );
        assert_eq!(assess_opening(&parts(upgrade("h2c"))), None);
        let alone = Request::get("/").header("upgrade", "websocket");
        assert_eq!(assess_opening(&parts(alone)), None);
        let posted = upgrade("websocket").method("POST");
        assert_eq!(assess_opening(&parts(posted)), None);
        let connect = |protocol: &'static str| {
            Request::connect("https://chat/api/v4/websocket")
                .version(Version::HTTP_2)
                .extension(Protocol::from_static(protocol))
        };
        assert_eq!(
            assess_opening(&parts(connect("websocket"))),
            Some(Opening::Connect)
        );
        assert_eq!(assess_opening(&parts(connect("connect-udp"))), None);
        let plain = Request::connect("chat:443").version(Version::HTTP_2);
        assert_eq!(assess_opening(&parts(plain)), None);
    }

    #[test]
    fn the_answer_to_a_key_is_that_of_the_specification() {
        // RFC 6455 section 1.3.
        let (key, answer) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept(key.as_bytes()), answer);
        let switched = |answer: &str| {
            Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-accept", answer)
                .body(())
                .unwrap()
        };
        let told = answer_client(switched(answer), Opening::Connect, Some(key)).unwrap();
        assert_eq!(told.status(), 200);
        assert!(told.headers().is_empty(), "{:?}", told.headers());
        assert!(answer_client(switched("other"), Opening::Connect, Some(key)).is_none());
        let told = answer_client(switched("its own"), Opening::Upgrade, None).unwrap();
        assert_eq!(told.status(), 101);
        assert_eq!(told.headers()["sec-websocket-accept"], "its own");
        assert_eq!(told.headers()["upgrade"], "websocket");
        let mut other = switched(answer);
        other
            .headers_mut()
            .insert("upgrade", HeaderValue::from_static("h2c"));
        assert!(answer_client(other, Opening::Upgrade, None).is_none());
    }
}

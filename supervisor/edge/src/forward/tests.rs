//! The rules for a message, one by one and against whatever a client sends.

use super::*;
use hyper::{Request, Version};
use proptest::prelude::*;

const NAMES: [&str; 16] = [
    "accept",
    "authorization",
    "connection",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-csrf-token",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-real-ip",
    "x-requested-with",
];

fn parts(
    build: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
) -> Parts {
    build(Request::builder()).body(()).unwrap().into_parts().0
}

#[test]
fn the_host_is_the_only_one_named() {
    let host =
        |request: &Parts| assess_host(request, None).map(|host| host.to_str().unwrap().to_owned());
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
            .header("upgrade", "h2c")
            .header("keep-alive", "timeout=5")
            .header("transfer-encoding", "chunked")
            .header("expect", "100-continue")
            .header("authorization", "Bearer x")
    });
    rewrite_request(
        &mut request.headers,
        HeaderValue::from_static("h:1"),
        "9.9.9.9".parse().unwrap(),
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

proptest! {
    /// Whatever a client sends: what concerns its connection or says who it is does not go on, everything else does.
    #[test]
    fn only_what_may_go_on_goes_on(
        named in prop::collection::vec(prop::sample::select(&NAMES[..]), 0..12),
        listed in prop::collection::vec(prop::sample::select(&NAMES[..]), 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for name in &named {
            headers.append(*name, HeaderValue::from_static("theirs"));
        }
        let list = HeaderValue::from_str(&listed.join(" ,")).unwrap();
        headers.append("connection", list);
        let before = headers.clone();
        rewrite_request(&mut headers, HeaderValue::from_static("h"), "::1".parse().unwrap());
        for (name, value) in [
            ("host", "h"), ("x-forwarded-host", "h"), ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "::1"), ("x-real-ip", "::1"),
        ] {
            let all: Vec<_> = headers.get_all(name).iter().collect();
            prop_assert_eq!(all, [value]);
        }
        for name in NAMES {
            let made = matches!(name, "x-forwarded-for" | "x-real-ip" | "host");
            let ends_here = listed.contains(&name) || HOP_BY_HOP.iter().any(|hop| hop == name)
                || name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "expect");
            let expected = if ends_here { 0 } else { before.get_all(name).iter().count() };
            if !made {
                prop_assert_eq!(headers.get_all(name).iter().count(), expected, "{}", name);
            }
        }
    }
}

#[test]
fn cookies_in_pieces_become_one() {
    let mut request = parts(|r| r.header("cookie", "a=1").header("cookie", "b=2; c=3"));
    rewrite_request(
        &mut request.headers,
        HeaderValue::from_static("h"),
        "::1".parse().unwrap(),
    );
    let cookies: Vec<_> = request.headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
}

#[test]
fn a_host_is_a_name_or_an_address() {
    for host in ["a@b", "a/b", "a b", "a,b", "a?b", "h\u{e9}"] {
        let mut request = parts(|r| r.uri("/"));
        request
            .headers
            .insert("host", HeaderValue::from_bytes(host.as_bytes()).unwrap());
        assert_eq!(assess_host(&request, None), Err(Refusal::Host), "{host}");
    }
    let named = parts(|r| r.version(Version::HTTP_2).uri("https://me@chat/"));
    assert_eq!(assess_host(&named, None), Err(Refusal::Host));
    let plain = parts(|r| r.uri("http://chat/").header("host", "chat"));
    assert_eq!(assess_host(&plain, None), Err(Refusal::Scheme));
    let socket = parts(|r| r.method("CONNECT").uri("https://chat/api/v4/websocket"));
    assert_eq!(
        assess_host(&socket, Some(Opening::Connect)).unwrap(),
        "chat"
    );
}

#[test]
fn the_site_is_its_name_with_its_port() {
    let is = |site: &str, host: &'static str| {
        is_for_site(&HeaderValue::from_static(host), &Site::parse(site).unwrap())
    };
    assert!(is("https://chat.example.org", "Chat.Example.ORG"));
    assert!(is("https://chat.example.org", "chat.example.org:443"));
    assert!(is("https://chat:8443", "chat:8443"));
    assert!(is("https://[fd00::1]", "[fd00::1]:443"));
    for other in ["chat:443", "chat", "chat:84430", "chat:8443.", "chat.:8443"] {
        assert!(!is("https://chat:8443", other), "{other}");
    }
    assert!(!is("https://chat.example.org", "10.0.0.1"));
    assert!(is_for_any_host("/ca.crt") && is_for_any_host("/.well-known/acme-challenge/x"));
    assert!(!is_for_any_host("/") && !is_for_any_host("/cable"));
}

#[test]
fn the_server_does_not_replace_itself_in_any_spelling() {
    for path in [
        "/api/v4/upgrade_to_enterprise",
        "/api/v4/upgrade_to_enterprise/status",
        "/api/v4/upgrade%5fto_enterprise",
        "//api//v4/upgrade_to_enterprise/",
    ] {
        assert!(is_self_upgrade(path), "{path}");
    }
    for path in [
        "/api/v4/users",
        "/team/upgrade_to_enterprise",
        "/api/v4/files/upgrade_to_enterprise",
    ] {
        assert!(!is_self_upgrade(path), "{path}");
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

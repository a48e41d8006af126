//! Updates over the control socket. A bundle may be larger than the memory: its bytes go on to the unit that verifies and writes it as they come,
//! through a pipe, and wait wherever that one is slower. A connection that breaks off ends the pipe, which the unit takes for a bundle cut short.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use atalaya_core::update::task::{Asked, Source};
use axum::body::Body;
use axum::extract::Query as Fields;
use axum::http::Uri;
use axum::http::request::Parts;
use axum::response::Response;
use hyper::body::Body as _;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::{OpenOptions, Sender};

use super::{Api, refusal, respond, send};
use crate::supervisor::{Answer, Request};
use crate::update::{Wish, shown_address};

/// Between two looks whether the unit reads by now.
const PAUSE: Duration = Duration::from_millis(100);
/// Characters of a file's name that are kept.
const NAME_LIMIT: usize = 200;
/// Bytes of what is said of an external backup.
const NOTE_LIMIT: usize = 1000;

/// The body of a wish for an update that the machine fetches itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetched {
    source: Place,
    #[serde(default)]
    allow_downgrade: bool,
    #[serde(default)]
    again: bool,
    #[serde(default)]
    external_backup: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Http(String),
    Usb(String),
}

/// The query of a wish for an update whose bundle comes in the body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    #[serde(default)]
    name: String,
    #[serde(default)]
    allow_downgrade: bool,
    #[serde(default)]
    again: bool,
    #[serde(default)]
    external_backup: Option<String>,
}

/// # Errors
/// What is not right, in a few words.
pub fn parse_fetched(body: &[u8]) -> Result<Wish, String> {
    let fetched: Fetched = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let (source, shown) = match fetched.source {
        Place::Http(address) => {
            let scheme = address.split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("http" | "https")) {
                return Err("an address begins with http:// or https://".to_owned());
            }
            let shown = shown_address(&address);
            (Source::Http(address), shown)
        }
        Place::Usb(label) => (Source::Usb(label), "usb".to_owned()),
    };
    let asked = Asked {
        allow_downgrade: fetched.allow_downgrade,
        allow_quarantined: fetched.again,
        external_backup: note(fetched.external_backup)?,
    };
    Ok(Wish {
        source,
        shown,
        asked,
    })
}

/// Of a bundle that comes in the body: what its query says. The source is the pipe, which only the owner of state knows.
///
/// # Errors
/// What is not right, in a few words.
pub fn parse_sent(uri: &Uri) -> Result<Wish, String> {
    let Fields(sent): Fields<Sent> =
        Fields::try_from_uri(uri).map_err(|error| error.body_text())?;
    let name = crate::console::harmless(sent.name.trim());
    let shown = if name.is_empty() { "a file" } else { &name };
    Ok(Wish {
        source: Source::File(String::new()),
        shown: shown.chars().take(NAME_LIMIT).collect(),
        asked: Asked {
            allow_downgrade: sent.allow_downgrade,
            allow_quarantined: sent.again,
            external_backup: note(sent.external_backup)?,
        },
    })
}

fn note(text: Option<String>) -> Result<Option<String>, String> {
    match text {
        Some(text) if text.len() > NOTE_LIMIT => {
            Err(format!("a note has at most {NOTE_LIMIT} bytes"))
        }
        other => Ok(other.filter(|text| !text.trim().is_empty())),
    }
}

/// Whether this request's body is a bundle.
pub fn is_bundle(head: &Parts) -> bool {
    let kind = head.headers.get("content-type");
    head.method == "POST"
        && head.uri.path() == "/v1/update"
        && kind.is_some_and(|kind| kind == "application/octet-stream")
}

/// Passes a bundle on, and answers when all of it was taken or nobody wants more of it.
pub async fn receive(api: Api, head: Parts, body: Body) -> Response {
    let wish = match parse_sent(&head.uri) {
        Ok(wish) => wish,
        Err(error) => {
            let error = format!("the request cannot be understood: {error}");
            return refusal(
                400,
                &error,
                "Nothing was changed.",
                "Use the atalaya command of this release.",
            );
        }
    };
    let begun = send(&api, Request::Install(wish)).await;
    if begun.status >= 300 {
        return respond(begun);
    }
    let pipe = match open(&api).await {
        Ok(Some(pipe)) => pipe,
        // It has ended before it read anything.
        Ok(None) => return ended(&api).await,
        Err(error) => {
            drop(send(&api, Request::CancelUpdate).await);
            return refusal(
                500,
                &format!("the bundle cannot be passed on: {error}"),
                "Nothing was changed.",
                "Try again.",
            );
        }
    };
    match pass_on(body, pipe).await {
        Passed::All => respond(send(&api, Request::Update).await),
        Passed::NotWanted => ended(&api).await,
        Passed::BrokeOff => {
            drop(send(&api, Request::CancelUpdate).await);
            refusal(
                400,
                "the connection broke off before the whole bundle was there",
                "What runs was not changed.",
                "Send it again: what was written already is not written twice.",
            )
        }
    }
}

/// As soon as the unit reads. `None`: it will not any more.
async fn open(api: &Api) -> io::Result<Option<Sender>> {
    loop {
        match OpenOptions::new().open_sender(&api.places.bundle) {
            Ok(pipe) => return Ok(Some(pipe)),
            // ENXIO: nobody reads yet.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => {}
            Err(error) => return Err(error),
        }
        if !is_receiving(&send(api, Request::Update).await) {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_receiving(answer: &Answer) -> bool {
    answer.body.get("receiving") == Some(&serde_json::Value::Bool(true))
}

enum Passed {
    All,
    NotWanted,
    BrokeOff,
}

async fn pass_on(mut body: Body, mut pipe: Sender) -> Passed {
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(frame) = frame else {
            return Passed::BrokeOff;
        };
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        if pipe.write_all(&bytes).await.is_err() {
            return Passed::NotWanted;
        }
    }
    Passed::All
}

/// The unit wants no more: what it said, as soon as that is known.
async fn ended(api: &Api) -> Response {
    loop {
        let answer = send(api, Request::Update).await;
        if is_receiving(&answer) {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let part = |key: &str| {
            let text = answer.body.get("error")?.get(key)?.as_str()?;
            Some(text.to_owned())
        };
        return refusal(
            409,
            &part("what").unwrap_or_else(|| "the update was ended".to_owned()),
            &part("data").unwrap_or_else(|| "What runs was not changed.".to_owned()),
            &part("next").unwrap_or_else(|| "See: atalaya update status".to_owned()),
        );
    }
}

/// The pipe through which a bundle goes, for the unit's user alone.
///
/// # Errors
/// It cannot be made.
pub fn make_pipe(path: &Path, owner: (u32, u32)) -> Result<(), String> {
    let told =
        |error: &dyn std::fmt::Display| format!("failed to make {}: {error}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(&error)),
        Ok(()) | Err(_) => {}
    }
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(path, mode).map_err(|error| told(&error))?;
    std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).map_err(|error| told(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_what_may_be_secret_in_it() {
        let wish = parse_fetched(
            br#"{"source":{"http":"https://u:secret@example.org/a.bundle?token=secret"},"again":true}"#,
        )
        .unwrap();
        assert_eq!(wish.shown, "https://example.org/a.bundle");
        assert!(wish.asked.allow_quarantined && !wish.asked.allow_downgrade);
        for body in [
            &br#"{"source":{"http":"ftp://example.org"}}"#[..],
            br#"{"source":{"http":"file:///etc/passwd"}}"#,
            br#"{"source":{"file":"/etc/passwd"}}"#,
            br#"{"source":{"usb":"A"},"more":1}"#,
            b"",
        ] {
            assert!(
                parse_fetched(body).is_err(),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn what_comes_with_a_file_is_understood_or_refused() {
        let parse = |query: &str| parse_sent(&format!("/v1/update?{query}").parse().unwrap());
        let wish =
            parse("name=a%20b%1b.bundle&allow_downgrade=true&external_backup=of%20today").unwrap();
        assert_eq!(wish.shown, "a b\u{fffd}.bundle");
        assert!(wish.asked.allow_downgrade && !wish.asked.allow_quarantined);
        assert_eq!(wish.asked.external_backup.as_deref(), Some("of today"));
        assert!(parse("").is_ok() && parse("other=1").is_err() && parse("again=x").is_err());
        assert!(parse(&format!("external_backup={}", "a".repeat(1001))).is_err());
    }
}

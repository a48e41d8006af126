//! What a request asks for. Pure: the same bytes always mean the same, and nothing is done here.

use atalaya_core::link::Action;
use axum::http::Uri;
use serde::Deserialize;

use super::logs::LogQuery;
use super::update::parse_fetched;
use crate::maintenance::{Maintenance, parse_message};
use crate::supervisor::{Answer, Request};

/// The longest path with its query, in bytes.
const PATH_LIMIT: usize = 2048;
/// The longest name of a unit, in bytes.
const NAME_LIMIT: usize = 128;

/// Who has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The owner of state.
    Owner(Request),
    /// The log.
    Logs(LogQuery),
    /// A wish that is kept before the owner hears of it: users stay out, with a message; or in again.
    Maintenance(Option<Maintenance>),
}

/// The body of a wish that users stay out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Closing {
    message: Option<String>,
}

/// Understands a request, or says in three sentences why not.
///
/// # Errors
/// The refusal to answer with.
pub fn parse_request(method: &str, path_and_query: &str, body: &[u8]) -> Result<Call, Answer> {
    if path_and_query.len() > PATH_LIMIT {
        return Err(refuse(414, "the request is too long"));
    }
    let uri: Uri = path_and_query
        .parse()
        .map_err(|_| refuse(400, "the request's path cannot be understood"))?;
    let parts: Vec<&str> = uri.path().split('/').skip(1).collect();
    if parts.as_slice() == ["v1", "maintenance", "on"] {
        return by("POST", method, Call::Maintenance(Some(closing(body)?)));
    }
    if parts.as_slice() == ["v1", "update"] && method == "POST" {
        let wish = parse_fetched(body)
            .map_err(|error| refuse(400, &format!("the request's body is not right: {error}")))?;
        return Ok(Call::Owner(Request::Install(wish)));
    }
    if !body.is_empty() {
        return Err(refuse(400, "this request has no body"));
    }
    let get = |request| by("GET", method, Call::Owner(request));
    let post = |request| by("POST", method, Call::Owner(request));
    match parts.as_slice() {
        ["v1", "status"] => get(Request::Status),
        ["v1", "screen"] => get(Request::Screen),
        ["v1", "boot"] => get(Request::Boot),
        ["v1", "logs"] => {
            let query = LogQuery::parse(&uri).map_err(|error| {
                refuse(
                    400,
                    &format!("the log's query cannot be understood: {error}"),
                )
            })?;
            by("GET", method, Call::Logs(query))
        }
        ["v1", "units"] => get(Request::Units),
        ["v1", "units", name] => get(Request::Unit(unit_name(name)?)),
        ["v1", "units", name, "why"] => get(Request::Why(unit_name(name)?)),
        ["v1", "units", name, "deps"] => get(Request::Deps(unit_name(name)?)),
        ["v1", "units", name, verb] => {
            let name = unit_name(name)?;
            post(match *verb {
                "start" => Request::Start(name),
                "stop" => Request::Stop(name),
                "restart" => Request::Restart(name),
                "reload" => Request::Reload(name),
                "reset" => Request::Reset(name),
                _ => {
                    return Err(Answer::refusal(
                        404,
                        &format!(
                            "a service cannot be asked to {}",
                            crate::console::harmless(verb)
                        ),
                        "Nothing was changed.",
                        "Choose start, stop, restart, reload or reset.",
                    ));
                }
            })
        }
        ["v1", "maintenance"] => get(Request::Maintenance),
        ["v1", "maintenance", "off"] => by("POST", method, Call::Maintenance(None)),
        ["v1", "update"] if method == "DELETE" => Ok(Call::Owner(Request::CancelUpdate)),
        ["v1", "update"] => get(Request::Update),
        ["v1", "update", "history"] => get(Request::UpdateHistory),
        ["v1", "update", "stick", version] => post(Request::InstallStick(shown_version(version)?)),
        ["v1", "update", "rollback"] => post(Request::RollBack),
        ["v1", "reload"] => post(Request::ReloadUnits),
        ["v1", "supervisor", "reload"] => post(Request::ReloadUnits),
        ["v1", "reboot"] => post(Request::End(Action::Reboot)),
        ["v1", "poweroff"] => post(Request::End(Action::Poweroff)),
        _ => Err(refuse(404, "there is no such request")),
    }
}

/// When it began is said by who keeps it.
fn closing(body: &[u8]) -> Result<Maintenance, Answer> {
    let text = if body.is_empty() { b"{}" } else { body };
    let closing: Closing = serde_json::from_slice(text)
        .map_err(|error| refuse(400, &format!("the request's body is not right: {error}")))?;
    let message = parse_message(&closing.message.unwrap_or_default()).map_err(|error| {
        Answer::refusal(400, &error, "Nothing was changed.", "Shorten the message.")
    })?;
    Ok(Maintenance {
        message,
        since: String::new(),
    })
}

fn by(wanted: &str, method: &str, call: Call) -> Result<Call, Answer> {
    if method == wanted {
        return Ok(call);
    }
    Err(refuse(405, &format!("this request is made with {wanted}")))
}

/// Unit names are ASCII letters, digits and `-`; what is none of them need not be looked for.
fn unit_name(part: &str) -> Result<String, Answer> {
    let is_name = !part.is_empty()
        && part.len() <= NAME_LIMIT
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if is_name {
        Ok(part.to_owned())
    } else {
        Err(Answer::refusal(
            404,
            "there is no service of that name",
            "Nothing was changed.",
            "See: atalaya unit list",
        ))
    }
}

/// As a semantic version is written.
fn shown_version(part: &str) -> Result<String, Answer> {
    let is_version = !part.is_empty()
        && part.len() <= NAME_LIMIT
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.+".contains(&byte));
    if is_version {
        Ok(part.to_owned())
    } else {
        Err(refuse(400, "that is no version"))
    }
}

fn refuse(status: u16, error: &str) -> Answer {
    Answer::refusal(
        status,
        error,
        "Nothing was changed.",
        "Use the atalaya command of this release.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_mean_what_is_documented() {
        let owner = |method, path| match parse_request(method, path, b"") {
            Ok(Call::Owner(request)) => request,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(owner("GET", "/v1/status"), Request::Status);
        assert_eq!(
            owner("GET", "/v1/units/app/why"),
            Request::Why("app".into())
        );
        assert_eq!(
            owner("POST", "/v1/units/app/stop"),
            Request::Stop("app".into())
        );
        assert_eq!(owner("POST", "/v1/reboot"), Request::End(Action::Reboot));
        assert_eq!(owner("GET", "/v1/maintenance"), Request::Maintenance);
        assert_eq!(owner("GET", "/v1/update"), Request::Update);
        assert_eq!(owner("DELETE", "/v1/update"), Request::CancelUpdate);
        assert_eq!(owner("GET", "/v1/update/history"), Request::UpdateHistory);
        assert_eq!(owner("POST", "/v1/update/rollback"), Request::RollBack);
        assert_eq!(
            owner("POST", "/v1/update/stick/0.2.0-standin"),
            Request::InstallStick("0.2.0-standin".into())
        );
        let body = br#"{"source":{"usb":"ATALAYA-UPDATE"}}"#;
        assert!(matches!(
            parse_request("POST", "/v1/update", body),
            Ok(Call::Owner(Request::Install(_)))
        ));
        let off = parse_request("POST", "/v1/maintenance/off", b"");
        assert_eq!(off, Ok(Call::Maintenance(None)));
        for (body, message) in [
            (&b""[..], None),
            (b"{}", None),
            (
                br#"{"message":" Back at 6. "}"#,
                Some("Back at 6.".to_owned()),
            ),
        ] {
            let since = String::new();
            let wish = Call::Maintenance(Some(Maintenance { message, since }));
            assert_eq!(parse_request("POST", "/v1/maintenance/on", body), Ok(wish));
        }
        assert!(matches!(
            parse_request("GET", "/v1/logs?unit=app&follow=true", b""),
            Ok(Call::Logs(_))
        ));
    }

    #[test]
    fn what_is_not_a_request_is_refused_and_changes_nothing() {
        let long = format!("/v1/units/{}", "x".repeat(5000));
        for (method, path, body, status) in [
            ("POST", "/v1/status", &b""[..], 405),
            ("GET", "/v1/units/app/stop", b"", 405),
            ("DELETE", "/v1/units/app", b"", 405),
            ("POST", "/v1/units/app/explode", b"", 404),
            ("GET", "/v1/units/a%2Fb", b"", 404),
            ("GET", "/v1/units/", b"", 404),
            ("GET", "/v2/status", b"", 404),
            ("GET", "/v1/update/stick/0.2.0", b"", 405),
            ("POST", "/v1/update/stick/", b"", 400),
            ("POST", "/v1/update/stick/a%20b", b"", 400),
            ("POST", "/v1/update/stick/0.2.0", b"{}", 400),
            ("GET", "", b"", 400),
            ("GET", "\u{1b}[2J", b"", 400),
            ("GET", "/v1/status", b"{}", 400),
            ("POST", "/v1/maintenance/off", b"{}", 400),
            ("GET", "/v1/maintenance/on", b"", 405),
            ("POST", "/v1/maintenance/on", b"no", 400),
            ("POST", "/v1/maintenance/on", b"{\"mesage\":\"x\"}", 400),
            (
                "POST",
                "/v1/maintenance/on",
                b"{\"message\":\"a\\nb\"}",
                400,
            ),
            ("GET", &long, b"", 414),
            ("GET", "/v1/logs?follow=perhaps", b"", 400),
        ] {
            let refusal = parse_request(method, path, body).unwrap_err();
            assert_eq!(refusal.status, status, "{method} {path}: {refusal:?}");
            assert_eq!(refusal.body["data"], "Nothing was changed.");
        }
    }
}

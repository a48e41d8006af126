//! What the edge itself says: the maintenance page, Mattermost's JSON error shape, and refusals. Pages work without script and carry a
//! policy that allows nothing but their own style sheet.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::admission::Admission;
use crate::forward::is_api;

/// Seconds after which a client should try again; the page does so by itself.
const RETRY_AFTER: &str = "5";
/// The same while the edge is closed on purpose: for as long as work takes, not as a start does.
const RETRY_AFTER_MAINTENANCE: &str = "30";

/// The one place with the tokens of the project's look.
pub const LOOK: &str = include_str!("../page/look.css");

pub const MARK: &str = r#"<svg class="mark" viewBox="0 0 48 48" role="img" aria-label="Atalaya" fill="none" stroke="currentColor" stroke-width="4" stroke-linecap="round"><path d="M17 42 20 18M31 42 28 18M14 18H34"/><circle class="light" cx="24" cy="9" r="4" fill="currentColor" stroke="none"/></svg>"#;

static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(LOOK.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    HeaderValue::from_str(&policy).ok()
});

/// The words of a page in one language.
struct Words {
    language: &'static str,
    title: &'static str,
    what: &'static str,
    data: &'static str,
    next: &'static str,
    waiting_for: &'static str,
    since: fn(u64) -> String,
    /// The same four of an edge that was closed on purpose.
    maintenance: [&'static str; 4],
    standin: &'static str,
}

const ENGLISH: Words = Words {
    language: "en",
    title: "Mattermost is not available at the moment",
    what: "The server is starting or being looked after.",
    data: "Messages and files that were sent are kept.",
    next: "Nothing needs to be done: this page tries again every 5 seconds.",
    waiting_for: "Waiting for",
    since: |seconds| {
        format!(
            "for {}",
            duration(
                seconds,
                ["second", "seconds"],
                ["minute", "minutes"],
                ["hour", "hours"]
            )
        )
    },
    maintenance: [
        "Mattermost is closed for maintenance",
        "The administrator has closed the server for a while.",
        "Messages and files that were sent are kept.",
        "Nothing needs to be done: this page tries again every 30 seconds.",
    ],
    standin: "This machine runs the Mattermost stand-in, which is made for tests. It is not the real Mattermost.",
};

const SPANISH: Words = Words {
    language: "es",
    title: "Mattermost no está disponible en este momento",
    what: "El servidor está arrancando o en mantenimiento.",
    data: "Los mensajes y archivos enviados se conservan.",
    next: "No es necesario hacer nada: esta página vuelve a intentarlo cada 5 segundos.",
    waiting_for: "A la espera de",
    since: |seconds| {
        format!(
            "desde hace {}",
            duration(
                seconds,
                ["segundo", "segundos"],
                ["minuto", "minutos"],
                ["hora", "horas"]
            )
        )
    },
    maintenance: [
        "Mattermost está cerrado por mantenimiento",
        "La administración ha cerrado el servidor por un tiempo.",
        "Los mensajes y archivos enviados se conservan.",
        "No es necesario hacer nada: esta página vuelve a intentarlo cada 30 segundos.",
    ],
    standin: "Esta máquina ejecuta el sustituto de Mattermost, hecho para pruebas. No es el Mattermost real.",
};

/// 503: the upstream may not or cannot be asked. JSON under /api, else the maintenance page.
pub fn unavailable(
    path: &str,
    request: &HeaderMap,
    admission: &Admission,
    now_ms: u64,
    standin: bool,
    id: &str,
) -> Response<String> {
    let maintenance = admission.maintenance();
    let retry_after = if maintenance.is_some() {
        RETRY_AFTER_MAINTENANCE
    } else {
        RETRY_AFTER
    };
    let mut response = if is_api(path) {
        let (name, message, detail) = match maintenance {
            Some(maintenance) => (
                "atalaya.edge.maintenance.app_error",
                "Mattermost is closed for maintenance. Messages and files that were sent are kept. Please try again later.",
                maintenance.message.as_deref().unwrap_or_default(),
            ),
            None => (
                "atalaya.edge.unavailable.app_error",
                "Mattermost is not available at the moment. Messages and files that were sent are kept. Please try again shortly.",
                admission.waiting_for(),
            ),
        };
        api_error(StatusCode::SERVICE_UNAVAILABLE, name, message, detail, id)
    } else {
        let words = if prefers_spanish(request) {
            &SPANISH
        } else {
            &ENGLISH
        };
        let seconds = now_ms.saturating_sub(admission.waiting_since_ms) / 1000;
        let page = match maintenance {
            Some(maintenance) => Page::Maintenance(maintenance.message.as_deref()),
            None if admission.is_open() => Page::Unavailable(None),
            None => Page::Unavailable(Some((admission.waiting_for(), seconds))),
        };
        html(
            StatusCode::SERVICE_UNAVAILABLE,
            render(words, &page, standin),
        )
    };
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static(retry_after));
    response
}

/// A request that is not forwarded, or an upstream answer that cannot be passed on.
pub fn error(status: StatusCode, path: &str, message: &str, id: &str) -> Response<String> {
    if is_api(path) {
        return api_error(status, "atalaya.edge.refused.app_error", message, "", id);
    }
    let mut response = Response::new(format!("{message}\n"));
    *response.status_mut() = status;
    own_headers(response.headers_mut(), "text/plain; charset=utf-8");
    response
}

/// Mattermost's own shape, which every client of the API can read.
fn api_error(
    status: StatusCode,
    name: &str,
    message: &str,
    detail: &str,
    id: &str,
) -> Response<String> {
    let body = json!({
        "id": name,
        "message": message,
        "detailed_error": detail,
        "request_id": id,
        "status_code": status.as_u16(),
    });
    let mut response = Response::new(body.to_string());
    *response.status_mut() = status;
    own_headers(response.headers_mut(), "application/json");
    response
}

/// A page of the edge's own, with the policy that fits it.
pub fn html(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    own_headers(response.headers_mut(), "text/html; charset=utf-8");
    if let Some(policy) = &*POLICY {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    }
    response
}

pub fn own_headers(headers: &mut HeaderMap, content_type: &'static str) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(
        HeaderName::from_static("vary"),
        HeaderValue::from_static("Accept-Language"),
    );
}

/// What a page is about.
enum Page<'a> {
    /// What is waited for, and for how many seconds.
    Unavailable(Option<(&'a str, u64)>),
    /// What the administrator says.
    Maintenance(Option<&'a str>),
}

fn render(words: &Words, page: &Page<'_>, standin: bool) -> String {
    let Words {
        language,
        title,
        what,
        data,
        next,
        waiting_for,
        since,
        maintenance,
        standin: is_standin,
    } = words;
    let ([title, what, data, next], retry_after) = match page {
        Page::Unavailable(_) => ([*title, *what, *data, *next], RETRY_AFTER),
        Page::Maintenance(_) => (*maintenance, RETRY_AFTER_MAINTENANCE),
    };
    let panel = match page {
        Page::Unavailable(Some((reason, seconds))) => format!(
            "<span class=\"state\">{waiting_for}:</span> {} <span class=\"second\">({})</span>",
            escape(reason),
            since(*seconds)
        ),
        Page::Maintenance(Some(message)) => escape(message),
        Page::Unavailable(None) | Page::Maintenance(None) => String::new(),
    };
    let panel = if panel.is_empty() {
        panel
    } else {
        format!("<div class=\"panel\"><p>{panel}</p></div>\n")
    };
    let standin = if standin {
        format!("<p class=\"second\">{is_standin}</p>\n")
    } else {
        String::new()
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"{retry_after}\">\n<title>{title}</title>\n<style>{LOOK}</style>\n</head>\n<body>\n<main>\n\
         {MARK}\n<h1>{title}</h1>\n<p>{what} {data} {next}</p>\n{panel}{standin}</main>\n</body>\n</html>\n"
    )
}

pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A duration in words, in the largest unit that fits.
fn duration(seconds: u64, second: [&str; 2], minute: [&str; 2], hour: [&str; 2]) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, second),
        60..3600 => (seconds / 60, minute),
        _ => (seconds / 3600, hour),
    };
    let [one, many] = unit;
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Whether Spanish comes before English in Accept-Language. Weights are passed over: browsers list languages in order of preference.
pub fn prefers_spanish(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            value.split(',').find_map(|language| {
                let primary = language
                    .trim()
                    .split(['-', ';'])
                    .next()
                    .unwrap_or_default()
                    .to_ascii_lowercase();
                matches!(primary.as_str(), "es" | "en").then(|| primary == "es")
            })
        })
        .unwrap_or(false)
}

#[cfg(test)]
mod tests;

//! What a client that is not let in is told: a page in its language, or Mattermost's JSON shape, with what to do.

use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use super::allow::Denied;
use crate::forward::is_api;
use crate::page::{self, LOOK, MARK, prefers_spanish};

const CALL_DENIED: &str = "This call is only open to administrators in the networks that edge.allow.administrators in appliance.toml names. Nothing was changed. Come from one of them, or have the network added.";
const SITE_DENIED: &str = "This server is not open to your network: edge.allow.site in appliance.toml names those that may come in. Messages and files are kept. Connect from your organisation's network or its VPN, or ask the administrator to add yours.";

/// 403. The address is shown because it is what an administrator has to know.
pub fn denied(
    denied: Denied,
    client: std::net::IpAddr,
    path: &str,
    request: &HeaderMap,
    id: &str,
) -> Response<String> {
    let status = StatusCode::FORBIDDEN;
    match denied {
        Denied::Administrators => page::error(status, path, CALL_DENIED, id),
        Denied::Site if is_api(path) => page::error(status, path, SITE_DENIED, id),
        Denied::Site => page::html(status, render(prefers_spanish(request), client)),
    }
}

/// 429. The same words whether the account exists or not.
pub fn too_many_logins(wait: Duration, path: &str, id: &str) -> Response<String> {
    let seconds = wait.as_secs().max(1);
    let message = format!(
        "Too many failed log-ins. The account is not locked and nothing is lost. Try again in {} minutes, or reset the password.",
        seconds.div_ceil(60)
    );
    let mut response = page::error(StatusCode::TOO_MANY_REQUESTS, path, &message, id);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn render(spanish: bool, client: std::net::IpAddr) -> String {
    let (language, title, what, next, address) = if spanish {
        (
            "es",
            "Este servidor no está abierto a su red",
            "Solo se puede entrar desde determinadas redes. Los mensajes y archivos se conservan.",
            "Conéctese desde la red de su organización o su VPN, o pida al administrador que añada la suya.",
            "Su dirección",
        )
    } else {
        (
            "en",
            "This server is not open to your network",
            "Only certain networks may come in. Messages and files are kept.",
            "Connect from your organisation's network or its VPN, or ask the administrator to add yours.",
            "Your address",
        )
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{LOOK}</style>\n</head>\n\
         <body>\n<main>\n{MARK}\n<h1>{title}</h1>\n<p>{what} {next}</p>\n\
         <div class=\"panel\"><p><span class=\"state\">{address}:</span> {client}</p></div>\n</main>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_denied_is_told_what_to_do_in_its_language_or_in_mattermosts_shape() {
        let client = "2001:db8::7".parse().unwrap();
        let spanish =
            HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, HeaderValue::from_static("es"))]);
        for (request, words) in [(HeaderMap::new(), "VPN, or ask"), (spanish, "VPN, o pida")] {
            let response = denied(Denied::Site, client, "/team/town", &request, "x");
            assert_eq!(response.status(), 403);
            for part in [words, "2001:db8::7"] {
                assert!(response.body().contains(part), "{part}");
            }
        }
        for (why, key) in [
            (Denied::Site, "edge.allow.site"),
            (Denied::Administrators, "edge.allow.administrators"),
        ] {
            let response = denied(why, client, "/api/v4/config", &HeaderMap::new(), "x");
            let body: serde_json::Value = serde_json::from_str(response.body()).unwrap();
            assert_eq!(
                (&body["status_code"], &body["request_id"]),
                (&403.into(), &"x".into())
            );
            assert!(body["message"].as_str().unwrap().contains(key), "{body}");
        }
    }

    #[test]
    fn who_guesses_is_told_when_to_come_back() {
        let response = too_many_logins(Duration::from_secs(500), "/api/v4/users/login", "x");
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "500");
        assert!(response.body().contains("in 9 minutes"));
        let soon = too_many_logins(Duration::ZERO, "/api/v4/users/login", "x");
        assert_eq!(soon.headers()["retry-after"], "1");
    }
}

use super::*;
use crate::admission::{Maintenance, UpstreamState};

fn waiting(what: &str) -> Admission {
    Admission::new(
        UpstreamState {
            waiting_for: Some(what.to_owned()),
            ..UpstreamState::default()
        },
        1000,
    )
}

fn language(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT_LANGUAGE, HeaderValue::from_static(value))])
}

#[test]
fn the_page_says_what_it_waits_for_and_cannot_be_injected_into() {
    let response = unavailable(
        "/",
        &HeaderMap::new(),
        &waiting("PostgreSQL: <script>"),
        241_000,
        false,
        "x",
    );
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    let body = response.body();
    for part in [
        "PostgreSQL: &lt;script&gt;",
        "(for 4 minutes)",
        "http-equiv=\"refresh\"",
        "are kept",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(!body.contains("<script") && !body.contains("style=\"") && !body.contains("stand-in"));
}

#[test]
fn maintenance_says_the_administrators_words_in_both_languages_and_to_programs() {
    let state = UpstreamState {
        maintenance: Some(Maintenance {
            message: Some("Back at <6>.".to_owned()),
        }),
        ..UpstreamState::default()
    };
    let closed = Admission::new(state, 0);
    for (headers, title) in [
        (HeaderMap::new(), "Mattermost is closed for maintenance"),
        (language("es"), "Mattermost está cerrado por mantenimiento"),
    ] {
        let page = unavailable("/", &headers, &closed, 0, false, "x");
        assert_eq!(page.headers()["retry-after"], "30");
        let body = page.body();
        assert!(body.contains(title) && body.contains("Back at &lt;6&gt;."));
        assert!(body.contains("content=\"30\"") && !body.contains("Waiting for"));
    }
    let api = unavailable("/api/v4/posts", &HeaderMap::new(), &closed, 0, false, "x");
    assert_eq!(api.status(), 503);
    let body: serde_json::Value = serde_json::from_str(api.body()).unwrap();
    assert_eq!(body["id"], "atalaya.edge.maintenance.app_error");
    assert_eq!(body["detailed_error"], "Back at <6>.");
}

#[test]
fn the_policy_names_exactly_the_style_sheet_of_the_page() {
    let response = unavailable("/", &HeaderMap::new(), &waiting("x"), 0, false, "x");
    let body = response.body();
    let style = body
        .split("<style>")
        .nth(1)
        .unwrap()
        .split("</style>")
        .next()
        .unwrap();
    let hash = STANDARD.encode(Sha256::digest(style.as_bytes()));
    let policy = response.headers()["content-security-policy"]
        .to_str()
        .unwrap();
    assert!(
        policy.contains(&format!("style-src 'sha256-{hash}'"))
            && policy.starts_with("default-src 'none'")
    );
}

#[test]
fn a_standin_says_so_in_both_languages() {
    for (headers, words) in [
        (HeaderMap::new(), "stand-in"),
        (language("es-ES,es;q=0.9,en;q=0.8"), "sustituto"),
    ] {
        assert!(
            unavailable("/", &headers, &waiting("x"), 0, true, "x")
                .body()
                .contains(words),
            "{words}"
        );
    }
}

#[test]
fn languages_are_taken_in_order() {
    for (value, spanish) in [
        ("es", true),
        ("en-GB,es", false),
        ("de,es-MX;q=0.5,en;q=0.4", true),
        ("de", false),
        ("", false),
    ] {
        assert_eq!(prefers_spanish(&language(value)), spanish, "{value}");
    }
}

#[test]
fn the_api_gets_mattermosts_shape() {
    let response = unavailable(
        "/api/v4/users/me",
        &HeaderMap::new(),
        &waiting("PostgreSQL: recovering"),
        0,
        false,
        "abc",
    );
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(body["status_code"], 503);
    assert_eq!(body["request_id"], "abc");
    assert_eq!(body["detailed_error"], "PostgreSQL: recovering");
    for key in ["id", "message"] {
        assert!(
            body[key].as_str().is_some_and(|text| !text.is_empty()),
            "{key}"
        );
    }
}

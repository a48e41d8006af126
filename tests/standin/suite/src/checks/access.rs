//! What is answered without a session, log-in and log-out, users.

use super::expect::{ensure, head_differences, like, outcome, refused};
use super::{Failure, Run};
use crate::client::Answer;
use crate::recording;
use crate::shape::Shape;
use serde_json::json;

pub fn before_login(run: &mut Run<'_>) {
    let strict = run.target.strict;
    run.check("ping", |r| {
        like(
            &r.stranger.get("/api/v4/system/ping")?,
            &recording::ping(),
            strict,
        )
    });
    run.check("ping with server status", |r| {
        let path = "/api/v4/system/ping?get_server_status=true";
        let answer = r.stranger.get(path)?;
        like(&answer, &recording::ping_status(), strict)?;
        let body = answer.json();
        ensure(
            ["status", "database_status", "filestore_status"]
                .iter()
                .all(|f| body[*f] == "OK"),
            || format!("not everything is OK: {body}"),
        )
    });
    run.check("the page", |r| {
        let answer = r.stranger.get("/")?;
        let mut found = head_differences(&answer, &recording::page());
        if !answer.text().to_lowercase().contains("<!doctype html>") {
            found.push("the page is not HTML".to_owned());
        }
        outcome(found)
    });
    run.check("a file of the page", |r| {
        let page = r.stranger.get("/")?.text();
        let path = page
            .split(['"', '\''])
            .find(|p| p.starts_with("/static/") && (p.ends_with(".css") || p.ends_with(".js")))
            .ok_or_else(|| Failure::Differs(vec!["the page names no file in /static/".to_owned()]))?
            .to_owned();
        let answer = r.stranger.get(&path)?;
        ensure(answer.status == 200 && !answer.bytes.is_empty(), || {
            format!("{path}: status {}", answer.status)
        })?;
        let recorded = recording::static_file();
        let nosniff = "x-content-type-options";
        ensure(answer.header(nosniff) == recorded.header(nosniff), || {
            format!("{path}: {nosniff} is missing")
        })
    });
    run.check("a static file that is not there", |r| {
        let answer = r.stranger.get("/static/nope.js")?;
        outcome(head_differences(&answer, &recording::static_missing()))
    });
    run.check("an API path that is not there", |r| {
        like(
            &r.stranger.get("/api/v4/nope")?,
            &recording::api_missing(),
            strict,
        )
    });
    run.check("no session", |r| {
        like(
            &r.stranger.get("/api/v4/users/me")?,
            &recording::no_session(),
            strict,
        )
    });
    run.check("nobody may post", |r| {
        let body = json!({"channel_id": "8rb3s4ehetb5bynnpx4syzimxa", "message": "x"});
        refused(&r.stranger.post("/api/v4/posts", &body)?, &[401])
    });
    run.check("client configuration", |r| {
        let answer = r.stranger.get("/api/v4/config/client?format=old")?;
        let recorded = recording::config_client();
        let mut found = head_differences(&answer, &recorded);
        let body = answer.json();
        // Feature flags come and go with each version; the other names are what clients ask for.
        let names = recorded.json().unwrap_or_default();
        for name in names.as_object().into_iter().flat_map(|o| o.keys()) {
            if !name.starts_with("FeatureFlag") && !body[name].is_string() {
                found.push(format!("{name} is missing or no string"));
            }
        }
        outcome(found)
    });
}

/// A user as the user sees it.
fn recorded_user() -> Shape {
    Shape::of(&recording::create_user().json().unwrap_or_default())
}

fn credentials(run: &Run<'_>) -> serde_json::Value {
    json!({"login_id": run.target.admin, "password": run.target.password})
}

pub fn login(run: &mut Run<'_>) {
    let strict = run.target.strict;
    run.check("a wrong password", |r| {
        let body = json!({"login_id": r.target.admin, "password": "not the password"});
        let answer = r.stranger.post("/api/v4/users/login", &body)?;
        like(&answer, &recording::bad_login(), strict)
    });
    run.check("log-in", |r| {
        let answer = r.stranger.post("/api/v4/users/login", &credentials(r))?;
        if let Some(token) = answer.header("token").filter(|_| answer.status == 200) {
            r.admin = Some(r.stranger.with_token(Some(token)));
            r.admin_id = answer.field("id");
        }
        like(&answer, &recording::login(), strict)
    });
    run.check("the own user", |r| {
        let answer = r.admin()?.get("/api/v4/users/me")?;
        let mut found = recorded_user().differences(&answer.json(), strict);
        if answer.status != 200 || answer.field("id") != r.admin_id {
            found.push(format!("status {}: {}", answer.status, answer.text()));
        }
        outcome(found)
    });
    run.check("log-in as a browser: cookies", |r| {
        let headers = [
            ("content-type", "application/json"),
            ("x-requested-with", "XMLHttpRequest"),
        ];
        let body = credentials(r).to_string();
        let answer = r
            .stranger
            .call("POST", "/api/v4/users/login", &headers, body.as_bytes())?;
        let cookies = cookies_of(&answer)?;
        let me = r
            .stranger
            .call("GET", "/api/v4/users/me", &[("cookie", &cookies)], &[])?;
        ensure(me.status == 200, || {
            format!("with the cookies: status {}", me.status)
        })?;
        // A page of somebody else can send the cookies but does not know the CSRF token.
        let with_cookie = [("cookie", cookies.as_str())];
        let forged = r
            .stranger
            .call("POST", "/api/v4/posts", &with_cookie, b"{}")?;
        refused(&forged, &[401])?;
        let leaving = [
            ("cookie", cookies.as_str()),
            ("x-requested-with", "XMLHttpRequest"),
        ];
        let out = r
            .stranger
            .call("POST", "/api/v4/users/logout", &leaving, b"")?;
        ensure(out.status == 200, || format!("log-out: {}", out.status))
    });
}

fn cookies_of(answer: &Answer) -> Result<String, Failure> {
    let mut pairs = Vec::new();
    for name in ["MMAUTHTOKEN", "MMUSERID", "MMCSRF"] {
        let cookie = answer
            .headers("set-cookie")
            .find(|c| c.starts_with(&format!("{name}=")))
            .ok_or_else(|| Failure::Differs(vec![format!("no cookie {name}")]))?;
        let http_only = cookie.to_lowercase().contains("httponly");
        ensure(http_only == (name == "MMAUTHTOKEN"), || {
            format!("{name}: HttpOnly is {http_only}")
        })?;
        pairs.push(cookie.split(';').next().unwrap_or_default());
    }
    Ok(pairs.join("; "))
}

pub fn users(run: &mut Run<'_>) {
    let strict = run.target.strict;
    run.check("ping as administrator", |r| {
        let path = "/api/v4/system/ping?get_server_status=true";
        like(&r.admin()?.get(path)?, &recording::ping_admin(), strict)
    });
    run.check("an administrator makes a user", |r| {
        let name = format!("c{}", r.mark);
        let body = json!({"email": format!("{name}@example.com"), "username": name, "password": "Contract-Passw0rd-1"});
        let answer = r.admin()?.post("/api/v4/users", &body)?;
        if answer.status == 201 {
            r.user = Some(answer.field("id"));
        }
        like(&answer, &recording::create_user(), strict)
    });
    run.check("a name that is taken", |r| {
        let name = format!("c{}", r.mark);
        let body = json!({"email": format!("other-{name}@example.com"), "username": name, "password": "Contract-Passw0rd-1"});
        refused(&r.admin()?.post("/api/v4/users", &body)?, &[400])
    });
    run.check("the new user logs in", |r| {
        let name = format!("c{}", r.mark);
        let body = json!({"login_id": name, "password": "Contract-Passw0rd-1"});
        let answer = r.stranger.post("/api/v4/users/login", &body)?;
        r.user_client = answer
            .header("token")
            .map(|token| r.stranger.with_token(Some(token)));
        like(&answer, &recording::login(), strict)
    });
    run.check("a user who is no member may not post or read", |r| {
        let user = r.user_client.clone().ok_or(Failure::Unreached("user"))?;
        let channel = r.channel()?;
        let body = json!({"channel_id": channel, "message": "not allowed"});
        refused(&user.post("/api/v4/posts", &body)?, &[403])?;
        let path = format!("/api/v4/channels/{channel}/posts");
        refused(&user.get(&path)?, &[403])
    });
    run.check("a user who was added may post", |r| {
        let user = r.user_client.clone().ok_or(Failure::Unreached("user"))?;
        let id = r.user.clone().ok_or(Failure::Unreached("user"))?;
        let (admin, team, channel) = (r.admin()?, r.team()?, r.channel()?);
        let member = json!({"team_id": team, "user_id": id});
        let path = format!("/api/v4/teams/{team}/members");
        let added = admin.post(&path, &member)?;
        ensure(added.status == 201, || format!("team: {}", added.text()))?;
        let path = format!("/api/v4/channels/{channel}/members");
        let added = admin.post(&path, &json!({ "user_id": id }))?;
        ensure(added.status == 201, || format!("channel: {}", added.text()))?;
        let body = json!({"channel_id": channel, "message": "now allowed"});
        like(
            &user.post("/api/v4/posts", &body)?,
            &recording::post(),
            strict,
        )
    });
    run.check("an ordinary user may not read the configuration", |r| {
        let user = r.user_client.clone().ok_or(Failure::Unreached("user"))?;
        let answer = user.get("/api/v4/config")?;
        refused(&answer, &[403])
    });
    run.check("a deactivated user's session ends", |r| {
        let user = r.user_client.clone().ok_or(Failure::Unreached("user"))?;
        let id = r.user.clone().ok_or(Failure::Unreached("user"))?;
        let gone = r.admin()?.delete(&format!("/api/v4/users/{id}"))?;
        ensure(gone.status == 200, || gone.text())?;
        refused(&user.get("/api/v4/users/me")?, &[401])
    });
}

/// Log-out comes last: it ends the session that the other checks use.
pub fn after(run: &mut Run<'_>) {
    let strict = run.target.strict;
    run.check("log-out", |r| {
        let admin = r.admin()?;
        let answer = admin.call("POST", "/api/v4/users/logout", &[], b"")?;
        like(&answer, &recording::logout(), strict)?;
        let cleared = answer
            .headers("set-cookie")
            .any(|c| c.starts_with("MMAUTHTOKEN=;"));
        ensure(cleared, || "the session's cookie is not cleared".to_owned())
    });
    run.check("after log-out", |r| {
        let answer = r.admin()?.get("/api/v4/users/me")?;
        like(&answer, &recording::after_logout(), strict)
    });
}

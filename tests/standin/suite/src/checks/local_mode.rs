//! The local-mode socket: no token needed, users, bots and tokens, permanent deletion, the configuration.

use super::expect::{ensure, like, refused};
use super::{Failure, Run};
use crate::local::call;
use crate::recording;
use serde_json::json;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

pub fn run(run: &mut Run<'_>, socket: &Path) {
    let strict = run.target.strict;
    let bot = format!("b{}", run.mark);
    run.check("local socket: only its owner may open it", |_| {
        let about = std::fs::metadata(socket).map_err(crate::ClientError::LocalIo)?;
        let mode = about.permissions().mode() & 0o777;
        ensure(about.file_type().is_socket() && mode == 0o600, || {
            format!("its mode is {mode:o}")
        })
    });
    run.check("local socket: no token needed", |r| {
        let path = format!(
            "/teams/name/{}/channels/name/{}",
            r.team_name, r.channel_name
        );
        let answer = call(socket, "GET", &path, None)?;
        ensure(
            answer.status == 200 && answer.field("id") == r.channel()?,
            || answer.text(),
        )?;
        refused(&r.stranger.get(&format!("/api/v4{path}"))?, &[401])
    });
    run.check("local socket: a bot, its token, its post", |r| {
        let (team, channel) = (r.team()?, r.channel()?);
        let body = json!({"username": bot, "email": format!("{bot}@example.com"), "password": "Contract-Passw0rd-2"});
        let made = call(socket, "POST", "/users", Some(&body))?;
        like(&made, &recording::create_user(), strict)?;
        let id = made.field("id");
        let converted = call(socket, "POST", &format!("/users/{id}/convert_to_bot"), None)?;
        ensure(converted.status == 200, || converted.text())?;
        let token = call(
            socket,
            "POST",
            &format!("/users/{id}/tokens"),
            Some(&json!({"description": "contract"})),
        )?;
        let secret = token.field("token");
        ensure(secret.len() == 26, || token.text())?;
        let member = json!({"team_id": team, "user_id": id});
        call(socket, "POST", &format!("/teams/{team}/members"), Some(&member))?;
        let member = json!({ "user_id": id });
        call(socket, "POST", &format!("/channels/{channel}/members"), Some(&member))?;
        let body = json!({"channel_id": channel, "message": format!("from a bot {}", r.mark)});
        let client = r.stranger.with_token(Some(&secret));
        let posted = client.post("/api/v4/posts", &body)?;
        like(&posted, &recording::post(), false)?;
        let password = json!({"login_id": bot, "password": "Contract-Passw0rd-2"});
        refused(&r.stranger.post("/api/v4/users/login", &password)?, &[401])?;
        let gone = call(
            socket,
            "DELETE",
            &format!("/posts/{}?permanent=true", posted.field("id")),
            None,
        )?;
        ensure(gone.status == 200, || gone.text())?;
        let gone = call(socket, "DELETE", &format!("/users/{id}?permanent=true"), None)?;
        ensure(gone.status == 200, || gone.text())?;
        refused(&client.get("/api/v4/users/me")?, &[401])
    });
    run.check("local socket: configuration", |_| {
        let config = call(socket, "GET", "/config", None)?.json();
        let address = &config["ServiceSettings"]["ListenAddress"];
        ensure(address.is_string(), || {
            format!("ListenAddress is {address}")
        })?;
        let key = &config["SqlSettings"]["AtRestEncryptKey"];
        ensure(key.as_str().is_some_and(|k| k.len() >= 32), || {
            "AtRestEncryptKey was not made".to_owned()
        })
    });
    run.check("local socket: sessions of a user", |r| {
        let path = format!("/users/{}/sessions", r.admin_id);
        let answer = call(socket, "GET", &path, None)?;
        let list = answer.json();
        let sessions = list
            .as_array()
            .filter(|l| !l.is_empty())
            .ok_or_else(|| Failure::Differs(vec![answer.text()]))?;
        ensure(sessions.iter().all(|s| s["token"] == ""), || {
            "a token is shown".to_owned()
        })
    });
}

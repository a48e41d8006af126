//! Users: the first administrator, the probe's bot and the ordinary user that the probe logs in as.

use atalaya_core::appliance::{Administrator, Secret};
use serde_json::{Value, json};

use super::team::{self, Kind, Names};
use super::{AdministratorError, Result, probe};
use crate::local::{Answer, Local};
use crate::places::Places;
use crate::random;

pub(super) const BOT: &str = "atalaya-probe";
const USER: &str = "atalaya-probe-user";
const TOKEN_DESCRIPTION: &str = "Atalaya's probe";
pub(super) const TEAM: &str = "atalaya-probe";
pub(super) const CHANNEL: &str = "probe";

/// Makes sure that the administrator is there, may do everything and needs no mail; its id.
pub(super) async fn ensure_administrator(
    local: &Local,
    wanted: &Administrator,
    password: &Secret,
) -> Result<String> {
    let user = ensure_user(
        local,
        wanted.username.as_str(),
        wanted.email.as_str(),
        password,
    )
    .await?;
    let id = user.text("id")?.to_owned();
    if !user
        .text("roles")?
        .split(' ')
        .any(|role| role == "system_admin")
    {
        local
            .put(
                &format!("/users/{id}/roles"),
                &json!({"roles": "system_user system_admin"}),
            )
            .await?;
    }
    if !user.flag("email_verified") {
        local
            .post(&format!("/users/{id}/email/verify/member"), &Value::Null)
            .await?;
    }
    Ok(id)
}

/// Makes sure that the user is there and has this password: a try that was cut off may have given it another.
async fn ensure_user(
    local: &Local,
    username: &str,
    email: &str,
    password: &Secret,
) -> Result<Answer> {
    if let Some(there) = local.find(&format!("/users/username/{username}")).await? {
        let id = there.text("id")?;
        local
            .put(
                &format!("/users/{id}/password"),
                &json!({"new_password": password.expose()}),
            )
            .await?;
        return Ok(there);
    }
    let body = json!({
        "username": username,
        "email": email,
        "password": password.expose(),
        "disable_welcome_email": true,
    });
    Ok(local.post("/users", &body).await?)
}

/// Makes sure that the probe has a private team with a channel, a bot with a token, and a user with a password, and that
/// `probe.json` names them.
pub(super) async fn ensure_probe(local: &Local, places: &Places) -> Result<()> {
    let mut credentials = probe::read(places);
    if credentials.password.is_empty() {
        credentials.password = random::password()?.expose().to_owned();
        probe::keep(places, &credentials)?;
    }
    let team = team::ensure(
        local,
        &Names {
            name: TEAM.into(),
            display: "Atalaya's probe".into(),
        },
        Kind::Private,
    )
    .await?;
    let bot = ensure_bot(local).await?;
    let password = Secret::new(credentials.password.clone());
    let user = ensure_user(local, USER, &address_of(USER), &password)
        .await?
        .text("id")?
        .to_owned();
    let channel_names = Names {
        name: CHANNEL.into(),
        display: "Probe".into(),
    };
    let channel = team::ensure_channel(local, &team, TEAM, &channel_names).await?;
    for member in [&bot, &user] {
        team::ensure_member(local, &team, member).await?;
        team::ensure_channel_member(local, &channel, member).await?;
    }
    if credentials.bot_token.is_empty() {
        revoke_lost_tokens(local, &bot).await?;
        let made = local
            .post(
                &format!("/users/{bot}/tokens"),
                &json!({"description": TOKEN_DESCRIPTION}),
            )
            .await?;
        credentials.bot_token = made.text("token")?.to_owned();
    }
    credentials.username = USER.to_owned();
    credentials.team = TEAM.to_owned();
    credentials.channel = CHANNEL.to_owned();
    probe::keep(places, &credentials)
}

/// Local mode cannot make a bot, but it can turn a user into one.
async fn ensure_bot(local: &Local) -> Result<String> {
    let user = match local.find(&format!("/users/username/{BOT}")).await? {
        Some(there) if there.flag("is_bot") => return Ok(there.text("id")?.to_owned()),
        Some(there) if there.text("email")? == address_of(BOT) => there,
        Some(_) => return Err(AdministratorError::NotOurBot(BOT)),
        // Nobody ever logs in with this password.
        None => ensure_user(local, BOT, &address_of(BOT), &random::password()?).await?,
    };
    let id = user.text("id")?.to_owned();
    local
        .post(&format!("/users/{id}/convert_to_bot"), &Value::Null)
        .await?;
    Ok(id)
}

/// A token is shown once, when it is made. One that was made by a try that was cut off before it was written down is of no
/// use to anybody.
async fn revoke_lost_tokens(local: &Local, bot: &str) -> Result<()> {
    for token in local.get(&format!("/users/{bot}/tokens")).await?.list() {
        if token["description"] == TOKEN_DESCRIPTION
            && let Some(id) = token["id"].as_str()
        {
            local
                .post("/users/tokens/revoke", &json!({"token_id": id}))
                .await?;
        }
    }
    Ok(())
}

/// A domain that never has mail (RFC 2606).
fn address_of(username: &str) -> String {
    format!("{username}@atalaya.invalid")
}

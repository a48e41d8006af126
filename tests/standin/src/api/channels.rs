//! Channels and their members. Joining leaves a system message, as in the real server.

use super::caller::Caller;
use super::error::ApiError;
use super::users::{Answer, ok};
use super::{App, parse_body};
use crate::model::{Channel, Post};
use crate::store::{StoreError, channels as rows, posts, teams, users};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

fn missing() -> ApiError {
    ApiError::not_found(
        "app.channel.get.existing.app_error",
        "Unable to find the existing channel.",
    )
}

pub async fn load(app: &App, id: &str) -> Result<Channel, ApiError> {
    rows::find(&app.pool, id).await?.ok_or_else(missing)
}

/// A channel that the caller may read: public in a team of theirs, or one they are a member of.
pub async fn visible(app: &App, caller: &Caller, channel: Channel) -> Result<Channel, ApiError> {
    if channel.kind == "O" {
        caller.require_team(app, &channel.team_id).await?;
    } else {
        caller.require_channel(app, &channel.id).await?;
    }
    Ok(channel)
}

pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Channel>), ApiError> {
    let wanted: Channel = parse_body(&body, "channel")?;
    if !crate::ids::is_id(&wanted.team_id) {
        return Err(ApiError::bad_body("team_id"));
    }
    let good = (1..=64).contains(&wanted.name.len())
        && wanted
            .name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c));
    if !good || wanted.display_name.is_empty() || wanted.display_name.len() > 64 {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "model.channel.is_valid.1_or_more.app_error",
            "Name must be 1 or more lowercase alphanumeric characters, with only \"-\" and \"_\" allowed.",
        ));
    }
    if !["O", "P"].contains(&wanted.kind.as_str()) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "model.channel.is_valid.type.app_error",
            "Invalid type.",
        ));
    }
    teams::find(&app.pool, &wanted.team_id, false)
        .await?
        .ok_or_else(super::teams::missing)?;
    caller.require_team(&app, &wanted.team_id).await?;
    let channel = Channel {
        team_id: wanted.team_id,
        name: wanted.name,
        display_name: wanted.display_name,
        kind: wanted.kind,
        header: wanted.header,
        purpose: wanted.purpose,
        creator_id: caller.user_id.clone(),
        ..Channel::default()
    };
    let channel = rows::insert(&app.pool, channel).await.map_err(taken)?;
    if !caller.local {
        announce(&app, &channel.id, &caller.user_id).await?;
    }
    Ok((StatusCode::CREATED, Json(channel)))
}

fn taken(error: StoreError) -> ApiError {
    if error.breaks("channels_name_teamid_key") {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "store.sql_channel.save_channel.exists.app_error",
            "A channel with that name already exists on the same team.",
        )
    } else {
        error.into()
    }
}

/// The system message about somebody who joined.
async fn announce(app: &App, channel: &str, user: &str) -> Result<(), ApiError> {
    let Some(user) = users::find(&app.pool, users::By::Id, user).await? else {
        return Ok(());
    };
    let post = Post {
        user_id: user.id,
        channel_id: channel.to_owned(),
        message: format!("{} joined the channel.", user.username),
        kind: "system_join_channel".to_owned(),
        props: json!({ "username": user.username }),
        ..Post::default()
    };
    let post = posts::insert(&app.pool, post).await?;
    super::posts::tell(app, &post).await
}

pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Channel>, ApiError> {
    let channel = load(&app, &id).await?;
    Ok(Json(visible(&app, &caller, channel).await?))
}

async fn named(app: &App, caller: &Caller, team: &str, name: &str) -> Result<Channel, ApiError> {
    let channel = rows::by_name(&app.pool, team, name)
        .await?
        .ok_or_else(missing)?;
    visible(app, caller, channel).await
}

pub async fn by_name(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((team, name)): Path<(String, String)>,
) -> Result<Json<Channel>, ApiError> {
    Ok(Json(named(&app, &caller, &team, &name).await?))
}

pub async fn by_names(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((team, name)): Path<(String, String)>,
) -> Result<Json<Channel>, ApiError> {
    let team = teams::find(&app.pool, &team, true)
        .await?
        .ok_or_else(super::teams::missing)?;
    Ok(Json(named(&app, &caller, &team.id, &name).await?))
}

pub async fn of_team(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(team): Path<String>,
) -> Result<Json<Vec<Channel>>, ApiError> {
    caller.require_team(&app, &team).await?;
    Ok(Json(rows::list(&app.pool, &team, None).await?))
}

pub async fn of_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((user, team)): Path<(String, String)>,
) -> Result<Json<Vec<Channel>>, ApiError> {
    let user = caller.resolve(&user)?;
    caller.require_self_or_admin(&user)?;
    Ok(Json(rows::list(&app.pool, &team, Some(&user)).await?))
}

pub async fn members(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Value>>, ApiError> {
    caller.require_channel(&app, &id).await?;
    Ok(Json(rows::members(&app.pool, &id, None).await?))
}

async fn one_member(app: &App, id: &str, user: &str) -> Result<Value, ApiError> {
    let found = rows::members(&app.pool, id, Some(user)).await?;
    found.into_iter().next().ok_or_else(|| {
        ApiError::not_found(
            "app.channel.get_member.missing.app_error",
            "No channel member found for that user ID and channel ID.",
        )
    })
}

pub async fn member(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, user)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let user = caller.resolve(&user)?;
    caller.require_channel(&app, &id).await?;
    Ok(Json(one_member(&app, &id, &user).await?))
}

#[derive(serde::Deserialize)]
struct NewMember {
    user_id: String,
}

pub async fn add_member(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new: NewMember = parse_body(&body, "user_id")?;
    let channel = load(&app, &id).await?;
    let user = caller.resolve(&new.user_id)?;
    // Anyone of the team may enter a public channel; others must be let in by a member.
    if channel.kind == "O" && user == caller.user_id {
        caller.require_team(&app, &channel.team_id).await?;
    } else {
        caller.require_channel(&app, &id).await?;
    }
    if teams::members(&app.pool, &channel.team_id, Some(&user))
        .await?
        .is_empty()
    {
        return Err(ApiError::not_found(
            "app.team.get_member.missing.app_error",
            "No team member found for that user ID and team ID.",
        ));
    }
    if rows::join(&app.pool, &id, &user).await? {
        announce(&app, &id, &user).await?;
    }
    let member = one_member(&app, &id, &user).await?;
    Ok((StatusCode::CREATED, Json(member)))
}

pub async fn remove_member(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, user)): Path<(String, String)>,
) -> Answer {
    let user = caller.resolve(&user)?;
    caller.require_self_or_admin(&user)?;
    rows::leave(&app.pool, &id, &user).await?;
    Ok(ok())
}

#[derive(serde::Deserialize)]
pub struct Deletion {
    #[serde(default)]
    permanent: bool,
}

pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(deletion): Query<Deletion>,
) -> Answer {
    let channel = load(&app, &id).await?;
    if channel.creator_id != caller.user_id || channel.creator_id.is_empty() {
        caller.require_admin()?;
    }
    let enabled = app
        .config()
        .flag("ServiceSettings", "EnableAPIChannelDeletion");
    if deletion.permanent && !(caller.local || caller.admin && enabled) {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "api.user.delete_channel.not_enabled.app_error",
            "Permanent channel deletion feature is not enabled. Please contact your System Administrator.",
        ));
    }
    rows::delete(&app.pool, &id, deletion.permanent).await?;
    Ok(ok())
}

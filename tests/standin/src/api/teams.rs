//! Teams and their members.

use super::caller::Caller;
use super::error::ApiError;
use super::users::{Answer, ok};
use super::{App, parse_body};
use crate::model::Team;
use crate::store::{StoreError, teams as rows, users};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn missing() -> ApiError {
    ApiError::not_found(
        "app.team.get.find.app_error",
        "Unable to find the existing team.",
    )
}

async fn load(app: &App, id: &str, by_name: bool) -> Result<Team, ApiError> {
    rows::find(&app.pool, id, by_name)
        .await?
        .ok_or_else(missing)
}

/// A private team is not there for strangers.
async fn visible(app: &App, caller: &Caller, team: Team) -> Result<Team, ApiError> {
    if team.kind == "O" && team.allow_open_invite {
        return Ok(team);
    }
    caller.require_team(app, &team.id).await?;
    Ok(team)
}

pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Team>), ApiError> {
    let wanted: Team = parse_body(&body, "team")?;
    let good = (2..=64).contains(&wanted.name.len())
        && wanted
            .name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !wanted.name.starts_with('-')
        && !wanted.name.ends_with('-');
    if !good || wanted.display_name.is_empty() || wanted.display_name.len() > 64 {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "model.team.is_valid.characters.app_error",
            "Name must be 2 or more lowercase alphanumeric characters.",
        ));
    }
    if !["O", "I"].contains(&wanted.kind.as_str()) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "model.team.is_valid.type.app_error",
            "Invalid type.",
        ));
    }
    let maker = users::find(&app.pool, users::By::Id, &caller.user_id).await?;
    let team = Team {
        email: maker.map(|m| m.email).unwrap_or(wanted.email),
        name: wanted.name,
        display_name: wanted.display_name,
        kind: wanted.kind,
        description: wanted.description,
        allow_open_invite: wanted.allow_open_invite,
        ..Team::default()
    };
    let team = rows::insert(&app.pool, team).await.map_err(taken)?;
    if !caller.local {
        rows::join(&app.pool, &team.id, &caller.user_id, true).await?;
    }
    Ok((StatusCode::CREATED, Json(team)))
}

fn taken(error: StoreError) -> ApiError {
    if error.breaks("teams_name_key") {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "app.team.save.existing.app_error",
            "Must call update for existing team.",
        )
    } else {
        error.into()
    }
}

pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Vec<Team>>, ApiError> {
    let own = (!caller.admin).then_some(caller.user_id.as_str());
    Ok(Json(rows::list(&app.pool, own).await?))
}

pub async fn of_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Team>>, ApiError> {
    let id = caller.resolve(&id)?;
    caller.require_self_or_admin(&id)?;
    Ok(Json(rows::list(&app.pool, Some(&id)).await?))
}

pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Team>, ApiError> {
    let team = load(&app, &id, false).await?;
    Ok(Json(visible(&app, &caller, team).await?))
}

pub async fn by_name(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Team>, ApiError> {
    let team = load(&app, &name, true).await?;
    Ok(Json(visible(&app, &caller, team).await?))
}

pub async fn members(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Value>>, ApiError> {
    caller.require_team(&app, &id).await?;
    Ok(Json(rows::members(&app.pool, &id, None).await?))
}

pub async fn member(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, user)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let user = caller.resolve(&user)?;
    caller.require_team(&app, &id).await?;
    let found = rows::members(&app.pool, &id, Some(&user)).await?;
    found.into_iter().next().map(Json).ok_or_else(|| {
        ApiError::not_found(
            "app.team.get_member.missing.app_error",
            "No team member found for that user ID and team ID.",
        )
    })
}

#[derive(serde::Deserialize)]
struct NewMember {
    #[serde(default)]
    team_id: String,
    user_id: String,
}

async fn add(app: &App, caller: &Caller, id: &str, new: &NewMember) -> Result<Value, ApiError> {
    if !new.team_id.is_empty() && new.team_id != id {
        return Err(ApiError::bad_body("team_id"));
    }
    caller.require_team(app, id).await?;
    load(app, id, false).await?;
    if users::find(&app.pool, users::By::Id, &new.user_id)
        .await?
        .is_none()
    {
        return Err(ApiError::bad_body("user_id"));
    }
    let full = rows::members(&app.pool, id, None).await?.len();
    let most = app.config().number("TeamSettings", "MaxUsersPerTeam");
    if i64::try_from(full).unwrap_or(i64::MAX) >= most {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "app.team.join_user_to_team.max_accounts.app_error",
            "This team has reached the maximum number of allowed accounts. Contact your System Administrator to \
             set a higher limit.",
        ));
    }
    rows::join(&app.pool, id, &new.user_id, false).await?;
    let found = rows::members(&app.pool, id, Some(&new.user_id)).await?;
    found.into_iter().next().ok_or_else(missing)
}

pub async fn add_member(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new: NewMember = parse_body(&body, "team_member")?;
    let member = add(&app, &caller, &id, &new).await?;
    Ok((StatusCode::CREATED, Json(member)))
}

pub async fn add_members(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let all: Vec<NewMember> = parse_body(&body, "members")?;
    let mut members = Vec::new();
    for new in &all {
        members.push(add(&app, &caller, &id, new).await?);
    }
    Ok((StatusCode::CREATED, Json(json!(members))))
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
    caller.require_admin()?;
    load(&app, &id, false).await?;
    let allowed = caller.local
        || app
            .config()
            .flag("ServiceSettings", "EnableAPITeamDeletion");
    if deletion.permanent && !allowed {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "api.user.delete_team.not_enabled.app_error",
            "Permanent team deletion feature is not enabled. Please contact your System Administrator.",
        ));
    }
    rows::delete(&app.pool, &id, deletion.permanent).await?;
    Ok(ok())
}

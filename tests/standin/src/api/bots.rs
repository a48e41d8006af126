//! Bots: users without a password, who work by access token and take no seat.

use super::caller::Caller;
use super::error::ApiError;
use super::users::check_name;
use super::{App, parse_body};
use crate::model::{Bot, User};
use crate::store::users as rows;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::sync::Arc;

fn missing() -> ApiError {
    ApiError::not_found("store.sql_bot.get.missing.app_error", "Bot does not exist.")
}

pub async fn convert(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Bot>, ApiError> {
    caller.require_admin()?;
    let id = caller.resolve(&id)?;
    let bot = rows::make_bot(&app.pool, &id, &id, "").await;
    match bot {
        Ok(Some(bot)) => Ok(Json(bot)),
        Ok(None) => Err(missing()),
        Err(error) if error.breaks("bots_userid_fkey") => Err(ApiError::not_found(
            "app.user.missing_account.const",
            "Unable to find the user.",
        )),
        Err(error) => Err(error.into()),
    }
}

pub async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Bot>>, ApiError> {
    caller.require_admin()?;
    Ok(Json(rows::bots(&app.pool).await?))
}

pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Bot>, ApiError> {
    caller.require_admin()?;
    let id = caller.resolve(&id)?;
    let bot = rows::bot(&app.pool, &id).await?;
    bot.map(Json).ok_or_else(missing)
}

#[derive(serde::Deserialize)]
struct Wanted {
    username: String,
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    description: String,
}

/// By session only: local mode cannot create bots in the real server either.
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Bot>), ApiError> {
    caller.require_admin()?;
    let wanted: Wanted = parse_body(&body, "bot")?;
    let allowed = app
        .config()
        .flag("ServiceSettings", "EnableBotAccountCreation");
    if caller.local || !allowed {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "api.bot.create_disabled",
            "Bot creation has been disabled.",
        ));
    }
    check_name(&wanted.username)?;
    let user = User {
        email: format!("{}@localhost", wanted.username),
        username: wanted.username,
        first_name: wanted.display_name,
        roles: "system_user".to_owned(),
        ..User::default()
    };
    let user = rows::insert(&app.pool, user).await?;
    let bot = rows::make_bot(&app.pool, &user.id, &caller.user_id, &wanted.description).await?;
    Ok((StatusCode::CREATED, Json(bot.ok_or_else(missing)?)))
}

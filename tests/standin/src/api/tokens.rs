//! Access tokens. A token is shown once, when it is made.

use super::caller::Caller;
use super::error::ApiError;
use super::users::{Answer, ok};
use super::{App, parse_body};
use crate::model::AccessToken;
use crate::store::{tokens as rows, users};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<AccessToken>, ApiError> {
    let id = caller.resolve(&id)?;
    caller.require_self_or_admin(&id)?;
    let given: Value = parse_body(&body, "description")?;
    let description = given["description"]
        .as_str()
        .filter(|d| !d.is_empty())
        .ok_or_else(|| ApiError::bad_body("description"))?;
    let user = users::find(&app.pool, users::By::Id, &id)
        .await?
        .ok_or_else(|| {
            ApiError::not_found("app.user.missing_account.const", "Unable to find the user.")
        })?;
    // Recorded: works over the local socket and for bots although the setting is off.
    let allowed = app
        .config()
        .flag("ServiceSettings", "EnableUserAccessTokens");
    if !allowed && !caller.local && !user.is_bot {
        return Err(ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            "app.user_access_token.disabled",
            "Personal access tokens are disabled on this server. Please contact your system administrator for \
             details.",
        ));
    }
    Ok(Json(rows::insert(&app.pool, &id, description).await?))
}

pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<AccessToken>>, ApiError> {
    let id = caller.resolve(&id)?;
    caller.require_self_or_admin(&id)?;
    Ok(Json(rows::of_user(&app.pool, &id).await?))
}

pub async fn revoke(State(app): State<Arc<App>>, caller: Caller, body: Bytes) -> Answer {
    let given: Value = parse_body(&body, "token_id")?;
    let id = given["token_id"]
        .as_str()
        .ok_or_else(|| ApiError::bad_body("token_id"))?;
    let token = rows::find(&app.pool, id).await?.ok_or_else(|| {
        ApiError::not_found(
            "app.user_access_token.get_by_user.app_error",
            "We could not get the access token.",
        )
    })?;
    caller.require_self_or_admin(&token.user_id)?;
    rows::delete(&app.pool, id).await?;
    Ok(ok())
}

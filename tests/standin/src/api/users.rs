//! Users: made by administrators, by the local socket, or by themselves where the settings allow it.

use super::caller::Caller;
use super::error::ApiError;
use super::{App, Paging, parse_body};
use crate::model::User;
use crate::passwords;
use crate::store::{sessions, users as rows};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

pub type Answer = Result<Json<Value>, ApiError>;

pub fn ok() -> Json<Value> {
    Json(json!({"status": "OK"}))
}

fn missing() -> ApiError {
    ApiError::not_found("app.user.missing_account.const", "Unable to find the user.")
}

/// The user as this caller may see it.
fn shown(user: User, caller: &Caller) -> User {
    if caller.admin && user.id != caller.user_id {
        user
    } else if user.id == caller.user_id {
        user.for_self()
    } else {
        user.for_others()
    }
}

async fn load(app: &App, caller: &Caller, id: &str) -> Result<User, ApiError> {
    let id = caller.resolve(id)?;
    rows::find(&app.pool, rows::By::Id, &id)
        .await?
        .ok_or_else(missing)
}

pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<User>, ApiError> {
    Ok(Json(shown(load(&app, &caller, &id).await?, &caller)))
}

pub async fn by_name(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<User>, ApiError> {
    let found = rows::find(&app.pool, rows::By::Username, &name).await?;
    Ok(Json(shown(found.ok_or_else(missing)?, &caller)))
}

pub async fn by_email(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(email): Path<String>,
) -> Result<Json<User>, ApiError> {
    let found = rows::find(&app.pool, rows::By::Email, &email).await?;
    Ok(Json(shown(found.ok_or_else(missing)?, &caller)))
}

pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Vec<User>>, ApiError> {
    let (offset, limit) = paging.limits();
    let all = rows::list(&app.pool, offset, limit).await?;
    Ok(Json(all.into_iter().map(|u| shown(u, &caller)).collect()))
}

pub async fn among(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<Vec<User>>, ApiError> {
    let wanted: Vec<String> = parse_body(&body, "user_ids")?;
    let all = rows::among(&app.pool, &wanted).await?;
    Ok(Json(all.into_iter().map(|u| shown(u, &caller)).collect()))
}

pub async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<Vec<User>>, ApiError> {
    let given: Value = parse_body(&body, "term")?;
    let term = given["term"]
        .as_str()
        .ok_or_else(|| ApiError::bad_body("term"))?;
    let all = rows::search(&app.pool, term).await?;
    Ok(Json(all.into_iter().map(|u| shown(u, &caller)).collect()))
}

#[derive(serde::Deserialize)]
struct Wanted {
    #[serde(default)]
    username: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    email_verified: bool,
    #[serde(flatten)]
    names: Names,
}

/// What a patch may change.
#[derive(Default, serde::Deserialize)]
struct Names {
    nickname: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    position: Option<String>,
}

impl Names {
    fn apply(self, user: &mut User) {
        user.nickname = self.nickname.unwrap_or(std::mem::take(&mut user.nickname));
        user.first_name = self
            .first_name
            .unwrap_or(std::mem::take(&mut user.first_name));
        user.last_name = self
            .last_name
            .unwrap_or(std::mem::take(&mut user.last_name));
        user.position = self.position.unwrap_or(std::mem::take(&mut user.position));
    }
}

pub async fn create(
    State(app): State<Arc<App>>,
    caller: Result<Caller, ApiError>,
    body: Bytes,
) -> Result<(StatusCode, Json<User>), ApiError> {
    let wanted: Wanted = parse_body(&body, "user")?;
    let admin = caller.as_ref().is_ok_and(|c| c.admin);
    let first = rows::is_empty(&app.pool).await?;
    if !admin && !first && !app.config().flag("TeamSettings", "EnableOpenServer") {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "api.user.create_user.no_open_server",
            "This server does not allow open signups. Please speak with your Administrator to receive an \
             invitation.",
        ));
    }
    check_name(&wanted.username)?;
    if !wanted.email.contains('@') || wanted.email.len() > 128 {
        return Err(invalid("email", "Invalid email."));
    }
    check_password(&app, &wanted.password)?;
    let password = wanted.password;
    let hash = tokio::task::spawn_blocking(move || passwords::hash(&password))
        .await
        .map_err(|_| ApiError::bad_body("password"))?;
    let mut user = User {
        username: wanted.username,
        email: wanted.email,
        email_verified: wanted.email_verified && admin,
        password: hash,
        // The very first user runs the place.
        roles: if first {
            "system_admin system_user"
        } else {
            "system_user"
        }
        .to_owned(),
        ..User::default()
    };
    wanted.names.apply(&mut user);
    let user = rows::insert(&app.pool, user).await.map_err(taken)?;
    Ok((StatusCode::CREATED, Json(user.for_self())))
}

fn taken(error: crate::store::StoreError) -> ApiError {
    if error.breaks("users_username_key") {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "app.user.save.username_exists.app_error",
            "An account with that username already exists.",
        )
    } else if error.breaks("users_email_key") {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "app.user.save.email_exists.app_error",
            "An account with that email already exists.",
        )
    } else {
        error.into()
    }
}

fn invalid(field: &str, message: &str) -> ApiError {
    ApiError {
        detail: format!("field={field}"),
        ..ApiError::new(
            StatusCode::BAD_REQUEST,
            "model.user.is_valid.app_error",
            message,
        )
    }
}

pub fn check_name(name: &str) -> Result<(), ApiError> {
    let good = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
        && !["all", "channel", "here", "system", "matterbot"].contains(&name);
    if good {
        Ok(())
    } else {
        Err(invalid(
            "username",
            "Username must begin with a letter, and contain between 3 to 22 lowercase characters made up of \
             numbers, letters, and the symbols \".\", \"-\", and \"_\".",
        ))
    }
}

fn check_password(app: &App, password: &str) -> Result<(), ApiError> {
    let least = app.config().number("PasswordSettings", "MinimumLength");
    let length = i64::try_from(password.chars().count()).unwrap_or(i64::MAX);
    if length < least || length > 72 {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "model.user.is_valid.pwd_min_length.app_error",
            format!("Your password must be {least}-72 characters long."),
        ));
    }
    Ok(())
}

pub async fn patch(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<User>, ApiError> {
    let mut user = load(&app, &caller, &id).await?;
    caller.require_self_or_admin(&user.id)?;
    let change: Names = parse_body(&body, "user")?;
    change.apply(&mut user);
    rows::update(&app.pool, &user).await.map_err(taken)?;
    Ok(Json(shown(load(&app, &caller, &user.id).await?, &caller)))
}

pub async fn roles(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    caller.require_admin()?;
    let mut user = load(&app, &caller, &id).await?;
    let given: Value = parse_body(&body, "roles")?;
    let roles = given["roles"]
        .as_str()
        .ok_or_else(|| ApiError::bad_body("roles"))?;
    if !roles
        .split_whitespace()
        .all(|r| r.starts_with("system_") && r.len() < 64)
    {
        return Err(ApiError::bad_body("roles"));
    }
    user.roles = roles.to_owned();
    rows::update(&app.pool, &user).await?;
    Ok(ok())
}

pub async fn active(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let given: Value = parse_body(&body, "active")?;
    let active = given["active"]
        .as_bool()
        .ok_or_else(|| ApiError::bad_body("active"))?;
    set_active(&app, &caller, &id, active).await
}

async fn set_active(app: &App, caller: &Caller, id: &str, active: bool) -> Answer {
    let mut user = load(app, caller, id).await?;
    caller.require_self_or_admin(&user.id)?;
    user.delete_at = if active { 0 } else { crate::ids::now_ms() };
    rows::update(&app.pool, &user).await?;
    if !active {
        sessions::revoke(&app.pool, &user.id, None).await?;
        app.hub.drop_user(&user.id);
    }
    Ok(ok())
}

pub async fn password(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let user = load(&app, &caller, &id).await?;
    caller.require_self_or_admin(&user.id)?;
    let given: Value = parse_body(&body, "new_password")?;
    let new = given["new_password"]
        .as_str()
        .ok_or_else(|| ApiError::bad_body("new_password"))?
        .to_owned();
    let current = given["current_password"].as_str().unwrap_or("").to_owned();
    check_password(&app, &new)?;
    let own = user.id == caller.user_id;
    let hash = tokio::task::spawn_blocking(move || {
        (!own || passwords::matches(&current, &user.password)).then(|| passwords::hash(&new))
    })
    .await
    .ok()
    .flatten()
    .ok_or_else(|| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "api.user.update_password.incorrect.app_error",
            "The \"Current Password\" you entered is incorrect. Please check that Caps Lock is off and try again.",
        )
    })?;
    rows::set_password(&app.pool, &user.id, &hash).await?;
    if own {
        // The other sessions end; the one that changed the password goes on.
        for session in sessions::of_user(&app.pool, &user.id).await? {
            if session.id != caller.session_id {
                sessions::revoke(&app.pool, &user.id, Some(&session.id)).await?;
            }
        }
    } else {
        sessions::revoke(&app.pool, &user.id, None).await?;
    }
    Ok(ok())
}

pub async fn verify(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<User>, ApiError> {
    caller.require_admin()?;
    let mut user = load(&app, &caller, &id).await?;
    user.email_verified = true;
    rows::update(&app.pool, &user).await?;
    Ok(Json(shown(user, &caller)))
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
    if !deletion.permanent {
        return set_active(&app, &caller, &id, false).await;
    }
    caller.require_admin()?;
    if !caller.local
        && !app
            .config()
            .flag("ServiceSettings", "EnableAPIUserDeletion")
    {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "api.user.delete_user.not_enabled.app_error",
            "Permanent user deletion feature is not enabled. Please contact your System Administrator.",
        ));
    }
    let user = load(&app, &caller, &id).await?;
    app.hub.drop_user(&user.id);
    rows::delete(&app.pool, &user.id).await?;
    Ok(ok())
}

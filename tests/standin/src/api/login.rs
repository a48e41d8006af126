//! Log-in, log-out and sessions.
//!
//! While PostgreSQL is away a right password is answered with 401, as the real server does (contract/pg-killed-10s).

use super::address::ClientAddress;
use super::caller::{Caller, presented};
use super::error::ApiError;
use super::{App, parse_body};
use crate::ids::Utc;
use crate::model::{Audit, Session};
use crate::passwords;
use crate::store::{audits as trail, sessions as rows, users};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// A browser's session: the recorded cookie's Max-Age.
const COOKIE_SECONDS: i64 = 15_552_000;

#[derive(serde::Deserialize)]
struct Credentials {
    #[serde(default)]
    login_id: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    device_id: String,
    #[serde(default)]
    id: String,
}

pub async fn login(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let given: Credentials = parse_body(&body, "user")?;
    let found = if given.id.is_empty() {
        users::find(&app.pool, users::By::Login, &given.login_id).await
    } else {
        users::find(&app.pool, users::By::Id, &given.id).await
    };
    // A lost database is not told apart from an unknown user.
    let user = found.ok().flatten().ok_or_else(ApiError::bad_login)?;
    if user.is_bot {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "api.user.login.bot_login_forbidden.app_error",
            "Bot login is forbidden.",
        ));
    }
    if user.failed_attempts
        >= app
            .config()
            .number("ServiceSettings", "MaximumLoginAttempts")
    {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "api.user.check_user_login_attempts.too_many.app_error",
            "Your account is locked because of too many failed password attempts. Please reset your password.",
        ));
    }
    let audit = Audit {
        user_id: user.id.clone(),
        action: "/api/v4/users/login".to_owned(),
        extra_info: format!("attempt - login_id={}", given.login_id),
        ip_address: address,
        ..Audit::default()
    };
    trail::insert(&app.pool, &audit).await.ok();
    if !check_password(&app, given.password, user.password.clone()).await {
        users::count_failure(&app.pool, &user.id).await.ok();
        return Err(ApiError::bad_login());
    }
    if user.delete_at != 0 {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "api.user.login.inactive.app_error",
            "Login failed because your account has been deactivated. Please contact an administrator.",
        ));
    }
    if app.faults.on("fail-login") {
        return Err(ApiError::fault("fail-login"));
    }
    users::record_login(&app.pool, &user.id)
        .await
        .map_err(|_| ApiError::bad_login())?;
    let session = rows::insert(
        &app.pool,
        &user.id,
        &given.device_id,
        COOKIE_SECONDS * 1_000,
    )
    .await?;
    let audit = Audit {
        extra_info: format!("success session_user={}", user.id),
        session_id: session.id.clone(),
        ..audit
    };
    trail::insert(&app.pool, &audit).await?;
    let mut response = Json(user.for_self()).into_response();
    let answer = response.headers_mut();
    if let Ok(token) = HeaderValue::from_str(&session.token) {
        answer.insert(HeaderName::from_static("token"), token);
    }
    if headers.get("x-requested-with").map(HeaderValue::as_bytes) == Some(b"XMLHttpRequest") {
        let secure = headers
            .get("x-forwarded-proto")
            .is_some_and(|p| p.as_bytes() == b"https");
        for cookie in cookies(&session, secure) {
            if let Ok(value) = HeaderValue::from_str(&cookie) {
                answer.append(SET_COOKIE, value);
            }
        }
    }
    Ok(response)
}

async fn check_password(app: &App, password: String, stored: String) -> bool {
    let _turn = app.password_gate.lock().await;
    tokio::task::spawn_blocking(move || passwords::matches(&password, &stored))
        .await
        .unwrap_or(false)
}

fn cookies(session: &Session, secure: bool) -> [String; 3] {
    let expires = Utc::from_ms(session.create_at + COOKIE_SECONDS * 1_000).http_date();
    let common = format!("Path=/; Expires={expires}; Max-Age={COOKIE_SECONDS}");
    let secure = if secure { "; Secure" } else { "" };
    [
        format!("MMAUTHTOKEN={}; {common}; HttpOnly{secure}", session.token),
        format!("MMUSERID={}; {common}{secure}", session.user_id),
        format!("MMCSRF={}; {common}{secure}", session.csrf),
    ]
}

pub async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, ApiError> {
    if let (Some(token), _) = presented(&headers)
        && let Some(session) = rows::find(&app.pool, &token).await?
    {
        rows::revoke(&app.pool, &session.user_id, Some(&session.id)).await?;
        app.hub.drop_user(&session.user_id);
    }
    let mut response = Json(json!({"status": "OK"})).into_response();
    response
        .headers_mut()
        .append(SET_COOKIE, super::headers::clear_cookie());
    Ok(response)
}

pub async fn sessions(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Session>>, ApiError> {
    let id = caller.resolve(&id)?;
    caller.require_self_or_admin(&id)?;
    let mut list = rows::of_user(&app.pool, &id).await?;
    for session in &mut list {
        session.token.clear();
        session.props = json!({});
    }
    Ok(Json(list))
}

pub async fn audits(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<Audit>>, ApiError> {
    let id = caller.resolve(&id)?;
    caller.require_self_or_admin(&id)?;
    Ok(Json(trail::of_user(&app.pool, &id).await?))
}

#[derive(serde::Deserialize)]
struct Revoked {
    session_id: String,
}

pub async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let id = caller.resolve(&id)?;
    caller.require_self_or_admin(&id)?;
    let given: Revoked = parse_body(&body, "session_id")?;
    rows::revoke(&app.pool, &id, Some(&given.session_id)).await?;
    app.hub.drop_user(&id);
    Ok(Json(json!({"status": "OK"})))
}

pub async fn revoke_all(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let id = caller.resolve(&id)?;
    caller.require_self_or_admin(&id)?;
    rows::revoke(&app.pool, &id, None).await?;
    app.hub.drop_user(&id);
    Ok(Json(json!({"status": "OK"})))
}

//! The configuration over HTTP: what clients may know, and what administrators and the local socket may change.

use super::caller::Caller;
use super::error::ApiError;
use super::users::{Answer, ok};
use super::{App, parse_body};
use crate::config::{Config, storage};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Settings that clients see, by the name they know: all values are strings there.
const SHOWN: &[(&str, &str, &str)] = &[
    ("AllowDownloadLogs", "", "true"),
    ("CustomBrandText", "TeamSettings", "CustomBrandText"),
    (
        "CustomDescriptionText",
        "TeamSettings",
        "CustomDescriptionText",
    ),
    (
        "DefaultClientLocale",
        "LocalizationSettings",
        "DefaultClientLocale",
    ),
    ("DiagnosticsEnabled", "LogSettings", "EnableDiagnostics"),
    (
        "EnableBotAccountCreation",
        "ServiceSettings",
        "EnableBotAccountCreation",
    ),
    ("EnableCustomBrand", "TeamSettings", "EnableCustomBrand"),
    ("EnableCustomEmoji", "ServiceSettings", "EnableCustomEmoji"),
    ("EnableDiagnostics", "LogSettings", "EnableDiagnostics"),
    ("EnableFile", "LogSettings", "EnableFile"),
    ("EnableGuestAccounts", "", "false"),
    (
        "EnableJoinLeaveMessageByDefault",
        "TeamSettings",
        "EnableJoinLeaveMessageByDefault",
    ),
    ("EnableLdap", "", "false"),
    (
        "EnableMultifactorAuthentication",
        "ServiceSettings",
        "EnableMultifactorAuthentication",
    ),
    ("EnableOpenServer", "TeamSettings", "EnableOpenServer"),
    ("EnableSaml", "", "false"),
    (
        "EnableSignInWithEmail",
        "EmailSettings",
        "EnableSignInWithEmail",
    ),
    (
        "EnableSignInWithUsername",
        "EmailSettings",
        "EnableSignInWithUsername",
    ),
    (
        "EnableSignUpWithEmail",
        "EmailSettings",
        "EnableSignUpWithEmail",
    ),
    ("EnableUserCreation", "TeamSettings", "EnableUserCreation"),
    ("EnforceMultifactorAuthentication", "", "false"),
    ("PasswordMinimumLength", "PasswordSettings", "MinimumLength"),
    ("SiteName", "TeamSettings", "SiteName"),
    ("SiteURL", "ServiceSettings", "SiteURL"),
    ("WebsocketURL", "ServiceSettings", "WebsocketURL"),
];

pub async fn client(State(app): State<Arc<App>>) -> Json<Value> {
    let config = app.config();
    let mut body = Map::new();
    for (name, section, key) in SHOWN {
        let text = if section.is_empty() {
            (*key).to_owned()
        } else {
            match &config.effective()[*section][*key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            }
        };
        body.insert((*name).to_owned(), text.into());
    }
    let identity = &app.identity;
    for (name, text) in [
        ("AboutLink", "https://mattermost.com/pl/about-mattermost"),
        ("AndroidAppDownloadLink", ""),
        ("AppDownloadLink", ""),
        ("AppsPluginEnabled", "false"),
        ("AsymmetricSigningPublicKey", ""),
        ("EmailLoginButtonBorderColor", "#2389D7"),
        ("EmailLoginButtonColor", "#0000"),
        ("EmailLoginButtonTextColor", "#2389D7"),
        ("EnableAskCommunityLink", "false"),
        ("EnableClientMetrics", "false"),
        ("EnableComplianceExport", "false"),
        ("EnableDesktopLandingPage", "false"),
        ("EnableGuestMagicLink", "false"),
        ("EnableSignUpWithGoogle", "false"),
        ("EnableSignUpWithOffice365", "false"),
        ("EnableSignUpWithOpenId", "false"),
        ("EnableUserStatuses", "true"),
        ("AndroidLatestVersion", ""),
        ("AndroidMinVersion", ""),
        ("BuildDate", &identity.build_date),
        ("BuildEnterpriseReady", "false"),
        ("BuildHash", &identity.build_hash),
        ("BuildHashEnterprise", "none"),
        ("BuildNumber", &identity.version),
        ("CWSURL", ""),
        ("DiagnosticId", &app.server_id),
        ("IosLatestVersion", ""),
        ("IosMinVersion", ""),
        ("TelemetryId", &app.server_id),
        ("Version", &identity.version),
    ] {
        body.insert(name.to_owned(), text.into());
    }
    Json(Value::Object(body))
}

pub async fn license() -> Json<Value> {
    Json(json!({"IsLicensed": "false"}))
}

/// Secrets are shown to the local socket only, as in the real server.
pub async fn show(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.require_admin()?;
    let config = app.config();
    Ok(Json(if caller.local {
        config.effective().clone()
    } else {
        config.sanitized()
    }))
}

/// A whole configuration or a part of it: keys that are not given stay as they are.
pub async fn replace(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    caller.require_admin()?;
    let change: Value = parse_body(&body, "config")?;
    if !change.is_object() {
        return Err(ApiError::bad_body("config"));
    }
    let Some(pool) = &app.config_pool else {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "api.config.update_config.restricted_merge.app_error",
            "The stand-in writes no configuration file: keep the configuration in the database.",
        ));
    };
    // What the environment sets is not stored when a whole configuration comes back.
    let before = app.config();
    let mut change = change;
    drop_overridden(&mut change, &before);
    let stored = before.changed(&change);
    storage::save(pool, &stored)
        .await
        .map_err(|error| ApiError {
            detail: error.to_string(),
            ..ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "app.save_config.app_error",
                "An error occurred saving the configuration.",
            )
        })?;
    app.set_config(Config::new(stored, &app.environment));
    show(State(app), caller).await
}

fn drop_overridden(change: &mut Value, before: &Config) {
    let Some(sections) = change.as_object_mut() else {
        return;
    };
    for (section, keys) in sections {
        let Some(keys) = keys.as_object_mut() else {
            continue;
        };
        keys.retain(|key, value| {
            let now = &before.effective()[section][key];
            let overridden = *now != before.stored()[section][key];
            !(overridden && value == now)
        });
    }
}

pub async fn reload(State(app): State<Arc<App>>, caller: Caller) -> Answer {
    caller.require_admin()?;
    if let Some(pool) = &app.config_pool
        && let Ok(stored) = storage::load(pool, None).await
    {
        app.set_config(Config::new(stored, &app.environment));
    }
    Ok(ok())
}

//! Who asks: a session's or an access token's user, or the local socket, which may do everything.

use super::App;
use super::error::ApiError;
use crate::model::Session;
use crate::store::{sessions, teams, tokens};
use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use std::sync::Arc;

/// Put into each request that came over the local-mode socket.
#[derive(Clone)]
pub struct Local;

#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub user_id: String,
    pub session_id: String,
    pub admin: bool,
    pub local: bool,
}

impl Caller {
    pub fn require_admin(&self) -> Result<(), ApiError> {
        if self.admin {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }

    /// `me` or an identifier. The local socket is nobody, so it has no `me`.
    pub fn resolve(&self, id: &str) -> Result<String, ApiError> {
        match id {
            "me" if !self.user_id.is_empty() => Ok(self.user_id.clone()),
            id if crate::ids::is_id(id) => Ok(id.to_owned()),
            _ => Err(ApiError::bad_parameter("user_id")),
        }
    }

    pub fn require_self_or_admin(&self, id: &str) -> Result<(), ApiError> {
        if self.user_id == id {
            Ok(())
        } else {
            self.require_admin()
        }
    }

    pub async fn require_team(&self, app: &App, team: &str) -> Result<(), ApiError> {
        if self.admin
            || !teams::members(&app.pool, team, Some(&self.user_id))
                .await?
                .is_empty()
        {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }

    pub async fn require_channel(&self, app: &App, channel: &str) -> Result<(), ApiError> {
        let members = crate::store::channels::members(&app.pool, channel, Some(&self.user_id));
        if self.admin || !members.await?.is_empty() {
            Ok(())
        } else {
            Err(ApiError::forbidden())
        }
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if parts.extensions.get::<Local>().is_some() {
            return Ok(Self {
                admin: true,
                local: true,
                ..Self::default()
            });
        }
        let (token, by_cookie) = presented(&parts.headers);
        let Some(token) = token else {
            return Err(ApiError::session_expired(false));
        };
        if let Some(session) = sessions::find(&app.pool, &token).await? {
            if by_cookie && parts.method != Method::GET && !same_site(&parts.headers, &session) {
                return Err(ApiError::session_expired(false));
            }
            return Ok(Self {
                admin: session.roles.split(' ').any(|r| r == "system_admin"),
                user_id: session.user_id,
                session_id: session.id,
                local: false,
            });
        }
        let allowed = app
            .config()
            .flag("ServiceSettings", "EnableUserAccessTokens");
        match tokens::owner(&app.pool, &token).await? {
            // A bot's token always works; a person's only if the setting allows it.
            Some((user_id, roles, bot)) if bot || allowed => Ok(Self {
                admin: roles.split(' ').any(|r| r == "system_admin"),
                user_id,
                ..Self::default()
            }),
            _ => Err(ApiError::session_expired(true)),
        }
    }
}

/// The token that a request presents, and whether it came as a cookie.
pub fn presented(headers: &HeaderMap) -> (Option<String>, bool) {
    let header = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    if let Some((scheme, token)) = header.and_then(|h| h.split_once(' '))
        && (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"))
    {
        return (Some(token.trim().to_owned()), false);
    }
    (cookie(headers, "MMAUTHTOKEN"), true)
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
}

/// A cookie alone proves nothing about who wrote the page: a changing request needs the token or the script's mark.
fn same_site(headers: &HeaderMap, session: &Session) -> bool {
    let is = |name: &str, value: &str| {
        headers
            .get(name)
            .is_some_and(|v| v.as_bytes() == value.as_bytes())
    };
    is("x-csrf-token", &session.csrf) || is("x-requested-with", "XMLHttpRequest")
}

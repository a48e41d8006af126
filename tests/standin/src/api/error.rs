//! Errors in API v4's shape. The request's identifier is filled in by `headers`, which sees every answer.

use crate::store::StoreError;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

#[derive(Clone, Debug)]
pub struct ApiError {
    pub id: &'static str,
    pub message: String,
    pub detail: String,
    pub status: StatusCode,
    /// Tells the browser to forget its session.
    pub clear_cookie: bool,
}

impl ApiError {
    pub fn new(status: StatusCode, id: &'static str, message: impl Into<String>) -> Self {
        Self {
            id,
            message: message.into(),
            detail: String::new(),
            status,
            clear_cookie: false,
        }
    }

    pub fn session_expired(clear_cookie: bool) -> Self {
        Self {
            clear_cookie,
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "api.context.session_expired.app_error",
                "Invalid or expired session, please login again.",
            )
        }
    }

    pub fn bad_login() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "api.user.login.invalid_credentials_email_username",
            "Enter a valid email or username and/or password.",
        )
    }

    pub fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "api.context.permissions.app_error",
            "You do not have the appropriate permissions.",
        )
    }

    pub fn bad_parameter(name: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "api.context.invalid_url_param.app_error",
            format!("Invalid or missing {name} parameter in request URL."),
        )
    }

    pub fn bad_body(name: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "api.context.invalid_body_param.app_error",
            format!("Invalid or missing {name} in request body."),
        )
    }

    pub fn not_found(id: &'static str, message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, id, message)
    }

    /// What a switched-on fault answers.
    pub fn fault(name: &str) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "standin.fault.app_error",
            format!("The stand-in was told to fail here ({name})."),
        )
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        crate::logline::error(
            "Unable to reach the database for this request.",
            "api4/handlers.go:0",
            &[(
                "error",
                serde_json::json!(format!("{error}: {}", error.cause())),
            )],
        );
        Self {
            detail: error.to_string(),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "app.select_error",
                "An error has occurred in the database.",
            )
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

//! The page and its files, and both kinds of 404. Every path that is not the API's shows the page.

use super::headers::{Plain, security};
use super::{App, error::ApiError};
use crate::ids::Utc;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LAST_MODIFIED, VARY,
    X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::path::Component;
use std::sync::Arc;

pub async fn api_not_found(uri: Uri) -> Response {
    let path = uri.path();
    let body = format!(
        "{{\"id\":\"api.context.404.app_error\",\"message\":\"Sorry, we could not find the page.\",\
         \"detailed_error\":{},\"status_code\":404}}",
        json!(format!(
            "There doesn't appear to be an api call for the url='{path}'.  Typo? are you missing a team_id or \
             user_id as part of the url?"
        ))
    );
    let mut response = (StatusCode::NOT_FOUND, body).into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.extensions_mut().insert(Plain);
    response
}

pub async fn root(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let page = tokio::fs::read(app.client.join("root.html"))
        .await
        .map_err(|e| ApiError {
            detail: e.to_string(),
            ..ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "api.web.root.app_error",
                "The client's page is not there.",
            )
        })?;
    let mut response = Response::new(Body::from(page));
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-cache, max-age=31556926, public"),
        (
            CONTENT_SECURITY_POLICY,
            "frame-ancestors 'self' ; script-src 'self'",
        ),
        (CONTENT_TYPE, "text/html"),
        (X_FRAME_OPTIONS, "SAMEORIGIN"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

pub async fn static_file(State(app): State<Arc<App>>, Path(path): Path<String>) -> Response {
    let relative = std::path::Path::new(&path);
    let inside = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_)));
    let file = app.client.join(relative);
    let read = match tokio::fs::metadata(&file).await {
        Ok(about) if inside && about.is_file() => tokio::fs::read(&file)
            .await
            .ok()
            .map(|bytes| (bytes, about)),
        _ => None,
    };
    let mut response = match read {
        Some((bytes, about)) => {
            let mut response = Response::new(Body::from(bytes));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind(&path)));
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.insert(
                CACHE_CONTROL,
                HeaderValue::from_static("max-age=31556926, public"),
            );
            let changed = about
                .modified()
                .ok()
                .and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok())
                .and_then(|d| i64::try_from(d.as_millis()).ok())
                .unwrap_or(0);
            if let Ok(date) = HeaderValue::from_str(&Utc::from_ms(changed).http_date()) {
                headers.insert(LAST_MODIFIED, date);
            }
            response
        }
        None => {
            let mut response = (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
            response
                .headers_mut()
                .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, public"));
            response
        }
    };
    security(response.headers_mut());
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response.extensions_mut().insert(Plain);
    response
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        _ => "application/octet-stream",
    }
}

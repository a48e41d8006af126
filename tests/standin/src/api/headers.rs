//! What every answer carries: identifiers and the headers that clients and the edge rely on, as recorded.

use super::App;
use super::error::ApiError;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_TYPE, EXPIRES, REFERRER_POLICY, SET_COOKIE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const VERSION_ID: HeaderName = HeaderName::from_static("x-version-id");
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");

/// Marks the answers that have none of this: the 404 of an unknown API path, and static files.
#[derive(Clone)]
pub struct Plain;

pub async fn add(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_get = request.method() == Method::GET;
    let is_api = request.uri().path().starts_with("/api/");
    if app.faults.on("hang") {
        std::future::pending::<()>().await;
    }
    let mut response = next.run(request).await;
    if response.extensions().get::<Plain>().is_some() {
        return response;
    }
    let id = crate::ids::new_id();
    if let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let body = error_body(&error, &id);
        *response.body_mut() = Body::from(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if error.clear_cookie {
            headers.append(SET_COOKIE, clear_cookie());
        }
    }
    let headers = response.headers_mut();
    security(headers);
    if is_api {
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if is_get {
            headers
                .entry(EXPIRES)
                .or_insert(HeaderValue::from_static("0"));
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&app.version_id()) {
        headers.insert(VERSION_ID, value);
    }
    response
}

/// `nosniff` and its companions.
pub fn security(headers: &mut axum::http::HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(PERMISSIONS, HeaderValue::from_static(""));
}

pub fn clear_cookie() -> HeaderValue {
    HeaderValue::from_static("MMAUTHTOKEN=; Path=/; Max-Age=0; HttpOnly")
}

/// In the recorded order of fields, which a map would lose.
fn error_body(error: &ApiError, request: &str) -> String {
    format!(
        "{{\"id\":{},\"message\":{},\"detailed_error\":{},\"request_id\":\"{request}\",\"status_code\":{}}}",
        json!(error.id),
        json!(error.message),
        json!(error.detail),
        error.status.as_u16()
    )
}

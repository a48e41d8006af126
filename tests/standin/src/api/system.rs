//! Ping. Plain, it says only that the process answers; with `get_server_status` it asks the database and the file store.

use super::App;
use super::caller::Caller;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;

#[derive(serde::Deserialize)]
pub struct PingQuery {
    #[serde(default)]
    get_server_status: String,
}

pub async fn ping(
    State(app): State<Arc<App>>,
    Query(query): Query<PingQuery>,
    caller: Result<Caller, super::error::ApiError>,
) -> Response {
    let mut body: Map<String, Value> = [
        ("ActiveSearchBackend", "database"),
        ("AndroidLatestVersion", ""),
        ("AndroidMinVersion", ""),
        ("IosLatestVersion", ""),
        ("IosMinVersion", ""),
        ("status", "OK"),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), Value::from(v)))
    .collect();
    if query.get_server_status != "true" {
        return axum::Json(body).into_response();
    }
    let database = app.pool.ping().await.is_ok() && !app.faults.on("unhealthy");
    let files = is_writable(&app.files).await;
    let word = |good| if good { "OK" } else { "UNHEALTHY" };
    body.insert("status".into(), word(database && files).into());
    body.insert("database_status".into(), word(database).into());
    body.insert("filestore_status".into(), word(files).into());
    if caller.is_ok_and(|c| c.admin) {
        let root = nix::unistd::Uid::effective().is_root();
        body.insert("root_status".into(), json!(root));
    }
    let status = if database && files {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let mut response = (status, axum::Json(body)).into_response();
    for (name, good) in [
        ("status", database && files),
        ("database_status", database),
        ("filestore_status", files),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(word(good)));
    }
    response
}

async fn is_writable(folder: &std::path::Path) -> bool {
    let probe = folder.join(format!("testfile.{}", crate::ids::new_id()));
    let made = tokio::fs::File::create(&probe).await.is_ok();
    made && tokio::fs::remove_file(&probe).await.is_ok()
}

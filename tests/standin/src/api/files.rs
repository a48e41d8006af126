//! Files: streamed to `FileSettings.Directory`, on disk before they are acknowledged, streamed back.
//!
//! A file is written under a name of its own, fsynced, renamed into place, and its folder fsynced; only then does its
//! row exist. What is left of a broken upload is removed.

use super::App;
use super::caller::Caller;
use super::error::ApiError;
use super::filebody::FileBody;
use crate::ids::{Utc, new_id, now_ms};
use crate::model::FileInfo;
use crate::store::files as rows;
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Path, Query, Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, LAST_MODIFIED, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

#[derive(serde::Deserialize)]
pub struct UploadQuery {
    #[serde(default)]
    channel_id: String,
    #[serde(default)]
    filename: String,
}

fn failed(error: &std::io::Error) -> ApiError {
    ApiError {
        detail: error.to_string(),
        ..ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "api.file.write_file.app_error",
            "Unable to write the file.",
        )
    }
}

/// A file being received. Removed when dropped before it was put in its place.
struct Incoming {
    file: File,
    path: PathBuf,
    size: i64,
    limit: i64,
    placed: bool,
}

impl Incoming {
    async fn create(app: &App) -> Result<Self, ApiError> {
        let path = app.files.join(format!("incoming.{}", new_id()));
        let file = File::create(&path).await.map_err(|e| failed(&e))?;
        Ok(Self {
            file,
            path,
            size: 0,
            limit: app.config().number("FileSettings", "MaxFileSize"),
            placed: false,
        })
    }

    async fn write(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        self.size += i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        if self.size > self.limit {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "api.file.upload_file.too_large_detailed.app_error",
                format!(
                    "Unable to upload file. File is too large. Limit is {} bytes.",
                    self.limit
                ),
            ));
        }
        self.file.write_all(chunk).await.map_err(|e| failed(&e))
    }

    /// Puts the bytes on disk under their final name and makes the row.
    async fn place(
        mut self,
        app: &App,
        user: &str,
        channel: &str,
        name: &str,
        kind: Option<&str>,
    ) -> Result<FileInfo, ApiError> {
        let now = now_ms();
        let name = base_name(name);
        let id = new_id();
        let user_folder = if user.is_empty() { "nouser" } else { user };
        let folder = format!(
            "{}/teams/noteam/channels/{channel}/users/{user_folder}/{id}",
            Utc::from_ms(now).day_folder()
        );
        self.file.flush().await.map_err(|e| failed(&e))?;
        self.file.sync_all().await.map_err(|e| failed(&e))?;
        make_folders(&app.files, &folder)
            .await
            .map_err(|e| failed(&e))?;
        let relative = format!("{folder}/{name}");
        let target = app.files.join(&relative);
        tokio::fs::rename(&self.path, &target)
            .await
            .map_err(|e| failed(&e))?;
        self.placed = true;
        sync_folder(&app.files.join(&folder))
            .await
            .map_err(|e| failed(&e))?;
        let extension = extension(&name);
        let info = FileInfo {
            id,
            user_id: user.to_owned(),
            channel_id: channel.to_owned(),
            create_at: now,
            update_at: now,
            mime_type: mime_type(&extension, kind),
            extension,
            name,
            size: self.size,
            path: relative,
            ..FileInfo::default()
        };
        if let Err(error) = rows::insert(&app.pool, &info).await {
            tokio::fs::remove_file(&target).await.ok();
            return Err(error.into());
        }
        Ok(info)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.placed {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

/// Makes the folders one by one and fsyncs each parent, so that a power cut loses none of them.
async fn make_folders(root: &FilePath, relative: &str) -> std::io::Result<()> {
    let mut folder = root.to_owned();
    for part in relative.split('/') {
        let parent = folder.clone();
        folder.push(part);
        match tokio::fs::create_dir(&folder).await {
            Ok(()) => sync_folder(&parent).await?,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

async fn sync_folder(folder: &FilePath) -> std::io::Result<()> {
    File::open(folder).await?.sync_all().await
}

pub async fn upload(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if app.faults.on("fail-upload") {
        return Err(ApiError::fault("fail-upload"));
    }
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if kind.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, &app)
            .await
            .map_err(|_| ApiError::bad_body("multipart form"))?;
        return receive_form(&app, &caller, query.channel_id, form).await;
    }
    if query.filename.is_empty() {
        return Err(ApiError::bad_parameter("filename"));
    }
    check_channel(&app, &caller, &query.channel_id).await?;
    let mut incoming = Incoming::create(&app).await?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_body("file"))?;
        if let Some(chunk) = frame.data_ref() {
            incoming.write(chunk).await?;
        }
    }
    let info = incoming
        .place(
            &app,
            &caller.user_id,
            &query.channel_id,
            &query.filename,
            Some(&kind),
        )
        .await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"file_infos": [info], "client_ids": null})),
    ))
}

async fn receive_form(
    app: &App,
    caller: &Caller,
    mut channel: String,
    mut form: Multipart,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let broken = |_| ApiError::bad_body("multipart form");
    let mut received = Vec::new();
    let mut client_ids = Vec::new();
    while let Some(mut field) = form.next_field().await.map_err(broken)? {
        match field.name() {
            Some("channel_id") => channel = field.text().await.map_err(broken)?,
            Some("client_ids") => client_ids.push(field.text().await.map_err(broken)?),
            _ => {
                let Some(name) = field.file_name().map(str::to_owned) else {
                    continue;
                };
                let kind = field.content_type().map(str::to_owned);
                let mut incoming = Incoming::create(app).await?;
                while let Some(chunk) = field.chunk().await.map_err(broken)? {
                    incoming.write(&chunk).await?;
                }
                received.push((incoming, name, kind));
            }
        }
    }
    check_channel(app, caller, &channel).await?;
    let mut infos = Vec::new();
    for (incoming, name, kind) in received {
        infos.push(
            incoming
                .place(app, &caller.user_id, &channel, &name, kind.as_deref())
                .await?,
        );
    }
    if infos.is_empty() {
        return Err(ApiError::bad_body("files"));
    }
    Ok((
        StatusCode::CREATED,
        Json(json!({"file_infos": infos, "client_ids": client_ids})),
    ))
}

async fn check_channel(app: &App, caller: &Caller, channel: &str) -> Result<(), ApiError> {
    if !crate::ids::is_id(channel) {
        return Err(ApiError::bad_body("channel_id"));
    }
    caller.require_channel(app, channel).await
}

/// A file that the caller may read: their own, or one of a channel they may read.
async fn readable(app: &App, caller: &Caller, id: &str) -> Result<FileInfo, ApiError> {
    let info = rows::find(&app.pool, id).await?.ok_or_else(|| {
        ApiError::not_found(
            "app.file_info.get.app_error",
            "Unable to get the file info.",
        )
    })?;
    if info.user_id != caller.user_id {
        caller.require_channel(app, &info.channel_id).await?;
    }
    Ok(info)
}

pub async fn info(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let mut response = Json(readable(&app, &caller, &id).await?).into_response();
    response.headers_mut().insert(
        CACHE_CONTROL,
        HeaderValue::from_static("max-age=2592000, private"),
    );
    Ok(response)
}

pub async fn download(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let info = readable(&app, &caller, &id).await?;
    let file = File::open(app.files.join(&info.path))
        .await
        .map_err(|e| ApiError {
            detail: e.to_string(),
            ..ApiError::not_found(
                "api.file.read_file.reading_local.app_error",
                "Encountered an error reading from local server file storage.",
            )
        })?;
    let corrupt = app.faults.on("corrupt-download");
    let mut response = Response::new(Body::new(FileBody::read(file, corrupt)));
    let headers = response.headers_mut();
    let quoted = info.name.replace(['"', '\\'], "_");
    let texts = [
        (CONTENT_TYPE, info.mime_type.clone()),
        (CONTENT_LENGTH, info.size.to_string()),
        (
            HeaderName::from_static("x-uncompressed-content-length"),
            info.size.to_string(),
        ),
        (LAST_MODIFIED, Utc::from_ms(info.create_at).http_date()),
        (
            CONTENT_DISPOSITION,
            format!(
                "attachment;filename=\"{quoted}\"; filename*=UTF-8''{}",
                percent_encoded(&info.name)
            ),
        ),
        (CACHE_CONTROL, "private, max-age=86400".to_owned()),
        (CONTENT_SECURITY_POLICY, "Frame-ancestors 'none'".to_owned()),
        (X_FRAME_OPTIONS, "DENY".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ];
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.insert(name, value);
        }
    }
    Ok(response)
}

/// The last part of whatever path a client sent; never empty, never a folder.
fn base_name(name: &str) -> String {
    let last: String = name
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(120)
        .collect();
    match last.as_str() {
        "" | "." | ".." => "file".to_owned(),
        _ => last,
    }
}

fn extension(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, extension)) => extension.to_lowercase(),
        None => String::new(),
    }
}

fn mime_type(extension: &str, given: Option<&str>) -> String {
    match extension {
        "txt" | "log" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "zip" => "application/zip",
        "bin" => "application/octet-stream",
        _ => given
            .filter(|g| !g.is_empty() && g.is_ascii())
            .unwrap_or("application/octet-stream"),
    }
    .to_owned()
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

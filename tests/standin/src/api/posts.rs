//! Posts: acknowledged only after COMMIT, then told to those who are connected.

use super::caller::Caller;
use super::error::ApiError;
use super::users::{Answer, ok};
use super::{App, channels, parse_body};
use crate::hub::Audience;
use crate::model::{FileInfo, Post};
use crate::store::{channels as channel_rows, posts as rows, users};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

const LONGEST: usize = 16_383;

fn missing() -> ApiError {
    ApiError::not_found("app.post.get.app_error", "Unable to get the post.")
}

pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: Bytes,
) -> Result<(StatusCode, Json<Post>), ApiError> {
    let wanted: Post = parse_body(&body, "post")?;
    if !crate::ids::is_id(&wanted.channel_id) {
        return Err(ApiError::bad_body("channel_id"));
    }
    if wanted.message.chars().count() > LONGEST {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "model.post.is_valid.message_length.app_error",
            format!(
                "Post Message property is longer than the maximum permitted length of {LONGEST} characters."
            ),
        ));
    }
    if wanted.message.is_empty() && wanted.file_ids.is_empty() {
        return Err(ApiError::bad_body("message"));
    }
    if app.faults.on("fail-post") {
        return Err(ApiError::fault("fail-post"));
    }
    caller.require_channel(&app, &wanted.channel_id).await?;
    let channel = channels::load(&app, &wanted.channel_id).await?;
    if channel.delete_at != 0 {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "api.post.create_post.can_not_post_to_deleted.error",
            "Can not post to deleted channel.",
        ));
    }
    if !wanted.root_id.is_empty() && rows::find(&app.pool, &wanted.root_id).await?.is_none() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "api.post.create_post.root_id.app_error",
            "Invalid RootId parameter.",
        ));
    }
    let pending = wanted.pending_post_id;
    let post = Post {
        user_id: caller.user_id.clone(),
        channel_id: wanted.channel_id,
        root_id: wanted.root_id,
        message: wanted.message,
        props: if wanted.props.is_object() {
            wanted.props
        } else {
            json!({})
        },
        file_ids: wanted.file_ids,
        ..Post::default()
    };
    if app.faults.on("lose-post") {
        let lost = Post {
            id: crate::ids::new_id(),
            create_at: crate::ids::now_ms(),
            metadata: json!({}),
            ..post
        };
        return Ok((StatusCode::CREATED, Json(lost)));
    }
    let mut post = rows::insert(&app.pool, post).await?;
    post.pending_post_id = pending;
    tell(&app, &post).await?;
    Ok((StatusCode::CREATED, Json(post)))
}

/// Sends the `posted` event to the channel's members.
pub async fn tell(app: &App, post: &Post) -> Result<(), ApiError> {
    if app.faults.on("lose-websocket") {
        return Ok(());
    }
    let channel = channels::load(app, &post.channel_id).await?;
    let members = channel_rows::member_ids(&app.pool, &post.channel_id).await?;
    let sender = users::find(&app.pool, users::By::Id, &post.user_id).await?;
    let audience = Audience::Channel {
        id: &post.channel_id,
        members: &members,
    };
    app.hub.publish(
        "posted",
        json!({
            "channel_display_name": channel.display_name,
            "channel_name": channel.name,
            "channel_type": channel.kind,
            "post": serde_json::to_string(post).unwrap_or_default(),
            "sender_name": format!("@{}", sender.map(|s| s.username).unwrap_or_default()),
            "set_online": true,
            "team_id": channel.team_id,
        }),
        &audience,
    );
    app.hub.publish(
        "multiple_channels_viewed",
        json!({"channel_times": {&post.channel_id: post.create_at}}),
        &Audience::User(&post.user_id),
    );
    Ok(())
}

/// A post that the caller may read.
async fn readable(app: &App, caller: &Caller, id: &str) -> Result<Post, ApiError> {
    let post = rows::find(&app.pool, id).await?.ok_or_else(missing)?;
    let channel = channels::load(app, &post.channel_id).await?;
    channels::visible(app, caller, channel).await?;
    Ok(post)
}

pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Post>, ApiError> {
    Ok(Json(readable(&app, &caller, &id).await?))
}

pub async fn files(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Vec<FileInfo>>, ApiError> {
    readable(&app, &caller, &id).await?;
    let connection = app.pool.take().await?;
    let infos = crate::store::files::of_posts(&connection, &[&id]).await?;
    Ok(Json(infos))
}

#[derive(serde::Deserialize)]
pub struct Since {
    #[serde(default)]
    since: i64,
    #[serde(default)]
    page: i64,
    per_page: Option<i64>,
}

pub async fn of_channel(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Since>,
) -> Result<Response, ApiError> {
    let channel = channels::load(&app, &id).await?;
    let channel = channels::visible(&app, &caller, channel).await?;
    let paging = super::Paging {
        page: query.page,
        per_page: query.per_page,
    };
    let (offset, limit) = paging.limits();
    let found = rows::of_channel(&app.pool, &id, query.since, offset, limit).await?;
    let mut response = Json(rows::as_list(&found)).into_response();
    let etag = format!("{}.{}", app.identity.version, channel.last_post_at);
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(ETAG, value);
    }
    Ok(response)
}

#[derive(serde::Deserialize)]
struct Terms {
    terms: String,
    #[serde(default)]
    is_or_search: bool,
}

pub async fn search(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(team): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let given: Terms = parse_body(&body, "terms")?;
    if given.terms.is_empty() {
        return Err(ApiError::bad_body("terms"));
    }
    caller.require_team(&app, &team).await?;
    if app.faults.on("fail-search") {
        return Err(ApiError::fault("fail-search"));
    }
    let found = if app.faults.on("deny-search") {
        Vec::new()
    } else {
        rows::search(
            &app.pool,
            &team,
            &caller.user_id,
            &given.terms,
            given.is_or_search,
        )
        .await?
    };
    let mut list = rows::as_list(&found);
    list["matches"] = Value::Null;
    let mut response = Json(list).into_response();
    response.headers_mut().insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    Ok(response)
}

pub async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Post>, ApiError> {
    let post = rows::find(&app.pool, &id).await?.ok_or_else(missing)?;
    caller.require_self_or_admin(&post.user_id)?;
    let given: Value = parse_body(&body, "post")?;
    let message = given["message"].as_str().unwrap_or(&post.message);
    rows::edit(&app.pool, &id, message).await?;
    let post = rows::find(&app.pool, &id).await?.ok_or_else(missing)?;
    let members = channel_rows::member_ids(&app.pool, &post.channel_id).await?;
    app.hub.publish(
        "post_edited",
        json!({"post": serde_json::to_string(&post).unwrap_or_default()}),
        &Audience::Channel {
            id: &post.channel_id,
            members: &members,
        },
    );
    Ok(Json(post))
}

#[derive(serde::Deserialize)]
pub struct Deletion {
    #[serde(default)]
    permanent: bool,
}

pub async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(deletion): Query<Deletion>,
) -> Answer {
    let post = rows::find(&app.pool, &id).await?.ok_or_else(missing)?;
    caller.require_self_or_admin(&post.user_id)?;
    let enabled = app
        .config()
        .flag("ServiceSettings", "EnableAPIPostDeletion");
    if deletion.permanent && !(caller.local || caller.admin && enabled) {
        return Err(ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            "api.post.delete_post.not_enabled.app_error",
            "Permanent post deletion feature is not enabled. Please contact your System Administrator.",
        ));
    }
    let members = channel_rows::member_ids(&app.pool, &post.channel_id).await?;
    for path in rows::delete(&app.pool, &id, deletion.permanent).await? {
        tokio::fs::remove_file(app.files.join(path)).await.ok();
    }
    app.hub.publish(
        "post_deleted",
        json!({
            "delete_by": caller.user_id,
            "post": serde_json::to_string(&post).unwrap_or_default(),
        }),
        &Audience::Channel {
            id: &post.channel_id,
            members: &members,
        },
    );
    Ok(ok())
}

//! Rows of posts. A post exists for its sender only after COMMIT.

use super::files;
use super::{During, Pool, StoreError};
use crate::ids::{new_id, now_ms};
use crate::model::Post;
use serde_json::{Value, json};
use tokio_postgres::{Client, Row};

const COLUMNS: &str = "p.id, p.createat, p.updateat, p.editat, p.deleteat, p.ispinned, p.userid, p.channelid, \
    p.rootid, p.message, p.type, p.props, p.hashtags, \
    (SELECT count(*) FROM posts r WHERE r.rootid = p.id AND r.deleteat = 0)";

fn from_row(row: &Row) -> Post {
    let kind: String = row.get(10);
    Post {
        id: row.get(0),
        create_at: row.get(1),
        update_at: row.get(2),
        edit_at: row.get(3),
        delete_at: row.get(4),
        is_pinned: row.get(5),
        user_id: row.get(6),
        channel_id: row.get(7),
        root_id: row.get(8),
        message: row.get(9),
        remote_id: kind.is_empty().then(String::new),
        kind,
        props: serde_json::from_str(row.get(11)).unwrap_or_else(|_| json!({})),
        hashtags: row.get(12),
        reply_count: row.get(13),
        metadata: json!({}),
        ..Post::default()
    }
}

/// Fills in each post's files.
async fn with_files(client: &Client, mut posts: Vec<Post>) -> Result<Vec<Post>, StoreError> {
    let ids: Vec<&str> = posts.iter().map(|p| p.id.as_str()).collect();
    let all = files::of_posts(client, &ids).await?;
    for post in &mut posts {
        let of_this: Vec<_> = all.iter().filter(|f| f.post_id == post.id).collect();
        post.file_ids = of_this.iter().map(|f| f.id.clone()).collect();
        if !of_this.is_empty() {
            post.metadata = json!({ "files": of_this });
        }
    }
    Ok(posts)
}

/// Stores a post with its files and counts it in its channel; returns it as stored.
pub async fn insert(pool: &Pool, mut post: Post) -> Result<Post, StoreError> {
    post.id = new_id();
    post.create_at = now_ms();
    let mut connection = pool.take().await?;
    let transaction = connection.transaction().await.during("begin")?;
    transaction
        .execute(
            "INSERT INTO posts (id, createat, updateat, userid, channelid, rootid, message, type, props, hashtags) \
             VALUES ($1,$2,$2,$3,$4,$5,$6,$7,$8,$9)",
            &[
                &post.id,
                &post.create_at,
                &post.user_id,
                &post.channel_id,
                &post.root_id,
                &post.message,
                &post.kind,
                &post.props.to_string(),
                &hashtags(&post.message),
            ],
        )
        .await
        .during("create a post")?;
    transaction
        .execute(
            "UPDATE fileinfo SET postid=$1, updateat=$2 WHERE id = ANY($3) AND postid='' AND creatorid=$4",
            &[&post.id, &post.create_at, &post.file_ids, &post.user_id],
        )
        .await
        .during("attach files to a post")?;
    transaction
        .execute(
            "UPDATE channels SET lastpostat=$2, totalmsgcount = totalmsgcount + 1 WHERE id=$1",
            &[&post.channel_id, &post.create_at],
        )
        .await
        .during("count a post")?;
    transaction.commit().await.during("commit a post")?;
    drop(connection);
    Ok(find(pool, &post.id).await?.unwrap_or(post))
}

pub async fn find(pool: &Pool, id: &str) -> Result<Option<Post>, StoreError> {
    let connection = pool.take().await?;
    let row = connection
        .query_opt(
            &format!("SELECT {COLUMNS} FROM posts p WHERE p.id=$1 AND p.deleteat = 0"),
            &[&id],
        )
        .await
        .during("read a post")?;
    let found = with_files(
        &connection,
        row.as_ref().map(from_row).into_iter().collect(),
    )
    .await?;
    Ok(found.into_iter().next())
}

/// A channel's posts, newest first.
pub async fn of_channel(
    pool: &Pool,
    channel: &str,
    since: i64,
    offset: i64,
    limit: i64,
) -> Result<Vec<Post>, StoreError> {
    let connection = pool.take().await?;
    let rows = connection
        .query(
            &format!(
                "SELECT {COLUMNS} FROM posts p WHERE p.channelid=$1 AND p.deleteat = 0 AND p.updateat > $2 \
                 ORDER BY p.createat DESC, p.id DESC OFFSET $3 LIMIT $4"
            ),
            &[&channel, &since, &offset, &limit],
        )
        .await
        .during("read a channel's posts")?;
    with_files(&connection, rows.iter().map(from_row).collect()).await
}

/// Full-text search over the channels of one user in a team; words are joined by AND, or by OR.
pub async fn search(
    pool: &Pool,
    team: &str,
    user: &str,
    terms: &str,
    any: bool,
) -> Result<Vec<Post>, StoreError> {
    let terms = if any {
        terms.split_whitespace().collect::<Vec<_>>().join(" or ")
    } else {
        terms.to_owned()
    };
    let connection = pool.take().await?;
    let rows = connection
        .query(
            &format!(
                "SELECT {COLUMNS} FROM posts p JOIN channels c ON c.id = p.channelid \
                 JOIN channelmembers m ON m.channelid = c.id AND m.userid = $2 \
                 WHERE c.teamid=$1 AND p.deleteat = 0 AND p.type = '' \
                 AND to_tsvector('english', p.message) @@ websearch_to_tsquery('english', $3) \
                 ORDER BY p.createat DESC LIMIT 100"
            ),
            &[&team, &user, &terms],
        )
        .await
        .during("search posts")?;
    with_files(&connection, rows.iter().map(from_row).collect()).await
}

pub async fn edit(pool: &Pool, id: &str, message: &str) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "UPDATE posts SET message=$2, hashtags=$3, updateat=$4, editat=$4 WHERE id=$1",
            &[&id, &message, &hashtags(message), &now_ms()],
        )
        .await
        .during("edit a post")?;
    Ok(())
}

/// Marks a post and its replies as deleted, or deletes the rows (and returns the places of the files to unlink).
pub async fn delete(pool: &Pool, id: &str, permanent: bool) -> Result<Vec<String>, StoreError> {
    let mut connection = pool.take().await?;
    let transaction = connection.transaction().await.during("begin")?;
    let mut paths = Vec::new();
    if permanent {
        let rows = transaction
            .query(
                "DELETE FROM fileinfo WHERE postid IN (SELECT id FROM posts WHERE id=$1 OR rootid=$1) RETURNING path",
                &[&id],
            )
            .await
            .during("delete a post's files")?;
        paths = rows.iter().map(|r| r.get(0)).collect();
        transaction
            .execute("DELETE FROM posts WHERE id=$1 OR rootid=$1", &[&id])
            .await
            .during("delete a post")?;
    } else {
        let now = now_ms();
        transaction
            .execute(
                "UPDATE posts SET deleteat=$2, updateat=$2 WHERE id=$1 OR rootid=$1",
                &[&id, &now],
            )
            .await
            .during("delete a post")?;
        transaction
            .execute(
                "UPDATE fileinfo SET deleteat=$2 WHERE postid IN (SELECT id FROM posts WHERE id=$1 OR rootid=$1)",
                &[&id, &now],
            )
            .await
            .during("delete a post's files")?;
    }
    transaction.commit().await.during("commit a deletion")?;
    Ok(paths)
}

fn hashtags(message: &str) -> String {
    message
        .split_whitespace()
        .filter(|w| w.len() > 2 && w.starts_with('#') && w[1..].chars().all(char::is_alphanumeric))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The list form: identifiers in order, posts by identifier.
pub fn as_list(posts: &[Post]) -> Value {
    let mut map = serde_json::Map::new();
    for post in posts {
        map.insert(
            post.id.clone(),
            serde_json::to_value(post).unwrap_or_default(),
        );
    }
    json!({
        "order": posts.iter().map(|p| &p.id).collect::<Vec<_>>(),
        "posts": map,
        "next_post_id": "",
        "prev_post_id": "",
        "first_inaccessible_post_time": 0,
    })
}

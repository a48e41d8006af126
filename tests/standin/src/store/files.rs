//! Rows of file infos. The bytes are elsewhere (`api::files`), on disk before the row exists.

use super::{During, Pool, StoreError};
use crate::model::FileInfo;
use tokio_postgres::{Client, Row};

const COLUMNS: &str = "id, creatorid, postid, channelid, createat, updateat, deleteat, path, name, extension, size, \
    mimetype";

fn from_row(row: &Row) -> FileInfo {
    FileInfo {
        id: row.get(0),
        user_id: row.get(1),
        post_id: row.get(2),
        channel_id: row.get(3),
        create_at: row.get(4),
        update_at: row.get(5),
        delete_at: row.get(6),
        path: row.get(7),
        name: row.get(8),
        extension: row.get(9),
        size: row.get(10),
        mime_type: row.get(11),
        ..FileInfo::default()
    }
}

pub async fn insert(pool: &Pool, info: &FileInfo) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "INSERT INTO fileinfo (id, creatorid, channelid, createat, updateat, path, name, extension, size, \
             mimetype) VALUES ($1,$2,$3,$4,$4,$5,$6,$7,$8,$9)",
            &[
                &info.id,
                &info.user_id,
                &info.channel_id,
                &info.create_at,
                &info.path,
                &info.name,
                &info.extension,
                &info.size,
                &info.mime_type,
            ],
        )
        .await
        .during("create a file info")?;
    Ok(())
}

pub async fn find(pool: &Pool, id: &str) -> Result<Option<FileInfo>, StoreError> {
    let row = pool
        .take()
        .await?
        .query_opt(
            &format!("SELECT {COLUMNS} FROM fileinfo WHERE id=$1 AND deleteat = 0"),
            &[&id],
        )
        .await
        .during("read a file info")?;
    Ok(row.as_ref().map(from_row))
}

pub async fn of_posts(client: &Client, posts: &[&str]) -> Result<Vec<FileInfo>, StoreError> {
    let rows = client
        .query(
            &format!(
                "SELECT {COLUMNS} FROM fileinfo WHERE postid = ANY($1) AND deleteat = 0 ORDER BY createat, id"
            ),
            &[&posts],
        )
        .await
        .during("read file infos")?;
    Ok(rows.iter().map(from_row).collect())
}

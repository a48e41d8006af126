//! Rows of channels and their members.

use super::{During, Pool, StoreError};
use crate::ids::{new_id, now_ms};
use crate::model::Channel;
use serde_json::{Value, json};
use tokio_postgres::Row;

const COLUMNS: &str = "c.id, c.createat, c.updateat, c.deleteat, c.teamid, c.type, c.displayname, c.name, c.header, \
    c.purpose, c.lastpostat, c.totalmsgcount, c.creatorid";

fn from_row(row: &Row) -> Channel {
    Channel {
        id: row.get(0),
        create_at: row.get(1),
        update_at: row.get(2),
        delete_at: row.get(3),
        team_id: row.get(4),
        kind: row.get(5),
        display_name: row.get(6),
        name: row.get(7),
        header: row.get(8),
        purpose: row.get(9),
        last_post_at: row.get(10),
        total_msg_count: row.get(11),
        creator_id: row.get(12),
        total_msg_count_root: row.get(11),
        last_root_post_at: row.get(10),
        ..Channel::default()
    }
}

/// A new channel; its maker, if there is one, becomes its administrator.
pub async fn insert(pool: &Pool, mut channel: Channel) -> Result<Channel, StoreError> {
    let now = now_ms();
    channel.id = new_id();
    channel.create_at = now;
    channel.update_at = now;
    let mut connection = pool.take().await?;
    let transaction = connection.transaction().await.during("begin")?;
    transaction
        .execute(
            "INSERT INTO channels (id, createat, updateat, teamid, type, displayname, name, header, purpose, \
             creatorid) VALUES ($1,$2,$2,$3,$4,$5,$6,$7,$8,$9)",
            &[
                &channel.id,
                &now,
                &channel.team_id,
                &channel.kind,
                &channel.display_name,
                &channel.name,
                &channel.header,
                &channel.purpose,
                &channel.creator_id,
            ],
        )
        .await
        .during("create a channel")?;
    if !channel.creator_id.is_empty() {
        transaction
            .execute(
                "INSERT INTO channelmembers (channelid, userid, lastupdateat, schemeadmin) VALUES ($1,$2,$3,true)",
                &[&channel.id, &channel.creator_id, &now],
            )
            .await
            .during("add a channel's maker")?;
    }
    transaction.commit().await.during("commit a channel")?;
    Ok(channel)
}

pub async fn find(pool: &Pool, id: &str) -> Result<Option<Channel>, StoreError> {
    let row = pool
        .take()
        .await?
        .query_opt(
            &format!("SELECT {COLUMNS} FROM channels c WHERE c.id=$1"),
            &[&id],
        )
        .await
        .during("read a channel")?;
    Ok(row.as_ref().map(from_row))
}

pub async fn by_name(pool: &Pool, team: &str, name: &str) -> Result<Option<Channel>, StoreError> {
    let row = pool
        .take()
        .await?
        .query_opt(
            &format!("SELECT {COLUMNS} FROM channels c WHERE c.teamid=$1 AND c.name=$2"),
            &[&team, &name],
        )
        .await
        .during("read a channel")?;
    Ok(row.as_ref().map(from_row))
}

/// A team's public channels, or those of one user there.
pub async fn list(pool: &Pool, team: &str, user: Option<&str>) -> Result<Vec<Channel>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            &format!(
                "SELECT {COLUMNS} FROM channels c WHERE c.teamid=$1 AND c.deleteat = 0 AND \
                 CASE WHEN $2::text IS NULL THEN c.type = 'O' ELSE EXISTS (SELECT 1 FROM channelmembers m \
                 WHERE m.channelid = c.id AND m.userid = $2) END ORDER BY c.displayname"
            ),
            &[&team, &user],
        )
        .await
        .during("list channels")?;
    Ok(rows.iter().map(from_row).collect())
}

pub async fn join(pool: &Pool, channel: &str, user: &str) -> Result<bool, StoreError> {
    let added = pool
        .take()
        .await?
        .execute(
            "INSERT INTO channelmembers (channelid, userid, lastupdateat) VALUES ($1,$2,$3) ON CONFLICT DO NOTHING",
            &[&channel, &user, &now_ms()],
        )
        .await
        .during("add a channel member")?;
    Ok(added == 1)
}

pub async fn leave(pool: &Pool, channel: &str, user: &str) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "DELETE FROM channelmembers WHERE channelid=$1 AND userid=$2",
            &[&channel, &user],
        )
        .await
        .during("remove a channel member")?;
    Ok(())
}

fn member_from_row(row: &Row) -> Value {
    let admin: bool = row.get(5);
    json!({
        "channel_id": row.get::<_, String>(0),
        "user_id": row.get::<_, String>(1),
        "roles": if admin { "channel_user channel_admin" } else { "channel_user" },
        "last_viewed_at": row.get::<_, i64>(2),
        "msg_count": row.get::<_, i64>(3),
        "mention_count": 0,
        "mention_count_root": 0,
        "urgent_mention_count": 0,
        "msg_count_root": row.get::<_, i64>(3),
        "notify_props": {"desktop": "default", "email": "default", "ignore_channel_mentions": "default",
                         "mark_unread": "all", "push": "default"},
        "last_update_at": row.get::<_, i64>(4),
        "scheme_guest": false,
        "scheme_user": true,
        "scheme_admin": admin,
        "explicit_roles": "",
    })
}

/// Members of a channel, or the one asked for.
pub async fn members(
    pool: &Pool,
    channel: &str,
    user: Option<&str>,
) -> Result<Vec<Value>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            "SELECT channelid, userid, lastviewedat, msgcount, lastupdateat, schemeadmin FROM channelmembers \
             WHERE channelid=$1 AND ($2::text IS NULL OR userid=$2) ORDER BY userid",
            &[&channel, &user],
        )
        .await
        .during("read channel members")?;
    Ok(rows.iter().map(member_from_row).collect())
}

/// Identifiers of a channel's members: who gets its events.
pub async fn member_ids(pool: &Pool, channel: &str) -> Result<Vec<String>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            "SELECT userid FROM channelmembers WHERE channelid=$1",
            &[&channel],
        )
        .await
        .during("read channel members")?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

/// Archives a channel, or deletes it with its posts.
pub async fn delete(pool: &Pool, id: &str, permanent: bool) -> Result<(), StoreError> {
    let connection = pool.take().await?;
    if permanent {
        connection
            .execute("DELETE FROM channels WHERE id=$1", &[&id])
            .await
            .during("delete a channel")?;
    } else {
        connection
            .execute(
                "UPDATE channels SET deleteat=$2, updateat=$2 WHERE id=$1",
                &[&id, &now_ms()],
            )
            .await
            .during("archive a channel")?;
    }
    Ok(())
}

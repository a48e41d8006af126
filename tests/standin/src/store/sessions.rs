//! Rows of sessions.

use super::{During, Pool, StoreError};
use crate::ids::{new_id, now_ms};
use crate::model::Session;
use serde_json::json;
use tokio_postgres::Row;

const SELECT: &str = "SELECT s.id, s.token, s.createat, s.expiresat, s.lastactivityat, s.userid, s.deviceid, \
    u.roles, s.csrf FROM sessions s JOIN users u ON u.id = s.userid";

fn from_row(row: &Row) -> Session {
    let csrf: String = row.get(8);
    Session {
        id: row.get(0),
        token: row.get(1),
        create_at: row.get(2),
        expires_at: row.get(3),
        last_activity_at: row.get(4),
        user_id: row.get(5),
        device_id: row.get(6),
        roles: row.get(7),
        props: json!({ "csrf": csrf }),
        csrf,
        ..Session::default()
    }
}

pub async fn insert(
    pool: &Pool,
    user: &str,
    device: &str,
    lifetime_ms: i64,
) -> Result<Session, StoreError> {
    let now = now_ms();
    let session = Session {
        id: new_id(),
        token: new_id(),
        create_at: now,
        expires_at: now + lifetime_ms,
        last_activity_at: now,
        user_id: user.to_owned(),
        device_id: device.to_owned(),
        csrf: new_id(),
        ..Session::default()
    };
    pool.take()
        .await?
        .execute(
            "INSERT INTO sessions (id, token, createat, expiresat, lastactivityat, userid, deviceid, csrf) \
             VALUES ($1,$2,$3,$4,$3,$5,$6,$7)",
            &[
                &session.id,
                &session.token,
                &now,
                &session.expires_at,
                &session.user_id,
                &session.device_id,
                &session.csrf,
            ],
        )
        .await
        .during("create a session")?;
    Ok(session)
}

/// The live session of a token whose user is active.
pub async fn find(pool: &Pool, token: &str) -> Result<Option<Session>, StoreError> {
    let row = pool
        .take()
        .await?
        .query_opt(
            &format!("{SELECT} WHERE s.token=$1 AND s.expiresat > $2 AND u.deleteat = 0"),
            &[&token, &now_ms()],
        )
        .await
        .during("read a session")?;
    Ok(row.as_ref().map(from_row))
}

pub async fn of_user(pool: &Pool, user: &str) -> Result<Vec<Session>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            &format!(
                "{SELECT} WHERE s.userid=$1 AND s.expiresat > $2 ORDER BY s.lastactivityat DESC"
            ),
            &[&user, &now_ms()],
        )
        .await
        .during("list sessions")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Ends one session of a user, or all of them.
pub async fn revoke(pool: &Pool, user: &str, session: Option<&str>) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "DELETE FROM sessions WHERE userid=$1 AND ($2::text IS NULL OR id=$2)",
            &[&user, &session],
        )
        .await
        .during("revoke sessions")?;
    Ok(())
}

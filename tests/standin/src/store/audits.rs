//! Rows of audits: what a user did, and from which address.

use super::{During, Pool, StoreError};
use crate::ids::{new_id, now_ms};
use crate::model::Audit;
use tokio_postgres::Row;

fn from_row(row: &Row) -> Audit {
    Audit {
        id: row.get(0),
        create_at: row.get(1),
        user_id: row.get(2),
        action: row.get(3),
        extra_info: row.get(4),
        ip_address: row.get(5),
        session_id: row.get(6),
    }
}

/// Writes an audit down; its identifier and time are made here.
pub async fn insert(pool: &Pool, audit: &Audit) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "INSERT INTO audits (id, createat, userid, action, extrainfo, ipaddress, sessionid) \
             VALUES ($1,$2,$3,$4,$5,$6,$7)",
            &[
                &new_id(),
                &now_ms(),
                &audit.user_id,
                &audit.action,
                &audit.extra_info,
                &audit.ip_address,
                &audit.session_id,
            ],
        )
        .await
        .during("write an audit")?;
    Ok(())
}

/// The newest first.
pub async fn of_user(pool: &Pool, user: &str) -> Result<Vec<Audit>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            "SELECT id, createat, userid, action, extrainfo, ipaddress, sessionid FROM audits WHERE userid=$1 \
             ORDER BY createat DESC LIMIT 100",
            &[&user],
        )
        .await
        .during("list audits")?;
    Ok(rows.iter().map(from_row).collect())
}

//! Rows of access tokens, and small values in `systems`.

use super::{During, Pool, StoreError};
use crate::ids::new_id;
use crate::model::AccessToken;
use tokio_postgres::Row;

fn from_row(row: &Row) -> AccessToken {
    AccessToken {
        id: row.get(0),
        token: row.get(1),
        user_id: row.get(2),
        description: row.get(3),
        is_active: row.get(4),
    }
}

pub async fn insert(pool: &Pool, user: &str, description: &str) -> Result<AccessToken, StoreError> {
    let token = AccessToken {
        id: new_id(),
        token: new_id(),
        user_id: user.to_owned(),
        description: description.to_owned(),
        is_active: true,
    };
    pool.take()
        .await?
        .execute(
            "INSERT INTO useraccesstokens (id, token, userid, description) VALUES ($1,$2,$3,$4)",
            &[&token.id, &token.token, &token.user_id, &token.description],
        )
        .await
        .during("create an access token")?;
    Ok(token)
}

/// The active token's owner: identifier, roles, and whether it is a bot.
pub async fn owner(pool: &Pool, token: &str) -> Result<Option<(String, String, bool)>, StoreError> {
    let row = pool
        .take()
        .await?
        .query_opt(
            "SELECT u.id, u.roles, b.userid IS NOT NULL FROM useraccesstokens t JOIN users u ON u.id = t.userid \
             LEFT JOIN bots b ON b.userid = u.id WHERE t.token=$1 AND t.isactive AND u.deleteat = 0",
            &[&token],
        )
        .await
        .during("read an access token")?;
    Ok(row.map(|r| (r.get(0), r.get(1), r.get(2))))
}

pub async fn of_user(pool: &Pool, user: &str) -> Result<Vec<AccessToken>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            "SELECT id, '', userid, description, isactive FROM useraccesstokens WHERE userid=$1 ORDER BY id",
            &[&user],
        )
        .await
        .during("list access tokens")?;
    Ok(rows.iter().map(from_row).collect())
}

pub async fn find(pool: &Pool, id: &str) -> Result<Option<AccessToken>, StoreError> {
    let row = pool
        .take()
        .await?
        .query_opt(
            "SELECT id, '', userid, description, isactive FROM useraccesstokens WHERE id=$1",
            &[&id],
        )
        .await
        .during("read an access token")?;
    Ok(row.as_ref().map(from_row))
}

pub async fn delete(pool: &Pool, id: &str) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute("DELETE FROM useraccesstokens WHERE id=$1", &[&id])
        .await
        .during("delete an access token")?;
    Ok(())
}

/// A value that is made once and kept, such as the server's own identifier.
pub async fn system_value(pool: &Pool, name: &str, new: &str) -> Result<String, StoreError> {
    let connection = pool.take().await?;
    connection
        .execute(
            "INSERT INTO systems (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            &[&name, &new],
        )
        .await
        .during("keep a system value")?;
    let row = connection
        .query_one("SELECT value FROM systems WHERE name=$1", &[&name])
        .await
        .during("read a system value")?;
    Ok(row.get(0))
}

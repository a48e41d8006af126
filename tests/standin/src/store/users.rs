//! Rows of users and bots.

use super::{During, Pool, StoreError};
use crate::ids::{new_id, now_ms};
use crate::model::{Bot, User, default_notify_props, default_timezone};
use tokio_postgres::Row;

const SELECT: &str = "SELECT u.id, u.createat, u.updateat, u.deleteat, u.username, u.password, u.email, \
    u.emailverified, u.nickname, u.firstname, u.lastname, u.position, u.roles, u.notifyprops, \
    u.lastpasswordupdate, u.failedattempts, u.locale, u.timezone, u.lastlogin, b.description \
    FROM users u LEFT JOIN bots b ON b.userid = u.id";

fn from_row(row: &Row) -> User {
    let description: Option<String> = row.get(19);
    User {
        id: row.get(0),
        create_at: row.get(1),
        update_at: row.get(2),
        delete_at: row.get(3),
        username: row.get(4),
        password: row.get(5),
        email: row.get(6),
        email_verified: row.get(7),
        nickname: row.get(8),
        first_name: row.get(9),
        last_name: row.get(10),
        position: row.get(11),
        roles: row.get(12),
        notify_props: serde_json::from_str(row.get(13)).ok(),
        last_password_update: row.get(14),
        failed_attempts: row.get(15),
        locale: row.get(16),
        timezone: serde_json::from_str(row.get(17)).unwrap_or_default(),
        last_login: row.get(18),
        is_bot: description.is_some(),
        bot_description: description.unwrap_or_default(),
        ..User::default()
    }
}

/// Which column a user is looked up by.
#[derive(Clone, Copy)]
pub enum By {
    Id,
    Username,
    Email,
    /// What people type into the log-in form: user name or e-mail address.
    Login,
}

pub async fn find(pool: &Pool, by: By, value: &str) -> Result<Option<User>, StoreError> {
    let condition = match by {
        By::Id => "u.id = $1",
        By::Username => "u.username = lower($1)",
        By::Email => "u.email = lower($1)",
        By::Login => "(u.username = lower($1) OR u.email = lower($1))",
    };
    let row = pool
        .take()
        .await?
        .query_opt(&format!("{SELECT} WHERE {condition} LIMIT 1"), &[&value])
        .await
        .during("read a user")?;
    Ok(row.as_ref().map(from_row))
}

pub async fn list(pool: &Pool, offset: i64, limit: i64) -> Result<Vec<User>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            &format!("{SELECT} ORDER BY u.username OFFSET $1 LIMIT $2"),
            &[&offset, &limit],
        )
        .await
        .during("list users")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Users among the given identifiers or names.
pub async fn among(pool: &Pool, values: &[String]) -> Result<Vec<User>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            &format!("{SELECT} WHERE u.id = ANY($1) OR u.username = ANY($1) ORDER BY u.username"),
            &[&values],
        )
        .await
        .during("read users")?;
    Ok(rows.iter().map(from_row).collect())
}

pub async fn search(pool: &Pool, term: &str) -> Result<Vec<User>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            &format!(
                "{SELECT} WHERE u.deleteat = 0 AND (starts_with(u.username, lower($1)) \
                 OR starts_with(u.email, lower($1))) ORDER BY u.username LIMIT 100"
            ),
            &[&term],
        )
        .await
        .during("search users")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Is nobody here yet? (The first user becomes an administrator.)
pub async fn is_empty(pool: &Pool) -> Result<bool, StoreError> {
    let row = pool
        .take()
        .await?
        .query_one("SELECT NOT EXISTS (SELECT 1 FROM users)", &[])
        .await
        .during("count users")?;
    Ok(row.get(0))
}

pub async fn insert(pool: &Pool, mut user: User) -> Result<User, StoreError> {
    let now = now_ms();
    user.id = new_id();
    user.create_at = now;
    user.update_at = now;
    user.last_password_update = now;
    user.username = user.username.to_lowercase();
    user.email = user.email.to_lowercase();
    user.locale = "en".to_owned();
    user.notify_props = Some(default_notify_props());
    user.timezone = default_timezone();
    pool.take()
        .await?
        .execute(
            "INSERT INTO users (id, createat, updateat, username, password, email, emailverified, nickname, \
             firstname, lastname, position, roles, notifyprops, lastpasswordupdate, locale, timezone) \
             VALUES ($1,$2,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$2,$13,$14)",
            &[
                &user.id,
                &now,
                &user.username,
                &user.password,
                &user.email,
                &user.email_verified,
                &user.nickname,
                &user.first_name,
                &user.last_name,
                &user.position,
                &user.roles,
                &default_notify_props().to_string(),
                &user.locale,
                &user.timezone.to_string(),
            ],
        )
        .await
        .during("create a user")?;
    Ok(user)
}

/// Writes what an administrator or the user may change.
pub async fn update(pool: &Pool, user: &User) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "UPDATE users SET updateat=$2, deleteat=$3, username=lower($4), email=lower($5), emailverified=$6, \
             nickname=$7, firstname=$8, lastname=$9, position=$10, roles=$11 WHERE id=$1",
            &[
                &user.id,
                &now_ms(),
                &user.delete_at,
                &user.username,
                &user.email,
                &user.email_verified,
                &user.nickname,
                &user.first_name,
                &user.last_name,
                &user.position,
                &user.roles,
            ],
        )
        .await
        .during("update a user")?;
    Ok(())
}

/// Sets the stored hash; also clears failed log-ins, as the real server does.
pub async fn set_password(pool: &Pool, id: &str, hash: &str) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "UPDATE users SET password=$2, lastpasswordupdate=$3, updateat=$3, failedattempts=0 WHERE id=$1",
            &[&id, &hash, &now_ms()],
        )
        .await
        .during("set a password")?;
    Ok(())
}

pub async fn count_failure(pool: &Pool, id: &str) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "UPDATE users SET failedattempts = failedattempts + 1 WHERE id=$1",
            &[&id],
        )
        .await
        .during("count a failed log-in")?;
    Ok(())
}

pub async fn record_login(pool: &Pool, id: &str) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute(
            "UPDATE users SET failedattempts=0, lastlogin=$2, updateat=$2 WHERE id=$1",
            &[&id, &now_ms()],
        )
        .await
        .during("record a log-in")?;
    Ok(())
}

pub async fn delete(pool: &Pool, id: &str) -> Result<(), StoreError> {
    pool.take()
        .await?
        .execute("DELETE FROM users WHERE id=$1", &[&id])
        .await
        .during("delete a user")?;
    Ok(())
}

const SELECT_BOT: &str = "SELECT b.userid, u.username, u.firstname, b.description, b.ownerid, b.createat, \
    b.updateat, b.deleteat FROM bots b JOIN users u ON u.id = b.userid";

fn bot_from_row(row: &Row) -> Bot {
    Bot {
        user_id: row.get(0),
        username: row.get(1),
        display_name: row.get(2),
        description: row.get(3),
        owner_id: row.get(4),
        create_at: row.get(5),
        update_at: row.get(6),
        delete_at: row.get(7),
    }
}

/// Turns a user into a bot: it can no longer log in with a password.
pub async fn make_bot(
    pool: &Pool,
    id: &str,
    owner: &str,
    description: &str,
) -> Result<Option<Bot>, StoreError> {
    let mut connection = pool.take().await?;
    let transaction = connection.transaction().await.during("begin")?;
    transaction
        .execute(
            "INSERT INTO bots (userid, description, ownerid, createat, updateat) VALUES ($1,$2,$3,$4,$4) \
             ON CONFLICT (userid) DO NOTHING",
            &[&id, &description, &owner, &now_ms()],
        )
        .await
        .during("create a bot")?;
    transaction
        .execute("UPDATE users SET password='' WHERE id=$1", &[&id])
        .await
        .during("clear a bot's password")?;
    transaction
        .execute("DELETE FROM sessions WHERE userid=$1", &[&id])
        .await
        .during("end a bot's sessions")?;
    transaction.commit().await.during("commit a bot")?;
    drop(connection);
    bot(pool, id).await
}

pub async fn bot(pool: &Pool, id: &str) -> Result<Option<Bot>, StoreError> {
    let row = pool
        .take()
        .await?
        .query_opt(&format!("{SELECT_BOT} WHERE b.userid=$1"), &[&id])
        .await
        .during("read a bot")?;
    Ok(row.as_ref().map(bot_from_row))
}

pub async fn bots(pool: &Pool) -> Result<Vec<Bot>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(&format!("{SELECT_BOT} ORDER BY u.username"), &[])
        .await
        .during("list bots")?;
    Ok(rows.iter().map(bot_from_row).collect())
}

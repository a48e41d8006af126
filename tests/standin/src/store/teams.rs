//! Rows of teams and their members.

use super::{During, Pool, StoreError};
use crate::ids::{new_id, now_ms};
use crate::model::Team;
use serde_json::{Value, json};
use tokio_postgres::Row;

const COLUMNS: &str = "t.id, t.createat, t.updateat, t.deleteat, t.displayname, t.name, t.description, t.email, t.type, \
     t.inviteid, t.allowopeninvite";

fn from_row(row: &Row) -> Team {
    Team {
        id: row.get(0),
        create_at: row.get(1),
        update_at: row.get(2),
        delete_at: row.get(3),
        display_name: row.get(4),
        name: row.get(5),
        description: row.get(6),
        email: row.get(7),
        kind: row.get(8),
        invite_id: row.get(9),
        allow_open_invite: row.get(10),
        ..Team::default()
    }
}

/// A new team with its two usual channels.
pub async fn insert(pool: &Pool, mut team: Team) -> Result<Team, StoreError> {
    let now = now_ms();
    team.id = new_id();
    team.create_at = now;
    team.update_at = now;
    team.invite_id = new_id();
    let mut connection = pool.take().await?;
    let transaction = connection.transaction().await.during("begin")?;
    transaction
        .execute(
            "INSERT INTO teams (id, createat, updateat, displayname, name, description, email, type, inviteid, \
             allowopeninvite) VALUES ($1,$2,$2,$3,$4,$5,$6,$7,$8,$9)",
            &[
                &team.id,
                &now,
                &team.display_name,
                &team.name,
                &team.description,
                &team.email,
                &team.kind,
                &team.invite_id,
                &team.allow_open_invite,
            ],
        )
        .await
        .during("create a team")?;
    for (name, shown) in [("town-square", "Town Square"), ("off-topic", "Off-Topic")] {
        transaction
            .execute(
                "INSERT INTO channels (id, createat, updateat, teamid, type, displayname, name) \
                 VALUES ($1,$2,$2,$3,'O',$4,$5)",
                &[&new_id(), &now, &team.id, &shown, &name],
            )
            .await
            .during("create a team's usual channel")?;
    }
    transaction.commit().await.during("commit a team")?;
    Ok(team)
}

pub async fn find(pool: &Pool, value: &str, by_name: bool) -> Result<Option<Team>, StoreError> {
    let column = if by_name { "name" } else { "id" };
    let row = pool
        .take()
        .await?
        .query_opt(
            &format!("SELECT {COLUMNS} FROM teams t WHERE t.{column}=$1"),
            &[&value],
        )
        .await
        .during("read a team")?;
    Ok(row.as_ref().map(from_row))
}

/// All teams, or those of one user.
pub async fn list(pool: &Pool, user: Option<&str>) -> Result<Vec<Team>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            &format!(
                "SELECT {COLUMNS} FROM teams t WHERE t.deleteat = 0 AND ($1::text IS NULL OR EXISTS (SELECT 1 \
                 FROM teammembers m WHERE m.teamid = t.id AND m.userid = $1 AND m.deleteat = 0)) \
                 ORDER BY t.displayname"
            ),
            &[&user],
        )
        .await
        .during("list teams")?;
    Ok(rows.iter().map(from_row).collect())
}

/// Adds a user to a team and to its usual channels.
pub async fn join(pool: &Pool, team: &str, user: &str, admin: bool) -> Result<(), StoreError> {
    let mut connection = pool.take().await?;
    let transaction = connection.transaction().await.during("begin")?;
    transaction
        .execute(
            "INSERT INTO teammembers (teamid, userid, createat, schemeadmin) VALUES ($1,$2,$3,$4) \
             ON CONFLICT (teamid, userid) DO UPDATE SET deleteat = 0",
            &[&team, &user, &now_ms(), &admin],
        )
        .await
        .during("add a team member")?;
    transaction
        .execute(
            "INSERT INTO channelmembers (channelid, userid, lastupdateat) SELECT id, $2, $3 FROM channels \
             WHERE teamid=$1 AND name IN ('town-square', 'off-topic') ON CONFLICT DO NOTHING",
            &[&team, &user, &now_ms()],
        )
        .await
        .during("add a member to the usual channels")?;
    transaction.commit().await.during("commit a team member")
}

pub async fn leave(pool: &Pool, team: &str, user: &str) -> Result<(), StoreError> {
    let connection = pool.take().await?;
    connection
        .execute(
            "DELETE FROM channelmembers WHERE userid=$2 AND channelid IN (SELECT id FROM channels WHERE teamid=$1)",
            &[&team, &user],
        )
        .await
        .during("take a member out of a team's channels")?;
    connection
        .execute(
            "DELETE FROM teammembers WHERE teamid=$1 AND userid=$2",
            &[&team, &user],
        )
        .await
        .during("remove a team member")?;
    Ok(())
}

fn member_from_row(row: &Row) -> Value {
    let admin: bool = row.get(3);
    json!({
        "team_id": row.get::<_, String>(0),
        "user_id": row.get::<_, String>(1),
        "roles": if admin { "team_user team_admin" } else { "team_user" },
        "delete_at": row.get::<_, i64>(2),
        "scheme_guest": false,
        "scheme_user": true,
        "scheme_admin": admin,
        "explicit_roles": "",
    })
}

/// Members of a team, or the one asked for.
pub async fn members(
    pool: &Pool,
    team: &str,
    user: Option<&str>,
) -> Result<Vec<Value>, StoreError> {
    let rows = pool
        .take()
        .await?
        .query(
            "SELECT teamid, userid, deleteat, schemeadmin FROM teammembers WHERE teamid=$1 AND deleteat = 0 \
             AND ($2::text IS NULL OR userid=$2) ORDER BY userid",
            &[&team, &user],
        )
        .await
        .during("read team members")?;
    Ok(rows.iter().map(member_from_row).collect())
}

/// Archives a team, or deletes it with all that is in it.
pub async fn delete(pool: &Pool, id: &str, permanent: bool) -> Result<(), StoreError> {
    let connection = pool.take().await?;
    if permanent {
        connection
            .execute("DELETE FROM teams WHERE id=$1", &[&id])
            .await
            .during("delete a team")?;
    } else {
        connection
            .execute(
                "UPDATE teams SET deleteat=$2, updateat=$2 WHERE id=$1",
                &[&id, &now_ms()],
            )
            .await
            .during("archive a team")?;
    }
    Ok(())
}

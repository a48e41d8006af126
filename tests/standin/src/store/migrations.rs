//! Versioned migrations, recorded in `db_migrations(version, name)` as the real server does.
//!
//! Only what is not recorded is applied, in order, each in a transaction with its record. A database that is ahead is
//! left alone and not even mentioned: that is the real server's behaviour, and the appliance has to guard against it.
//! A release may bring further migrations in `migrations/NNNNNN_name.sql`, so that tests can make a newer version.

use super::{During, Pool, StoreError};
use crate::faults::Faults;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::Client;

/// A key for the advisory lock, so that two servers never migrate at once.
const LOCK: i64 = 0x0041_5441_4c41_5941;

#[derive(Clone, Debug)]
pub struct Migration {
    pub version: i64,
    pub name: String,
    pub sql: String,
}

macro_rules! built_in {
    ($($version:literal $name:literal),* $(,)?) => {
        vec![$(Migration {
            version: $version,
            name: $name.to_owned(),
            sql: include_str!(concat!("migrations/", $name, ".sql")).to_owned(),
        }),*]
    };
}

/// All migrations that this release knows, in order: the built-in ones and those of the given folder.
pub fn known(folder: Option<&Path>) -> Vec<Migration> {
    let mut all = built_in![
        1 "create_users",
        2 "create_sessions",
        3 "create_teams",
        4 "create_channels",
        5 "create_posts",
        6 "create_fileinfo",
        7 "create_bots",
        8 "create_useraccesstokens",
        9 "create_systems",
        10 "index_post_messages",
    ];
    all.extend(folder.map(from_folder).unwrap_or_default());
    all.sort_by_key(|m| m.version);
    all.dedup_by_key(|m| m.version);
    all
}

fn from_folder(folder: &Path) -> Vec<Migration> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name().into_string().ok()?;
            let (version, name) = file.strip_suffix(".sql")?.split_once('_')?;
            Some(Migration {
                version: version.parse().ok()?,
                name: name.to_owned(),
                sql: std::fs::read_to_string(entry.path()).ok()?,
            })
        })
        .collect()
}

/// What the database says was applied, oldest first.
pub async fn applied(client: &Client) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = client
        .query(
            "SELECT version, name FROM db_migrations ORDER BY version",
            &[],
        )
        .await
        .during("read db_migrations")?;
    Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
}

async fn create_table(client: &Client) -> Result<(), StoreError> {
    client
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS db_migrations (version bigint NOT NULL PRIMARY KEY, name varchar NOT NULL)",
        )
        .await
        .during("create db_migrations")
}

/// What is still to do. Changes nothing.
pub async fn plan_pending(pool: &Pool, known: &[Migration]) -> Result<Vec<Migration>, StoreError> {
    let connection = pool.take().await?;
    let exists = connection
        .query_one("SELECT to_regclass('db_migrations') IS NOT NULL", &[])
        .await
        .during("look for db_migrations")?
        .get::<_, bool>(0);
    let done: Vec<i64> = if exists {
        applied(&connection).await?.iter().map(|m| m.0).collect()
    } else {
        Vec::new()
    };
    Ok(known
        .iter()
        .filter(|m| !done.contains(&m.version))
        .cloned()
        .collect())
}

/// Applies what is pending and says how many that were.
pub async fn migrate(
    pool: &Pool,
    known: &[Migration],
    faults: &Faults,
) -> Result<usize, StoreError> {
    let mut connection = pool.take().await?;
    connection
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await
        .during("lock the migrations")?;
    let outcome = migrate_locked(&mut connection, known, faults).await;
    connection
        .execute("SELECT pg_advisory_unlock($1)", &[&LOCK])
        .await
        .during("unlock the migrations")?;
    outcome
}

async fn migrate_locked(
    client: &mut Client,
    known: &[Migration],
    faults: &Faults,
) -> Result<usize, StoreError> {
    create_table(client).await?;
    let done: Vec<i64> = applied(client).await?.iter().map(|m| m.0).collect();
    let mut count = 0;
    for migration in known.iter().filter(|m| !done.contains(&m.version)) {
        if faults.on("fail-migration") {
            return Err(StoreError::Fault {
                version: migration.version,
                name: migration.name.clone(),
            });
        }
        let failed = |source| StoreError::Migration {
            version: migration.version,
            name: migration.name.clone(),
            source,
        };
        let transaction = client.transaction().await.map_err(failed)?;
        transaction
            .batch_execute(&migration.sql)
            .await
            .map_err(failed)?;
        // Neither writes nor computes.
        while faults.on("hang-migration") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        transaction
            .execute(
                "INSERT INTO db_migrations (version, name) VALUES ($1, $2)",
                &[&migration.version, &migration.name],
            )
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        count += 1;
    }
    Ok(count)
}

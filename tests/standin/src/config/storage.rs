//! Where the configuration is kept: a table in the database, or a file that is only read.
//!
//! Every change is a new row; one row is active. The table is made here and not by a migration, because the
//! configuration is needed before the server knows its own database.

use crate::ids::{new_id, now_ms, random};
use crate::store::{During, Pool, StoreError};
use base64::Engine;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to read the configuration from the database")]
    Store(#[from] StoreError),
    #[error("failed to read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a JSON object")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the stored configuration is not JSON")]
    Stored(#[source] serde_json::Error),
}

/// Is this a data source rather than a file's name?
pub fn is_database(source: &str) -> bool {
    source.starts_with("postgres://") || source.starts_with("postgresql://")
}

pub fn read_file(path: &Path) -> Result<Value, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source,
    })
}

/// Reads the active row. An empty table is first filled: from `MM_CUSTOM_DEFAULTS_PATH` where that is given, with
/// the secrets that have to stay the same for ever.
pub async fn load(pool: &Pool, first_values: Option<&Path>) -> Result<Value, ConfigError> {
    let connection = pool.take().await?;
    connection
        .batch_execute(
            "SET client_min_messages = warning; \
             CREATE TABLE IF NOT EXISTS configurations (id varchar(26) PRIMARY KEY, value text NOT NULL, \
             createat bigint NOT NULL, active boolean UNIQUE, sha char(64) DEFAULT '')",
        )
        .await
        .during("create the configuration table")?;
    let active = connection
        .query_opt("SELECT value FROM configurations WHERE active", &[])
        .await
        .during("read the active configuration")?;
    drop(connection);
    if let Some(row) = active {
        return serde_json::from_str(row.get(0)).map_err(ConfigError::Stored);
    }
    let mut value = match first_values {
        Some(path) => read_file(path)?,
        None => json!({}),
    };
    make_secrets(&mut value);
    save(pool, &value).await?;
    Ok(value)
}

/// Makes the new configuration the active one, in one transaction.
pub async fn save(pool: &Pool, value: &Value) -> Result<(), ConfigError> {
    let mut connection = pool.take().await?;
    let transaction = connection.transaction().await.during("begin")?;
    transaction
        .execute("UPDATE configurations SET active = NULL WHERE active", &[])
        .await
        .during("retire the configuration")?;
    transaction
        .execute(
            "INSERT INTO configurations (id, value, createat, active) VALUES ($1, $2, $3, true)",
            &[&new_id(), &value.to_string(), &now_ms()],
        )
        .await
        .during("store the configuration")?;
    transaction
        .commit()
        .await
        .during("commit the configuration")?;
    Ok(())
}

/// `AtRestEncryptKey` and `PublicLinkSalt` are made once: what they protect is unreadable with others.
fn make_secrets(value: &mut Value) {
    for (section, key) in [
        ("SqlSettings", "AtRestEncryptKey"),
        ("FileSettings", "PublicLinkSalt"),
    ] {
        let empty = value[section][key].as_str().is_none_or(str::is_empty);
        if empty {
            let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random::<24>());
            value[section][key] = secret.into();
        }
    }
}

//! PostgreSQL: the pool of connections and how errors name what was attempted.
//!
//! A lost server is never fatal here: a broken connection is thrown away and the next request opens a new one, so the
//! stand-in recovers as soon as PostgreSQL is back. What a request waits for is committed before it is answered.

pub mod audits;
pub mod channels;
pub mod files;
pub mod migrations;
pub mod posts;
pub mod sessions;
pub mod teams;
pub mod tokens;
pub mod users;

use serde_json::json;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Client, NoTls};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the data source is not a postgres:// address that can be used")]
    Source(#[source] tokio_postgres::Error),
    #[error("failed to connect to PostgreSQL")]
    Connect(#[source] tokio_postgres::Error),
    #[error("failed to {operation}")]
    Query {
        operation: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("failed to run migration {version} ({name})")]
    Migration {
        version: i64,
        name: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("migration {version} ({name}) was told to fail")]
    Fault { version: i64, name: String },
    #[error("the connection pool is closed")]
    Closed,
}

impl StoreError {
    /// Is this a row that breaks the named unique index or constraint?
    pub fn breaks(&self, constraint: &str) -> bool {
        let Self::Query { source, .. } = self else {
            return false;
        };
        source
            .as_db_error()
            .and_then(tokio_postgres::error::DbError::constraint)
            == Some(constraint)
    }

    /// The innermost cause, as one line.
    pub fn cause(&self) -> String {
        let mut error: &dyn std::error::Error = self;
        while let Some(source) = error.source() {
            error = source;
        }
        error.to_string()
    }
}

/// Names the operation that failed.
pub trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for Result<T, tokio_postgres::Error> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Query { operation, source })
    }
}

pub struct Pool {
    config: tokio_postgres::Config,
    idle: Mutex<Vec<Client>>,
    permits: Semaphore,
}

/// A connection, given back when dropped.
pub struct Connection<'a> {
    client: Option<Client>,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    /// At most `size` connections are open at once; none is opened yet.
    pub fn new(source: &str, size: usize) -> Result<Self, StoreError> {
        Ok(Self {
            config: parse_source(source)?,
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(size.clamp(1, 16)),
        })
    }

    pub async fn take(&self) -> Result<Connection<'_>, StoreError> {
        let permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| StoreError::Closed)?;
        let client = match self.pop() {
            Some(client) => client,
            None => self.connect().await?,
        };
        Ok(Connection {
            client: Some(client),
            pool: self,
            _permit: permit,
        })
    }

    fn pop(&self) -> Option<Client> {
        let mut idle = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.retain(|c| !c.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> Result<Client, StoreError> {
        let (client, connection) = self
            .config
            .connect(NoTls)
            .await
            .map_err(StoreError::Connect)?;
        // Ends by itself when the client is dropped or the server goes away; the client then reports it.
        tokio::spawn(async move {
            connection.await.ok();
        });
        Ok(client)
    }

    /// Does PostgreSQL answer now?
    pub async fn ping(&self) -> Result<(), StoreError> {
        let connection = self.take().await?;
        connection
            .simple_query("SELECT 1")
            .await
            .during("ping PostgreSQL")?;
        Ok(())
    }

    /// Five attempts, two seconds apart, each reported as the real server does.
    pub async fn wait_for_server(&self, source: &str) -> Result<(), StoreError> {
        const ATTEMPTS: u32 = 5;
        let mut attempt = 1;
        loop {
            let shown = json!(masked(source));
            if attempt > 1 {
                crate::logline::info(
                    "Pinging SQL",
                    "sql/sql_utils.go:28",
                    &[
                        ("database", json!("master")),
                        ("dataSource", shown.clone()),
                        ("attempt", json!(attempt)),
                    ],
                );
            }
            let Err(error) = self.ping().await else {
                return Ok(());
            };
            if attempt == ATTEMPTS {
                return Err(error);
            }
            crate::logline::error(
                "Failed to ping DB",
                "sql/sql_utils.go:37",
                &[
                    ("database", json!("master")),
                    ("dataSource", shown),
                    ("retrying in seconds", json!(2)),
                    ("error", json!(error.cause())),
                ],
            );
            tokio::time::sleep(Duration::from_secs(2)).await;
            attempt += 1;
        }
    }
}

impl Deref for Connection<'_> {
    type Target = Client;
    fn deref(&self) -> &Client {
        match &self.client {
            Some(client) => client,
            None => unreachable!("a connection holds its client until it is dropped"),
        }
    }
}

impl DerefMut for Connection<'_> {
    fn deref_mut(&mut self) -> &mut Client {
        match &mut self.client {
            Some(client) => client,
            None => unreachable!("a connection holds its client until it is dropped"),
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|c| !c.is_closed()) {
            self.pool
                .idle
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(client);
        }
    }
}

/// Reads a data source. Settings that only the vendor's driver knows are left out.
fn parse_source(source: &str) -> Result<tokio_postgres::Config, StoreError> {
    const FOREIGN: &[&str] = &[
        "binary_parameters",
        "default_query_exec_mode",
        "pool_max_conns",
    ];
    let cleaned = match source.split_once('?') {
        Some((address, query)) => {
            let kept: Vec<&str> = query
                .split('&')
                .filter(|p| !FOREIGN.contains(&p.split('=').next().unwrap_or(p)))
                .collect();
            format!("{address}?{}", kept.join("&"))
        }
        None => source.to_owned(),
    };
    let mut config = tokio_postgres::Config::from_str(&cleaned).map_err(StoreError::Source)?;
    config.application_name("mattermost");
    config.options("-c statement_timeout=30000");
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(Duration::from_secs(10));
    }
    Ok(config)
}

/// The data source without name and password, for logs.
pub fn masked(source: &str) -> String {
    match (source.find("://"), source.find('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://****:****{}", &source[..scheme], &source[at..])
        }
        _ => source.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_in_the_query_is_understood() {
        let config = parse_source(
            "postgres:///mattermost?host=/run/postgresql&user=mattermost&sslmode=disable&binary_parameters=yes",
        )
        .unwrap();
        assert_eq!(config.get_dbname(), Some("mattermost"));
        assert_eq!(config.get_user(), Some("mattermost"));
        assert_eq!(
            config.get_hosts(),
            [tokio_postgres::config::Host::Unix("/run/postgresql".into())]
        );
    }

    #[test]
    fn passwords_do_not_reach_the_log() {
        assert_eq!(
            masked("postgres://mm:secret@127.0.0.1:5432/mattermost?sslmode=disable"),
            "postgres://****:****@127.0.0.1:5432/mattermost?sslmode=disable"
        );
    }
}

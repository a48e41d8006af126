//! `first-login`: forgets the first administrator's random password as soon as it was used.
//!
//! Decides what counts as used: the account has logged in once. The API does not show that, so the database is asked, over
//! the same socket and with the same rights that Mattermost has.

use std::time::Duration;

use atalaya_sys::durable;
use tokio_postgres::NoTls;

use crate::places::Places;
use crate::render::{RenderError, read_appliance};

#[derive(Debug, thiserror::Error)]
pub enum FirstLoginError {
    #[error("failed to read which administrator was made")]
    Configuration(#[from] RenderError),
    #[error(transparent)]
    System(#[from] atalaya_sys::Error),
    #[error("failed to ask the database whether {username} has logged in")]
    Database {
        username: String,
        source: tokio_postgres::Error,
    },
}

const LOOK: Duration = Duration::from_secs(2);

/// Returns when there is no random password any more.
///
/// # Errors
/// The database cannot be asked; run again, it goes on where it was.
pub async fn run(places: &Places, say: &dyn Fn(&str)) -> Result<(), FirstLoginError> {
    if !places.admin_password().exists() {
        say("no random password is waiting to be used");
        return Ok(());
    }
    let username = read_appliance(places)?.administrator.username;
    let username = username.as_str();
    let asking = |source| FirstLoginError::Database {
        username: username.to_owned(),
        source,
    };
    say(&format!(
        "the random password of {username} is shown on the local consoles until it was used"
    ));
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(places.postgres_socket_directory())
        .user("mattermost")
        .dbname("mattermost")
        .application_name("atalaya-first-login")
        .connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(NoTls).await.map_err(asking)?;
    let connection = tokio::spawn(connection);
    while !has_logged_in(&client, username).await.map_err(asking)? {
        tokio::time::sleep(LOOK).await;
    }
    connection.abort();
    // The console first: cut off in between, the next run finds the file and removes both again.
    durable::remove(&places.console_password())?;
    durable::remove(&places.admin_password())?;
    say(&format!(
        "{username} has logged in: the random password is forgotten here"
    ));
    Ok(())
}

/// A log-in leaves its time with the user and a session; the session goes with log-out, the time is missing in servers
/// from before it was recorded, hence by way of JSON. A user that is gone cannot log in any more.
async fn has_logged_in(
    client: &tokio_postgres::Client,
    username: &str,
) -> Result<bool, tokio_postgres::Error> {
    const QUESTION: &str = "SELECT COALESCE((to_jsonb(u) ->> 'lastlogin')::bigint, 0) > 0 \
        OR EXISTS (SELECT 1 FROM sessions s WHERE s.userid = u.id) \
        FROM users u WHERE u.username = $1";
    Ok(client
        .query_opt(QUESTION, &[&username])
        .await?
        .is_none_or(|row| row.get(0)))
}

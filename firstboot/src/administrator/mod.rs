//! `administrator`: makes the first administrator, the first team and the probe's accounts, then records the release.
//!
//! Each step asks what is there and adds what is missing, so that the whole may be cut off anywhere and run again. What
//! must survive, a random password above all, is on the disk before Mattermost hears of it. The last two acts are the
//! record of the release and the mark that the first boot is complete; from then on only the record is kept up to date,
//! and accounts that the owner has removed are not made again.

mod accounts;
mod clean;
mod probe;
mod team;

pub use clean::clean;

use std::path::{Path, PathBuf};
use std::time::Duration;

use atalaya_core::appliance::Secret;
use atalaya_core::release::Record;
use atalaya_sys::durable;

use crate::local::{Local, LocalError};
use crate::places::Places;
use crate::random::{self, NoRandomness};
use crate::render::{RenderError, read_appliance, read_release};
use crate::version_gate::{GateError, ask_schema, read_record};

#[derive(Debug, thiserror::Error)]
pub enum AdministratorError {
    #[error("failed to read the configuration")]
    Configuration(#[from] RenderError),
    #[error(transparent)]
    Mattermost(#[from] LocalError),
    #[error(transparent)]
    System(#[from] atalaya_sys::Error),
    #[error("failed to {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("failed to learn which schema the database has")]
    Schema(#[from] GateError),
    #[error(
        "the user {0} of the probe is not a bot, and it was not made here; rename or remove it and start again"
    )]
    NotOurBot(&'static str),
    #[error("Mattermost says that the probe's post is deleted, and it is still there")]
    StillThere,
}

type Result<T> = std::result::Result<T, AdministratorError>;

/// Runs after every start of Mattermost, and does something at the first one of a machine or of a release.
///
/// # Errors
/// What failed; the next run goes on from there.
pub async fn run(places: &Places, say: &dyn Fn(&str)) -> Result<()> {
    let local = Local::at(places.local_socket());
    if places.first_boot().exists() {
        show_password(places)?;
        probe::publish(places)?;
        record_release(places, say)?;
        return Ok(());
    }
    wait_for_socket(places).await;
    let appliance = read_appliance(places)?;
    let password = administrator_password(places)?;
    let administrator =
        accounts::ensure_administrator(&local, &appliance.administrator, &password).await?;
    say(&format!(
        "administrator {}",
        appliance.administrator.username
    ));
    let first_team = team::first_team(&appliance);
    let team = team::ensure(&local, &first_team, team::Kind::Open).await?;
    team::ensure_member(&local, &team, &administrator).await?;
    say(&format!("team {}", first_team.name));
    accounts::ensure_probe(&local, places).await?;
    probe::publish(places)?;
    say("accounts of the probe");
    record_release(places, say)?;
    durable::write(&places.first_boot(), b"{\"format\":1}\n", 0o444, None)?;
    // Mattermost has it now.
    durable::remove(&places.seed_password())?;
    show_password(places)?;
    say("the first boot is complete");
    Ok(())
}

/// The seed's password, or a random one, which is kept until it was used.
fn administrator_password(places: &Places) -> Result<Secret> {
    if let Some(given) = read_secret(&places.seed_password())? {
        // A random one from a try before this seed came does not fit any more.
        durable::remove(&places.admin_password())?;
        return Ok(given);
    }
    if let Some(kept) = read_secret(&places.admin_password())? {
        return Ok(kept);
    }
    let made = random::password()?;
    durable::write(
        &places.admin_password(),
        made.expose().as_bytes(),
        0o400,
        None,
    )?;
    Ok(made)
}

fn read_secret(path: &Path) -> Result<Option<Secret>> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AdministratorError::File {
            operation: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Gives the local consoles what they show, at this boot too if the password was not used yet.
fn show_password(places: &Places) -> Result<()> {
    match read_secret(&places.admin_password())? {
        Some(password) => Ok(durable::write(
            &places.console_password(),
            password.expose().as_bytes(),
            0o400,
            None,
        )?),
        None => Ok(durable::remove(&places.console_password())?),
    }
}

/// Records that this release has had a complete start on these data.
fn record_release(places: &Places, say: &dyn Fn(&str)) -> Result<()> {
    let release = read_release(places)?.mattermost;
    let record = Record::of(&release, ask_schema(places)?);
    if read_record(places)?.as_ref() == Some(&record) {
        return Ok(());
    }
    // Numbers and two strings: it cannot fail.
    let text = serde_json::to_vec(&record).unwrap_or_default();
    durable::write(&places.mattermost_json(), &text, 0o444, None)?;
    say(&format!(
        "recorded Mattermost {} at schema {}",
        record.release, record.schema
    ));
    Ok(())
}

/// Mattermost opens its local socket a moment after it answers its first readiness check. If it does not come, the first
/// call says so.
async fn wait_for_socket(places: &Places) {
    const LIMIT: Duration = Duration::from_secs(10);
    const LOOK: Duration = Duration::from_millis(100);
    let end = tokio::time::Instant::now() + LIMIT;
    while tokio::net::UnixStream::connect(places.local_socket())
        .await
        .is_err()
        && tokio::time::Instant::now() < end
    {
        tokio::time::sleep(LOOK).await;
    }
}

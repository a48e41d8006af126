//! `probe-clean`: removes for good, row and file, what the probe has posted.
//!
//! The probe's bot could only mark its posts as deleted. Only a server's administrator may do more by the API, and only where the configuration
//! says so; local mode may always. So this is a unit of its own, with the server's user, started after each probe; what an earlier one has left
//! goes with it.

use std::collections::BTreeSet;

use super::accounts::{BOT, CHANNEL, TEAM};
use super::{AdministratorError, Result};
use crate::local::Local;
use crate::places::Places;

/// In one answer; so many are asked for at once.
const PAGE: usize = 60;

/// # Errors
/// What could not be removed. It stays in the probe's own channel, which nobody else sees.
pub async fn clean(places: &Places, say: &dyn Fn(&str)) -> Result<()> {
    let local = Local::at(places.local_socket());
    let channel = (local.find(&format!("/teams/name/{TEAM}/channels/name/{CHANNEL}"))).await?;
    let bot = local.find(&format!("/users/username/{BOT}")).await?;
    // Accounts that the owner has removed are not made again, and what they wrote went with them.
    let (Some(channel), Some(bot)) = (channel, bot) else {
        return Ok(());
    };
    let (channel, bot) = (channel.text("id")?, bot.text("id")?);
    let mut gone = BTreeSet::new();
    for page in 0.. {
        let path = format!("/channels/{channel}/posts?per_page={PAGE}&page={page}");
        let answer = local.get(&path).await?;
        let posts = answer.entries("posts");
        if posts.is_empty() {
            break;
        }
        // Others have a type: they say who has joined.
        let is_its = |post: &&serde_json::Value| post["user_id"] == bot && post["type"] == "";
        gone.extend(
            (posts.into_iter().filter(is_its))
                .filter_map(|post| Some(post["id"].as_str()?.to_owned())),
        );
    }
    for id in &gone {
        local.delete(&format!("/posts/{id}?permanent=true")).await?;
    }
    for id in &gone {
        if local.find(&format!("/posts/{id}")).await?.is_some() {
            return Err(AdministratorError::StillThere);
        }
    }
    say(&format!(
        "{} posts of the probe removed for good",
        gone.len()
    ));
    Ok(())
}

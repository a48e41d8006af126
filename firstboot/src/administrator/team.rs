//! Teams and channels: what the first team is called, and making sure that teams, channels and members are there.

use atalaya_core::appliance::{Appliance, Host};
use serde_json::json;

use super::Result;
use crate::local::Local;

/// A team's two names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// In its address: 2 to 64 of a-z, 0-9 and `-`, a letter first.
    pub name: String,
    /// What people read.
    pub display: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any member of the server may be added to it.
    Open,
    /// By invitation.
    Private,
}

/// Beginnings that Mattermost keeps for its own pages.
const RESERVED: [&str; 15] = [
    "admin",
    "api",
    "boards",
    "channel",
    "claim",
    "error",
    "files",
    "help",
    "landing",
    "login",
    "mfa",
    "oauth",
    "playbooks",
    "plug",
    "post",
];
const ALSO_RESERVED: [&str; 2] = ["signup", "test"];

/// Named after the site where that has a name of its own, else after the machine. It depends on the configuration alone,
/// so that a second try finds the team of the first.
pub(super) fn first_team(appliance: &Appliance) -> Names {
    let hostname = appliance.hostname.as_str();
    let display = match appliance.site.address.as_ref().map(|site| site.host()) {
        Some(Host::Name(name)) if name != "localhost" => name.clone(),
        Some(Host::Name(_) | Host::Address(_)) | None => hostname.to_owned(),
    };
    // Mattermost shows at most 64 characters.
    let display: String = display.chars().take(64).collect();
    let mut name: String = display
        .chars()
        .map(|c| if c == '.' { '-' } else { c })
        .take(56)
        .collect();
    let reserved = RESERVED
        .iter()
        .chain(&ALSO_RESERVED)
        .any(|word| name.starts_with(word));
    if reserved || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() < 2 {
        name = format!("team-{name}");
    }
    Names {
        name: name.trim_end_matches('-').to_owned(),
        display,
    }
}

/// Makes sure that the team is there; its id.
pub(super) async fn ensure(local: &Local, names: &Names, kind: Kind) -> Result<String> {
    let Names { name, display } = names;
    if let Some(there) = local.find(&format!("/teams/name/{name}")).await? {
        return Ok(there.text("id")?.to_owned());
    }
    let kind = match kind {
        Kind::Open => "O",
        Kind::Private => "I",
    };
    let made = local
        .post(
            "/teams",
            &json!({"name": name, "display_name": display, "type": kind}),
        )
        .await?;
    Ok(made.text("id")?.to_owned())
}

/// Makes sure that the user is in the team. A second time changes nothing.
pub(super) async fn ensure_member(local: &Local, team: &str, user: &str) -> Result<()> {
    local
        .post(
            &format!("/teams/{team}/members"),
            &json!({"team_id": team, "user_id": user}),
        )
        .await?;
    Ok(())
}

/// Makes sure that the private channel is in the team; its id.
pub(super) async fn ensure_channel(
    local: &Local,
    team: &str,
    team_name: &str,
    names: &Names,
) -> Result<String> {
    let Names { name, display } = names;
    if let Some(there) = local
        .find(&format!("/teams/name/{team_name}/channels/name/{name}"))
        .await?
    {
        return Ok(there.text("id")?.to_owned());
    }
    let body = json!({"team_id": team, "name": name, "display_name": display, "type": "P"});
    let made = local.post("/channels", &body).await?;
    Ok(made.text("id")?.to_owned())
}

/// Makes sure that the user is in the channel. A second time changes nothing.
pub(super) async fn ensure_channel_member(local: &Local, channel: &str, user: &str) -> Result<()> {
    local
        .post(
            &format!("/channels/{channel}/members"),
            &json!({"user_id": user}),
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atalaya_core::appliance::parse_public;

    fn team(text: &str) -> (String, String) {
        let Names { name, display } = first_team(&parse_public(text.as_bytes()).unwrap());
        (name, display)
    }

    #[test]
    fn the_first_team_is_named_after_the_site_or_the_machine() {
        let both = |name: &str, display: &str| (name.to_owned(), display.to_owned());
        assert_eq!(team(""), both("atalaya", "atalaya"));
        assert_eq!(
            team("site.address = \"https://localhost:8443\""),
            both("atalaya", "atalaya")
        );
        assert_eq!(
            team("site.address = \"https://10.0.2.15\"\nhostname = \"chat\""),
            both("chat", "chat")
        );
        assert_eq!(
            team("site.address = \"https://chat.example.com\""),
            both("chat-example-com", "chat.example.com")
        );
    }

    #[test]
    fn names_that_mattermost_refuses_are_not_used() {
        for hostname in [
            "postgres",
            "api",
            "help-desk",
            "admin1",
            "7up",
            "a",
            "0",
            "login",
            "test",
        ] {
            let (name, _) = team(&format!("hostname = \"{hostname}\""));
            assert_eq!(name, format!("team-{hostname}"));
        }
        let long = format!(
            "site.address = \"https://{}.{}.example\"",
            "a".repeat(60),
            "b".repeat(60)
        );
        let (name, display) = team(&long);
        assert!((2..=64).contains(&name.len()) && display.len() <= 64);
        assert!(!name.ends_with('-'));
    }
}

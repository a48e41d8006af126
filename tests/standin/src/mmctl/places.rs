//! Teams, channels and posts.

use super::arguments::{Channel, Members, Post, Team};
use super::client::part;
use super::commands::{Printed, Session, failed, require_confirmation, text};
use super::format::lines;
use hyper::Method;
use serde_json::json;
use std::fmt::Write;

impl Session {
    pub async fn team(&self, command: Team) -> Printed {
        let mut out = String::new();
        match command {
            Team::Create {
                name,
                display_name,
                email,
                private,
            } => {
                let body = json!({
                    "name": name, "display_name": display_name, "email": email,
                    "type": if private { "I" } else { "O" }, "allow_open_invite": !private,
                });
                let answer = self.client.call(Method::POST, "/teams", Some(&body)).await;
                let answer = answer.map_err(|e| failed(&format!("Team creation failed: {e}")))?;
                out = self.show(&answer.text, || {
                    format!("New team {name} successfully created\n")
                });
            }
            Team::List => {
                let answer = self.client.call(Method::GET, "/teams", None).await?;
                out = self.show(&answer.text, || {
                    lines(&answer.body, |t| text(t, "name").to_owned())
                });
            }
            Team::Delete { teams, confirm } => {
                require_confirmation(confirm)?;
                for name in teams {
                    let team = self.find_team(&name).await?;
                    let path = format!("/teams/{}?permanent=true", text(&team, "id"));
                    self.client.call(Method::DELETE, &path, None).await?;
                    writeln!(out, "Deleted team '{}'", text(&team, "name")).ok();
                }
            }
            Team::Users(Members::Add { place, users }) => {
                let team = self.find_team(&place).await?;
                let team = text(&team, "id");
                for name in users {
                    let user = self.find_user(&name).await?;
                    let body = json!({"team_id": team, "user_id": user["id"]});
                    let path = format!("/teams/{team}/members");
                    self.client.call(Method::POST, &path, Some(&body)).await?;
                }
            }
            Team::Users(Members::Remove { place, users }) => {
                let team = self.find_team(&place).await?;
                for name in users {
                    let user = self.find_user(&name).await?;
                    let path =
                        format!("/teams/{}/members/{}", text(&team, "id"), text(&user, "id"));
                    self.client.call(Method::DELETE, &path, None).await?;
                }
            }
        }
        Ok(out)
    }

    pub async fn channel(&self, command: Channel) -> Printed {
        let mut out = String::new();
        match command {
            Channel::Create {
                team,
                name,
                display_name,
                header,
                purpose,
                private,
            } => {
                let team = self.find_team(&team).await?;
                let body = json!({
                    "team_id": team["id"], "name": name, "display_name": display_name, "header": header,
                    "purpose": purpose, "type": if private { "P" } else { "O" },
                });
                let answer = self
                    .client
                    .call(Method::POST, "/channels", Some(&body))
                    .await?;
                out = self.show(&answer.text, || {
                    format!("New channel {name} successfully created\n")
                });
            }
            Channel::List { teams } => {
                for team in teams {
                    let team = self.find_team(&team).await?;
                    let path = format!("/teams/{}/channels", text(&team, "id"));
                    let answer = self.client.call(Method::GET, &path, None).await?;
                    out += &self.show(&answer.text, || {
                        lines(&answer.body, |c| text(c, "name").to_owned())
                    });
                }
            }
            Channel::Delete { channels, confirm } => {
                require_confirmation(confirm)?;
                for name in channels {
                    let channel = self.find_channel(&name).await?;
                    let path = format!("/channels/{}?permanent=true", text(&channel, "id"));
                    self.client.call(Method::DELETE, &path, None).await?;
                    writeln!(out, "Deleted channel '{}'", text(&channel, "name")).ok();
                }
            }
            Channel::Users(Members::Add { place, users }) => {
                let channel = self.find_channel(&place).await?;
                for name in users {
                    let user = self.find_user(&name).await?;
                    let path = format!("/channels/{}/members", text(&channel, "id"));
                    let body = json!({"user_id": user["id"]});
                    self.client.call(Method::POST, &path, Some(&body)).await?;
                }
            }
            Channel::Users(Members::Remove { place, users }) => {
                let channel = self.find_channel(&place).await?;
                for name in users {
                    let user = self.find_user(&name).await?;
                    let path = format!(
                        "/channels/{}/members/{}",
                        text(&channel, "id"),
                        text(&user, "id")
                    );
                    self.client.call(Method::DELETE, &path, None).await?;
                }
            }
        }
        Ok(out)
    }

    pub async fn post(&self, command: Post) -> Printed {
        let Post::Delete {
            posts,
            permanent,
            confirm,
        } = command;
        require_confirmation(confirm)?;
        let mut out = String::new();
        for id in posts {
            let path = format!("/posts/{}?permanent={permanent}", part(&id));
            self.client.call(Method::DELETE, &path, None).await?;
            writeln!(out, "{id} successfully deleted").ok();
        }
        Ok(out)
    }
}

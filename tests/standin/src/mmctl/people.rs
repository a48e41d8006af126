//! Users, bots, their tokens and roles.

use super::MmctlError;
use super::arguments::{NewUser, Roles, Token, User};
use super::client::ClientError;
use super::commands::{Printed, Session, failed, require_confirmation, text};
use super::format::lines;
use hyper::Method;
use serde_json::json;
use std::fmt::Write;

impl Session {
    pub async fn user(&self, command: User) -> Printed {
        let mut out = String::new();
        match command {
            User::Create(new) => return self.create_user(new).await,
            User::Convert { users, bot: true } => {
                for name in users {
                    let user = self.find_user(&name).await?;
                    let path = format!("/users/{}/convert_to_bot", text(&user, "id"));
                    let answer = self.client.call(Method::POST, &path, None).await?;
                    out += &self.show(&answer.text, || {
                        format!("{} converted to bot.\n", text(&user, "username"))
                    });
                }
            }
            User::Convert { bot: false, .. } => {
                return Err(failed(
                    "either \"user\" flag or \"bot\" flag must be provided",
                ));
            }
            User::List { .. } => {
                let answer = self
                    .client
                    .call(Method::GET, "/users?per_page=200", None)
                    .await?;
                return Ok(self.show(&answer.text, || {
                    lines(&answer.body, |u| {
                        format!(
                            "{}: {} ({})",
                            text(u, "id"),
                            text(u, "username"),
                            text(u, "email")
                        )
                    })
                }));
            }
            User::Search { users } => {
                for name in users {
                    let user = self.find_user(&name).await?;
                    out += &self.show(&user.to_string(), || {
                        format!(
                            "id: {}\nusername: {}\nnickname: {}\nposition: {}\nfirst_name: {}\nlast_name: {}\n\
                             email: {}\nauth_service: \n",
                            text(&user, "id"),
                            text(&user, "username"),
                            text(&user, "nickname"),
                            text(&user, "position"),
                            text(&user, "first_name"),
                            text(&user, "last_name"),
                            text(&user, "email")
                        )
                    });
                }
            }
            User::Activate { users } => self.set_active(users, true).await?,
            User::Deactivate { users } => self.set_active(users, false).await?,
            User::Delete { users, confirm } => {
                require_confirmation(confirm)?;
                for name in users {
                    let user = self.find_user(&name).await?;
                    let path = format!("/users/{}?permanent=true", text(&user, "id"));
                    self.client.call(Method::DELETE, &path, None).await?;
                    out += &format!("Deleted user '{}'\n", text(&user, "username"));
                }
            }
            User::ChangePassword { user, password } => {
                let user = self.find_user(&user).await?;
                let path = format!("/users/{}/password", text(&user, "id"));
                let body = json!({ "new_password": password });
                self.client.call(Method::PUT, &path, Some(&body)).await?;
                out = format!(
                    "Password for user \"{}\" successfully changed\n",
                    text(&user, "username")
                );
            }
            User::Verify { users } => {
                for name in users {
                    let user = self.find_user(&name).await?;
                    let path = format!("/users/{}/email/verify/member", text(&user, "id"));
                    self.client.call(Method::POST, &path, None).await?;
                    out += &format!("User {name} email verified\n");
                }
            }
        }
        Ok(out)
    }

    async fn create_user(&self, new: NewUser) -> Printed {
        let body = json!({
            "username": new.username, "email": new.email, "password": new.password, "nickname": new.nickname,
            "first_name": new.firstname, "last_name": new.lastname, "email_verified": new.email_verified,
        });
        let refused = |e: ClientError| match e {
            ClientError::Refused { message, .. } => {
                failed(&format!("Unable to create user. Error: {message}"))
            }
            other => other.into(),
        };
        let answer = self
            .client
            .call(Method::POST, "/users", Some(&body))
            .await
            .map_err(refused)?;
        let id = text(&answer.body, "id").to_owned();
        if new.system_admin {
            let roles = json!({"roles": "system_user system_admin"});
            let path = format!("/users/{id}/roles");
            self.client.call(Method::PUT, &path, Some(&roles)).await?;
        }
        Ok(self.show(&answer.text, || {
            format!("Created user {}\n", text(&answer.body, "username"))
        }))
    }

    async fn set_active(&self, users: Vec<String>, active: bool) -> Result<(), MmctlError> {
        for name in users {
            let user = self.find_user(&name).await?;
            let path = format!("/users/{}/active", text(&user, "id"));
            let body = json!({ "active": active });
            self.client.call(Method::PUT, &path, Some(&body)).await?;
        }
        Ok(())
    }

    pub async fn token(&self, command: Token) -> Printed {
        let mut out = String::new();
        match command {
            Token::Generate { user, description } => {
                let user = self.find_user(&user).await?;
                let path = format!("/users/{}/tokens", text(&user, "id"));
                let body = json!({ "description": description });
                let answer = self.client.call(Method::POST, &path, Some(&body)).await?;
                out = self.show(&answer.text, || {
                    format!(
                        "{}: {}\n",
                        text(&answer.body, "token"),
                        text(&answer.body, "description")
                    )
                });
            }
            Token::List { user } => {
                let user = self.find_user(&user).await?;
                let path = format!("/users/{}/tokens", text(&user, "id"));
                let answer = self.client.call(Method::GET, &path, None).await?;
                out = self.show(&answer.text, || {
                    lines(&answer.body, |t| {
                        format!("{}: {}", text(t, "id"), text(t, "description"))
                    })
                });
            }
            Token::Revoke { tokens } => {
                for id in tokens {
                    let body = json!({ "token_id": id });
                    self.client
                        .call(Method::POST, "/users/tokens/revoke", Some(&body))
                        .await?;
                }
            }
        }
        Ok(out)
    }

    pub async fn bots(&self) -> Printed {
        let answer = self.client.call(Method::GET, "/bots", None).await?;
        Ok(self.show(&answer.text, || {
            lines(&answer.body, |b| {
                format!("{}: {}", text(b, "user_id"), text(b, "username"))
            })
        }))
    }

    pub async fn roles(&self, command: Roles) -> Printed {
        let (users, roles, said) = match command {
            Roles::SystemAdmin { users } => (
                users,
                "system_user system_admin",
                "System admin role assigned to user",
            ),
            Roles::Member { users } => (users, "system_user", "System admin role revoked for user"),
        };
        let mut out = String::new();
        for name in users {
            let user = self.find_user(&name).await?;
            let path = format!("/users/{}/roles", text(&user, "id"));
            let body = json!({ "roles": roles });
            self.client.call(Method::PUT, &path, Some(&body)).await?;
            writeln!(out, "{said} \"{name}\"").ok();
        }
        Ok(out)
    }
}

//! What each command asks the server and how its answer is put into words.

use super::MmctlError;
use super::arguments::{Arguments, Bot, Command, Config, System};
use super::client::{Client, part};
use super::format::{indented, pointer, typed};
use crate::layout;
use hyper::Method;
use serde_json::{Value, json};

pub type Printed = Result<String, MmctlError>;

pub struct Session {
    pub client: Client,
    pub json: bool,
}

pub async fn run(arguments: Arguments) -> Printed {
    if matches!(arguments.command, Command::Version) {
        return Ok(version());
    }
    if !arguments.local {
        return Err(MmctlError::NotLocal);
    }
    let session = Session {
        client: Client::new(),
        json: arguments.json,
    };
    match arguments.command {
        Command::User(command) => session.user(command).await,
        Command::Token(command) => session.token(command).await,
        Command::Team(command) => session.team(command).await,
        Command::Channel(command) => session.channel(command).await,
        Command::Post(command) => session.post(command).await,
        Command::Config(command) => session.config(command).await,
        Command::System(command) => session.system(command).await,
        Command::Bot(Bot::List) => session.bots().await,
        Command::Roles(command) => session.roles(command).await,
        Command::Version => Ok(version()),
    }
}

fn version() -> String {
    format!(
        "mmctl:\nVersion:\t{}\nBuiltDate:\tstand-in\nCommitDate:\tstand-in\nGitCommit:\tstand-in\n\
         GitTreeState:\tstand-in\nGoVersion:\tnone\nCompiler:\trustc\nPlatform:\tlinux/amd64\n",
        layout::identity().version
    )
}

pub fn failed(what: &str) -> MmctlError {
    MmctlError::Command(what.to_owned())
}

pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

pub fn require_confirmation(confirmed: bool) -> Result<(), MmctlError> {
    if confirmed {
        Ok(())
    } else {
        Err(failed(
            "could not proceed, either enable --confirm flag or use an interactive shell to complete operation",
        ))
    }
}

impl Session {
    /// A value as JSON in the server's own order of fields, or the words of `plain`.
    pub fn show(&self, raw: &str, plain: impl FnOnce() -> String) -> String {
        if !self.json {
            return plain();
        }
        indented(raw)
    }

    /// A user by name, e-mail address or identifier.
    pub async fn find_user(&self, name: &str) -> Result<Value, MmctlError> {
        let escaped = part(name);
        let paths = [
            format!("/users/username/{escaped}"),
            format!("/users/email/{escaped}"),
            format!("/users/{escaped}"),
        ];
        for path in paths {
            if let Some(user) = self.client.find(&path).await? {
                return Ok(user);
            }
        }
        Err(failed(&format!("user {name} not found")))
    }

    pub async fn find_team(&self, name: &str) -> Result<Value, MmctlError> {
        let escaped = part(name);
        for path in [
            format!("/teams/name/{escaped}"),
            format!("/teams/{escaped}"),
        ] {
            if let Some(team) = self.client.find(&path).await? {
                return Ok(team);
            }
        }
        Err(failed(&format!("unable to find team '{name}'")))
    }

    /// `team:channel`, or an identifier.
    pub async fn find_channel(&self, name: &str) -> Result<Value, MmctlError> {
        let path = match name.split_once(':') {
            Some((team, channel)) => {
                let team = self.find_team(team).await?;
                format!(
                    "/teams/{}/channels/name/{}",
                    text(&team, "id"),
                    part(channel)
                )
            }
            None => format!("/channels/{}", part(name)),
        };
        let found = self.client.find(&path).await?;
        found.ok_or_else(|| failed(&format!("unable to find channel '{name}'")))
    }

    async fn config(&self, command: Config) -> Printed {
        match command {
            Config::Get { key } => {
                let config = self.client.get("/config").await?;
                let value = config.pointer(&pointer(&key)).ok_or_else(|| {
                    failed(&format!("error getting config path \"{key}\": invalid key"))
                })?;
                Ok(indented(&value.to_string()))
            }
            Config::Set { key, values } => {
                let config = self.client.get("/config").await?;
                let now = config.pointer(&pointer(&key)).ok_or_else(|| {
                    failed(&format!("error setting config path \"{key}\": invalid key"))
                })?;
                let value = typed(now, &values).ok_or_else(|| {
                    failed(&format!("the value is not of the type that {key} has"))
                })?;
                let (section, name) = key.split_once('.').unwrap_or((&key, ""));
                let body = json!({section: {name: value}});
                self.client
                    .call(Method::PUT, "/config/patch", Some(&body))
                    .await?;
                Ok("Value changed successfully\n".to_owned())
            }
            Config::Show => Ok(indented(&self.client.get("/config").await?.to_string())),
            Config::Reload => {
                self.client
                    .call(Method::POST, "/config/reload", None)
                    .await?;
                Ok(String::new())
            }
        }
    }

    async fn system(&self, command: System) -> Printed {
        let path = "/system/ping?get_server_status=true";
        let answer = self.client.call(Method::GET, path, None).await?;
        Ok(match command {
            System::Version => self.show(&json!({"version": answer.version}).to_string(), || {
                format!("Server version {}\n", answer.version)
            }),
            System::Status => self.show(&answer.text, || {
                let body = &answer.body;
                format!(
                    "Server status: {}\nAndroid Latest Version: {}\nAndroid Minimum Version: {}\n\
                     Desktop Latest Version: <no value>\nDesktop Minimum Version: <no value>\n\
                     Ios Latest Version: {}\nIos Minimum Version: {}\nDatabase Status: {}\nFilestore Status: {}\n",
                    text(body, "status"),
                    text(body, "AndroidLatestVersion"),
                    text(body, "AndroidMinVersion"),
                    text(body, "IosLatestVersion"),
                    text(body, "IosMinVersion"),
                    text(body, "database_status"),
                    text(body, "filestore_status")
                )
            }),
        })
    }
}

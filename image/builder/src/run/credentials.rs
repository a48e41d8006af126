//! The first administrator of the machine in run/: made once, told to the machine by a seed, used by `ONCE=1`.

use super::RunError;
use crate::error::{IoContext, Result};
use atalaya_probe::{Client, ClientError, Target};
use atalaya_vm::Snapshot;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub site: String,
    pub username: String,
    pub password: String,
}

/// 32 characters that cannot be mistaken for one another: 5 bits each, without a bias.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789A";

impl Credentials {
    pub fn make(https_port: u16) -> Result<Self> {
        let path = Path::new("/dev/urandom");
        let mut random = [0; 20];
        File::open(path)
            .and_then(|mut file| file.read_exact(&mut random))
            .during("read", path)?;
        let letters: Vec<char> = random
            .iter()
            .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
            .collect();
        let groups: Vec<String> = letters
            .chunks(5)
            .map(|group| group.iter().collect())
            .collect();
        Ok(Self {
            site: format!("https://localhost:{https_port}"),
            username: "admin".to_owned(),
            // 100 random bits; the beginning satisfies any rule about kinds of characters.
            password: format!("Aa1-{}", groups.join("-")),
        })
    }

    /// The machine's appliance.toml.
    pub fn seed(&self) -> String {
        format!(
            "hostname = \"atalaya\"\n\n[site]\naddress = \"{}\"\n\n[administrator]\nusername = \"{}\"\nemail = \"admin@localhost\"\npassword = \"{}\"\n",
            self.site, self.username, self.password
        )
    }

    /// A client of the machine, which trusts its own authority only.
    pub fn client(
        &self,
        snapshot: &Snapshot,
        https_port: u16,
    ) -> std::result::Result<Client, ClientError> {
        let ca = snapshot.ca.as_ref().map_or("", |ca| ca.pem.as_str());
        let mut target = Target::new(&self.site, ca);
        target.connect = Some(format!("127.0.0.1:{https_port}"));
        Client::new(&target)
    }

    /// Logs in and posts, as a person would.
    pub fn use_once(&self, snapshot: &Snapshot, https_port: u16) -> Result<()> {
        let failed = |operation| {
            move |error: ClientError| RunError::Use {
                operation,
                detail: error.to_string(),
            }
        };
        let mut client = self
            .client(snapshot, https_port)
            .map_err(failed("connecting"))?;
        client
            .login(&self.username, &self.password)
            .map_err(failed("logging in"))?;
        let teams = client
            .call_raw("GET", "/users/me/teams", None)
            .map_err(failed("listing the teams"))?;
        let name = teams[0]["name"].as_str().unwrap_or_default();
        let missing = || RunError::Use {
            operation: "finding the first team's town square",
            detail: "there is none".to_owned(),
        };
        let team = client
            .find_team(name)
            .map_err(failed("finding the team"))?
            .ok_or_else(missing)?;
        let channel = client
            .find_channel(&team, "town-square")
            .map_err(failed("finding the channel"))?
            .ok_or_else(missing)?;
        let post = client
            .create_post(&channel, "`make run ONCE=1` was here.", &[])
            .map_err(failed("posting"))?;
        client.post(&post.id).map_err(failed("reading the post"))?;
        client.logout().map_err(failed("logging out"))?;
        eprintln!(
            "logged in as {} and posted to {}/town-square",
            self.username, team.name
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_differ_and_are_long() {
        let (one, other) = (Credentials::make(1).unwrap(), Credentials::make(1).unwrap());
        assert_ne!(one.password, other.password);
        assert_eq!(one.password.len(), 4 + 23);
    }

    #[test]
    fn the_seed_is_one_that_the_appliance_takes() {
        let made = Credentials::make(9443).unwrap();
        assert!(made.seed().contains("address = \"https://localhost:9443\""));
        let value: toml::Value = toml::from_str(&made.seed()).unwrap();
        assert_eq!(
            value["administrator"]["password"].as_str(),
            Some(made.password.as_str())
        );
    }
}

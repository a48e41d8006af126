//! The folder run/: the machine's disk and what belongs to it. Names, the state file, and one machine at a time.

use super::RunError;
use super::credentials::Credentials;
use crate::error::{Error, IoContext, Result};
use crate::manifest::Kind;
use crate::project::Project;
use atalaya_sys::durable;
use atalaya_vm::Snapshot;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is on the disk, as far as this program needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The slot last booted.
    pub slot: String,
    pub version: String,
    pub build: String,
    pub mattermost: String,
    pub kind: Kind,
    pub https_port: u16,
    pub http_port: u16,
}

pub struct Place {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    pub fn open(project: &Project, folder: Option<&Path>) -> Result<Self> {
        let folder = match folder.filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => project.root.join(folder),
            None => project.root.join("run"),
        };
        fs::create_dir_all(&folder).during("create folder", &folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
            .during("set mode of", &folder)?;
        let path = folder.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .during("open", &path)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            RunError::AlreadyRunning {
                folder: folder.clone(),
            }
        })?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.raw")
    }

    pub fn variables(&self) -> PathBuf {
        self.folder.join("uefi-variables.fd")
    }

    pub fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    pub fn seed(&self) -> PathBuf {
        self.folder.join("appliance.toml")
    }

    fn state_file(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    fn credentials_file(&self) -> PathBuf {
        self.folder.join("credentials.json")
    }

    /// Deletes the machine and all its data.
    pub fn clear(&self) -> Result<()> {
        // The state goes last: without it a disk counts for nothing.
        for path in [
            self.disk(),
            self.variables(),
            self.console(),
            self.authority(),
            self.seed(),
            self.credentials_file(),
            self.state_file(),
        ] {
            durable::remove(&path)?;
        }
        Ok(())
    }

    pub fn state(&self) -> Result<Option<State>> {
        read_json(&self.state_file())
    }

    pub fn save_state(&self, state: &State) -> Result<()> {
        write_json(&self.state_file(), state, 0o644)
    }

    /// The first administrator's name and password, made once, and the seed that says them to the machine.
    pub fn credentials(&self, https_port: u16) -> Result<Credentials> {
        let file = self.credentials_file();
        let credentials = match read_json(&file)? {
            Some(credentials) => credentials,
            None => {
                let made = Credentials::make(https_port)?;
                write_json(&file, &made, 0o600)?;
                made
            }
        };
        durable::write(&self.seed(), credentials.seed().as_bytes(), 0o600, None)?;
        Ok(credentials)
    }

    pub fn save_authority(&self, snapshot: &Snapshot) -> Result<()> {
        if let Some(ca) = &snapshot.ca {
            durable::write(&self.authority(), ca.pem.as_bytes(), 0o644, None)?;
        }
        Ok(())
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.during("read", path)?,
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        RunError::Disk {
            disk: path.to_owned(),
            problem: error.to_string(),
        }
        .into()
    })
}

fn write_json<T: Serialize>(path: &Path, value: &T, mode: u32) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Io {
        operation: "write",
        object: path.display().to_string(),
        source: error.into(),
    })?;
    durable::write(path, text.as_bytes(), mode, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::plan;

    fn place(folder: &Path) -> Place {
        Place::open(&Project::new(folder.to_owned(), None), None).unwrap()
    }

    #[test]
    fn state_and_credentials_survive_and_are_cleared_together() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        assert_eq!(place.state().unwrap(), None);
        place.save_state(&plan::tests::state()).unwrap();
        assert_eq!(place.state().unwrap(), Some(plan::tests::state()));
        let first = place.credentials(8443).unwrap();
        assert_eq!(first.password, place.credentials(8443).unwrap().password);
        for secret in [place.seed(), place.credentials_file()] {
            let mode = fs::metadata(&secret).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
        }
        place.clear().unwrap();
        assert_eq!(place.state().unwrap(), None);
        assert_ne!(first.password, place.credentials(8443).unwrap().password);
    }

    #[test]
    fn two_machines_cannot_run_from_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _first = place(folder.path());
        let second = Place::open(&Project::new(folder.path().to_owned(), None), None);
        assert!(
            second
                .err()
                .unwrap()
                .to_string()
                .contains("stop that one first")
        );
    }
}

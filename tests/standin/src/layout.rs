//! The release's folders and the version it claims. Decides where things are; writes nothing.
//!
//! A folder is looked for in the working directory and up to four parents, then beside the program and up to four
//! parents. The version is read from the file `STANDIN` in the release's root, so that a made-up release of another
//! version needs no other program.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the file `STANDIN` says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Identity {
    pub notice: String,
    pub version: String,
    pub build_date: String,
    pub build_hash: String,
    /// The highest migration of the release; who builds an image reads it.
    #[serde(default)]
    pub schema: i64,
    /// What this release gets wrong, for tests of an update to a broken one.
    #[serde(default)]
    pub faults: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self::new("11.7.9")
    }
}

impl Identity {
    pub fn new(version: &str) -> Self {
        use sha2::{Digest, Sha256};
        let hash: String = Sha256::digest(format!("atalaya stand-in {version}"))
            .iter()
            .take(20)
            .map(|b| format!("{b:02x}"))
            .collect();
        Self {
            notice: "This is a stand-in made by the Atalaya project for tests. It is not Mattermost, and \
                     must not be used to keep real conversations."
                .to_owned(),
            version: version.to_owned(),
            build_date: "2026-11-22".to_owned(),
            build_hash: hash,
            schema: 0,
            faults: String::new(),
        }
    }
}

/// Finds `name` (a file or folder) where the release keeps it.
pub fn find(name: &str) -> Option<PathBuf> {
    let mut starts: Vec<PathBuf> = std::env::current_dir().into_iter().collect();
    if let Some(folder) = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_path_buf))
    {
        starts.push(folder);
    }
    starts.iter().find_map(|start| {
        start
            .ancestors()
            .take(5)
            .map(|a| a.join(name))
            .find(|p| p.exists())
    })
}

/// The identity that the release's root gives; the built-in one where the programs run outside of a release.
pub fn identity() -> Identity {
    find("STANDIN")
        .and_then(|p| std::fs::read_to_string(p).ok())
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default()
}

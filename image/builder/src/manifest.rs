//! What is said about an image: inside it (release.json) and beside it (manifest.json).

use crate::artifacts::Artifacts;
use crate::base::Package;
use crate::crates::Crate;
use crate::error::{Error, IoContext, Result};
use atalaya_bundle::keys::Purpose;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Standin,
    Official,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mattermost {
    pub version: String,
    pub kind: Kind,
    /// Where the tarball came from.
    pub source: String,
    /// Of the tarball.
    pub sha256: String,
    /// The highest migration that it applies; none where the release did not tell.
    pub schema: Option<u64>,
}

/// /usr/lib/atalaya/release.json: what the machine repeats in its status and on its console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub product: String,
    pub version: String,
    pub build: String,
    pub built: String,
    pub mattermost: Mattermost,
    pub postgresql: String,
    /// Rises when an older image must never run again.
    pub epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub version: String,
    pub sha256: String,
}

/// What its bundle has to say and the image itself has no use for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The oldest version that can be updated to this one.
    pub minimum_from: String,
    /// Versions that cannot, whatever their number.
    pub forbidden_from: Vec<String>,
    /// Other major versions of PostgreSQL whose data it carries over.
    #[serde(default)]
    pub postgresql_from: Vec<u32>,
    /// Whose updates the image takes.
    pub trust: Purpose,
    /// The newest key set that it knows.
    pub key_set: u32,
}

/// manifest.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    #[serde(flatten)]
    pub release: Release,
    /// Whether the image holds the tests' agent.
    pub test: bool,
    pub kernel: String,
    pub loader: Component,
    pub update: Update,
    pub artifacts: Artifacts,
    pub packages: Vec<Package>,
    /// What our own programs are linked with.
    pub crates: Vec<Crate>,
}

impl Manifest {
    /// The one in an output folder.
    pub fn of(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = fs::read(&path).during("read", &path)?;
        serde_json::from_slice(&text).map_err(|source| Error::Io {
            operation: "understand",
            object: path.display().to_string(),
            source: source.into(),
        })
    }
}

/// The project's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A version as an image of this kind says it: one with the stand-in says so in it.
pub fn version(number: &str, kind: Kind) -> String {
    match kind {
        Kind::Official => number.to_owned(),
        Kind::Standin => format!("{number}-standin"),
    }
}

/// PostgreSQL's own number in Debian's version of the package: "17.7-0+deb13u1" is 17.7.
pub fn upstream_version(debian: &str) -> &str {
    let text = debian.split_once(':').map_or(debian, |(_, rest)| rest);
    text.rsplit_once('-').map_or(text, |(number, _)| number)
}

#[cfg(test)]
pub mod made_up {
    use super::*;
    use crate::artifacts::Artifact;

    pub fn manifest() -> Manifest {
        let artifact = Artifact {
            name: "x".into(),
            size: 0,
            sha256: String::new(),
        };
        Manifest {
            release: Release {
                product: "atalaya".into(),
                version: "0.1.0".into(),
                build: "b1".into(),
                built: String::new(),
                mattermost: Mattermost {
                    version: "11.7.9".into(),
                    kind: Kind::Official,
                    source: String::new(),
                    sha256: String::new(),
                    schema: None,
                },
                postgresql: "17".into(),
                epoch: 1,
            },
            test: false,
            kernel: String::new(),
            loader: Component {
                version: String::new(),
                sha256: String::new(),
            },
            update: Update {
                minimum_from: String::new(),
                forbidden_from: Vec::new(),
                postgresql_from: Vec::new(),
                trust: atalaya_bundle::keys::Purpose::Development,
                key_set: 1,
            },
            artifacts: Artifacts {
                disk: artifact.clone(),
                root: artifact.clone(),
                verity: artifact.clone(),
                uki: artifact,
                root_hash: "h1".into(),
            },
            packages: Vec::new(),
            crates: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_parts_of_a_version_are_cut_off() {
        assert_eq!(upstream_version("17.7-0+deb13u1"), "17.7");
        assert_eq!(upstream_version("1:9.20-1-1"), "9.20-1");
        assert_eq!(upstream_version("2.1"), "2.1");
    }

    #[test]
    fn the_stand_in_shows_in_the_version() {
        assert!(version(VERSION, Kind::Standin).ends_with("-standin"));
        assert!(!version(VERSION, Kind::Official).contains('-'));
    }
}

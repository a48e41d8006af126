//! What is said about an image: inside it (release.json) and beside it (manifest.json).

use crate::artifacts::Artifacts;
use crate::base::Package;
use crate::crates::Crate;
use serde::{Deserialize, Serialize};

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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    pub version: String,
    pub sha256: String,
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
    pub artifacts: Artifacts,
    pub packages: Vec<Package>,
    /// What our own programs are linked with.
    pub crates: Vec<Crate>,
}

/// The product's version; an image with the stand-in says so in it.
pub fn version(kind: Kind) -> String {
    let number = env!("CARGO_PKG_VERSION");
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
        assert!(version(Kind::Standin).ends_with("-standin"));
        assert!(!version(Kind::Official).contains('-'));
    }
}

//! What is installed, as the image says it.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// release.json. Unknown keys are kept out of the way: the pipeline may say more than is shown here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub version: String,
    #[serde(default)]
    pub build: String,
    #[serde(default)]
    pub mattermost: Mattermost,
    #[serde(default)]
    pub postgresql: String,
    /// Rises when an older image must never run again.
    #[serde(default)]
    pub epoch: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mattermost {
    #[serde(default)]
    pub version: String,
    /// "official" or "standin".
    #[serde(default)]
    pub kind: String,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: String::new(),
            mattermost: Mattermost::default(),
            postgresql: String::new(),
            epoch: 0,
        }
    }
}

impl Release {
    /// What cannot be read is shown as unknown: it must not keep the units from starting.
    pub fn read(path: &Path) -> Self {
        std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    pub fn is_standin(&self) -> bool {
        self.mattermost.kind == "standin"
    }
}

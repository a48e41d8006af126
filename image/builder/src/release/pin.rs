//! Reads release.toml: which official release is the pinned one.

use super::ReleaseError;
use crate::error::{IoContext, Result};
use serde::Deserialize;
use std::path::Path;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub version: String,
    pub address: String,
    pub sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mattermost: Pin,
}

impl Pin {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).during("read", path)?;
        Ok(Self::parse(&text)?)
    }

    fn parse(text: &str) -> std::result::Result<Self, ReleaseError> {
        let wrong = |problem: String| ReleaseError::BadPin { problem };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let pin = file.mattermost;
        let whole =
            pin.sha256.len() == 64 && pin.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !whole {
            return Err(wrong("sha256 needs 64 hexadecimal digits".to_owned()));
        }
        if !pin.address.starts_with("https://") || pin.file_name().is_empty() {
            return Err(wrong(
                "address must be an https:// one of a file".to_owned(),
            ));
        }
        Ok(pin)
    }

    /// The file's name in the cache, which is also its name at the vendor's.
    pub fn file_name(&self) -> &str {
        self.address.rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_right() {
        let pin = Pin::parse(include_str!("../../../release.toml")).unwrap();
        assert!(pin.file_name().ends_with(".tar.gz"));
        assert!(pin.address.contains(&pin.version));
    }

    #[test]
    fn a_short_sum_and_unknown_keys_are_refused() {
        let text = "[mattermost]\nversion='1'\naddress='https://x.example/f'\nsha256='ab'\n";
        assert!(Pin::parse(text).unwrap_err().to_string().contains("64"));
        assert!(Pin::parse(&format!("{text}more=1\n")).is_err());
    }
}

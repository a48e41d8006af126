//! Reads release.toml: which official release is the pinned one, and what updates need to know of this version.

use super::ReleaseError;
use crate::error::{IoContext, Result};
use crate::manifest::VERSION;
use semver::Version;
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
    update: Update,
}

/// The same for every kind of image: the stand-in's mark does not count where versions are compared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    pub epoch: u64,
    pub minimum_from: String,
    #[serde(default)]
    pub forbidden_from: Vec<String>,
}

/// All of release.toml.
pub fn read(path: &Path) -> Result<(Pin, Update)> {
    let text = std::fs::read_to_string(path).during("read", path)?;
    let file = parse(&text)?;
    Ok((file.mattermost, file.update))
}

fn parse(text: &str) -> std::result::Result<File, ReleaseError> {
    let wrong = |problem: String| ReleaseError::BadPin { problem };
    let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
    file.mattermost.check()?;
    let update = &file.update;
    let plain = |text: &String| {
        Version::parse(text)
            .ok()
            .filter(|version| version.pre.is_empty() && version.build.is_empty())
            .ok_or_else(|| {
                wrong(format!(
                    "{text:?} under [update] is not a version of three numbers (the stand-in's mark does not count)"
                ))
            })
    };
    update
        .forbidden_from
        .iter()
        .try_for_each(|text| plain(text).map(drop))?;
    // Otherwise no machine that has this version could be given it again.
    let from = plain(&update.minimum_from)?;
    if Version::parse(VERSION).is_ok_and(|own| from > own) {
        return Err(wrong(format!(
            "minimum_from is later than this version, {VERSION}"
        )));
    }
    Ok(file)
}

impl Pin {
    fn check(&self) -> std::result::Result<(), ReleaseError> {
        let wrong = |problem: String| ReleaseError::BadPin { problem };
        let pin = self;
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
        Ok(())
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
        let pin = parse(include_str!("../../../release.toml"))
            .unwrap()
            .mattermost;
        assert!(pin.file_name().ends_with(".tar.gz"));
        assert!(pin.address.contains(&pin.version));
    }

    #[test]
    fn a_short_sum_and_unknown_keys_are_refused() {
        let text = file("ab", "0.1.0");
        assert!(parse(&text).err().unwrap().to_string().contains("64"));
        assert!(parse(&format!("{text}more=1\n")).is_err());
    }

    #[test]
    fn versions_to_come_from_are_plain_and_no_later_than_this_one() {
        let sum = "ab".repeat(32);
        assert!(parse(&file(&sum, "0.1.0")).is_ok());
        for wrong in ["0.1.0-standin", "0.1.0+1", "1", "9999.0.0"] {
            assert!(parse(&file(&sum, wrong)).is_err(), "{wrong}");
        }
    }

    fn file(sum: &str, minimum: &str) -> String {
        format!(
            "[mattermost]\nversion='1'\naddress='https://x.example/f'\nsha256='{sum}'\n\
             [update]\nepoch=1\nminimum_from='{minimum}'\n"
        )
    }
}

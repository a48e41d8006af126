//! What is to be done with run/: pure decisions about ports and the disk.

use super::RunError;
use super::place::State;
use crate::manifest::{Kind, Manifest};
use std::path::Path;

pub const HTTPS_PORT: u16 = 8443;
pub const HTTP_PORT: u16 = 8080;

/// The ports of 127.0.0.1. Once the machine was made they are fixed: its site address has the first one in it.
pub fn ports(
    folder: &Path,
    given: (Option<u16>, Option<u16>),
    kept: Option<(u16, u16)>,
) -> Result<(u16, u16), RunError> {
    let choose = |variable, given: Option<u16>, kept: Option<u16>, default| match (given, kept) {
        (Some(given), Some(kept)) if given != kept => Err(RunError::PortFixed {
            folder: folder.to_owned(),
            variable,
            kept,
        }),
        (_, Some(kept)) => Ok(kept),
        (Some(given), None) => Ok(given),
        (None, None) => Ok(default),
    };
    Ok((
        choose("HTTPS_PORT", given.0, kept.map(|kept| kept.0), HTTPS_PORT)?,
        choose("HTTP_PORT", given.1, kept.map(|kept| kept.1), HTTP_PORT)?,
    ))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// No disk yet.
    Create,
    /// The disk has this very image.
    Keep,
    /// The disk has another build of the same version.
    Replace,
}

impl Step {
    pub fn words(self) -> &'static str {
        match self {
            Self::Create => "made from the image",
            Self::Keep => "as it was",
            Self::Replace => "system replaced, data kept",
        }
    }
}

pub fn step(
    folder: &Path,
    state: Option<&State>,
    manifest: &Manifest,
    disk: bool,
) -> Result<Step, RunError> {
    let Some(state) = state.filter(|_| disk) else {
        return Ok(Step::Create);
    };
    let release = &manifest.release;
    let same = state.version == release.version
        && state.mattermost == release.mattermost.version
        && state.kind == release.mattermost.kind;
    if !same {
        return Err(RunError::OtherData {
            folder: folder.to_owned(),
            kept: words(&state.version, &state.mattermost, state.kind),
            built: words(
                &release.version,
                &release.mattermost.version,
                release.mattermost.kind,
            ),
        });
    }
    Ok(if state.build == release.build {
        Step::Keep
    } else {
        Step::Replace
    })
}

fn words(version: &str, mattermost: &str, kind: Kind) -> String {
    let kind = match kind {
        Kind::Standin => "the stand-in's",
        Kind::Official => "the official",
    };
    format!("Atalaya {version} with {kind} Mattermost {mattermost}")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::manifest::made_up::manifest;

    pub fn state() -> State {
        State {
            slot: "a".into(),
            version: "0.1.0".into(),
            build: "b1".into(),
            mattermost: "11.7.9".into(),
            kind: Kind::Official,
            https_port: 8443,
            http_port: 8080,
        }
    }

    fn decide(state: Option<&State>, disk: bool) -> Result<Step, String> {
        step(Path::new("run"), state, &manifest(), disk).map_err(|error| error.to_string())
    }

    #[test]
    fn a_changed_build_replaces_and_the_same_one_stays() {
        let mut kept = state();
        assert_eq!(decide(Some(&kept), true), Ok(Step::Keep));
        kept.build = "b0".into();
        assert_eq!(decide(Some(&kept), true), Ok(Step::Replace));
        assert_eq!(decide(Some(&kept), false), Ok(Step::Create));
        assert_eq!(decide(None, true), Ok(Step::Create));
    }

    #[test]
    fn data_of_another_version_or_kind_are_refused() {
        let changes: [fn(&mut State); 3] = [
            |state| state.version = "0.0.9".into(),
            |state| state.mattermost = "11.8.0".into(),
            |state| state.kind = Kind::Standin,
        ];
        for change in changes {
            let mut kept = state();
            change(&mut kept);
            let text = decide(Some(&kept), true).unwrap_err();
            assert!(text.contains("FRESH=1"), "{text}");
        }
    }

    #[test]
    fn ports_are_fixed_once_chosen() {
        let folder = Path::new("run");
        assert_eq!(ports(folder, (None, None), None).unwrap(), (8443, 8080));
        assert_eq!(ports(folder, (Some(1), None), None).unwrap(), (1, 8080));
        assert_eq!(ports(folder, (None, None), Some((5, 6))).unwrap(), (5, 6));
        assert_eq!(
            ports(folder, (Some(5), None), Some((5, 6))).unwrap(),
            (5, 6)
        );
        let text = ports(folder, (None, Some(7)), Some((5, 6)))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("HTTP_PORT=6") && text.contains("FRESH=1"),
            "{text}"
        );
    }
}

//! The keys that sign updates: whom an image trusts, and the commands of a key ceremony (docs/keys.md). What a set of keys means is decided in
//! atalaya-bundle; here are its files. Secret keys are only ever read, used and made anew; the project holds public ones.

mod ceremony;
mod request;
mod secret;

pub use ceremony::{accept, new, rotate, sign};
pub use request::{Content, Request};

use crate::error::{Error, IoContext, Result};
use crate::manifest::Kind;
use crate::pipeline::to_json;
use crate::project::Project;
use atalaya_bundle::keys::{KeySet, KeySets, Purpose, SignedKeySet, SigningKey, TrustFile};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(
        "{} is there already; nothing was written, because a secret key that is overwritten is lost; give another name", .0.display()
    )]
    Exists(PathBuf),
    #[error("{} {problem}; nothing was done; {next}", path.display())]
    Unusable {
        path: PathBuf,
        problem: String,
        next: &'static str,
    },
    #[error(
        "there are no release keys ({} is not there); nothing was built; hold the ceremony of docs/keys.md, or build without KEYS=release", .0.display()
    )]
    NoReleaseKeys(PathBuf),
    #[error(
        "an image that trusts the release keys holds the official Mattermost, never the stand-in; nothing was built; add MATTERMOST=official, or build without KEYS=release"
    )]
    ReleaseOfStandin,
    #[error(
        "this bundle holds the stand-in for Mattermost, which no release key signs; nothing was signed; build with MATTERMOST=official KEYS=release"
    )]
    SignStandin,
    #[error("the answer was not `yes`; nothing was signed; run it again when you are sure")]
    NotConfirmed,
    #[error(
        "this key has no say in what is to be signed; nothing was signed; its public part is {0}, give one of those that were shown"
    )]
    Stranger(String),
    #[error(
        "{} asks for something else than {}; nothing was done; give the signed copies of one request only", one.display(), other.display()
    )]
    OtherRequest { one: PathBuf, other: PathBuf },
    #[error("the proposed set does not follow the newest in {}: {problem}; nothing was changed; propose it anew with `keys rotate`", path.display())]
    NotNext { path: PathBuf, problem: String },
    #[error("{problem}; nothing was changed; {next}")]
    Set {
        problem: atalaya_bundle::keys::KeyError,
        next: &'static str,
    },
}

/// What an image says of whom it trusts.
pub struct Trusted {
    pub purpose: Purpose,
    /// The newest set's number.
    pub key_set: u32,
    /// The text of /usr/lib/atalaya/update-trust.json.
    pub text: String,
}

/// Whom an image of this kind trusts, if it is built for `purpose`.
pub fn trusted(project: &Project, purpose: Purpose, kind: Kind) -> Result<Trusted> {
    if purpose == Purpose::Release && kind == Kind::Standin {
        return Err(KeysError::ReleaseOfStandin.into());
    }
    let sets = sets(project, purpose)?;
    let key_set = newest(&sets).map_or(0, |set| set.version);
    let file = TrustFile {
        purpose,
        sets: sets.sets,
    };
    Ok(Trusted {
        purpose,
        key_set,
        text: to_json(&file)?,
    })
}

/// All sets of keys of that purpose, verified.
pub fn sets(project: &Project, purpose: Purpose) -> Result<KeySets> {
    match purpose {
        Purpose::Development => development(&secret::of_this_machine(&project.keys())?),
        Purpose::Release => {
            let path = project.release_keys();
            read_sets(&path)?.ok_or_else(|| KeysError::NoReleaseKeys(path).into())
        }
    }
}

/// The same, but nothing is made for the asking, and there may be none.
pub fn known(project: &Project, purpose: Purpose) -> Result<Option<KeySets>> {
    match purpose {
        Purpose::Development if !secret::exists(&project.keys()) => Ok(None),
        Purpose::Development => sets(project, purpose).map(Some),
        Purpose::Release => read_sets(&project.release_keys()),
    }
}

/// The keys that sign what trusts the development key.
pub fn development_key(project: &Project) -> Result<SigningKey> {
    secret::of_this_machine(&project.keys())
}

pub fn signing_key(path: &Path) -> Result<SigningKey> {
    secret::read(path)
}

pub fn newest(sets: &KeySets) -> Option<&KeySet> {
    sets.sets.last().map(|signed| &signed.set)
}

/// The one set of one key, signed by itself: the same key gives the same bytes.
fn development(key: &SigningKey) -> Result<KeySets> {
    let set = KeySet::new(1, 1, vec![key.public()]).map_err(unusable_set)?;
    let signatures = vec![key.sign_set(&set)];
    Ok(KeySets {
        sets: vec![SignedKeySet { set, signatures }],
    })
}

fn unusable_set(problem: atalaya_bundle::keys::KeyError) -> KeysError {
    KeysError::Set {
        problem,
        next: "check the keys and the threshold",
    }
}

/// The sets in a file; none if it is not there.
fn read_sets(path: &Path) -> Result<Option<KeySets>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(path).during("read", path)?;
    let unusable = |problem: String| -> Error {
        KeysError::Unusable {
            path: path.to_owned(),
            problem,
            next: "restore the file from the project's history",
        }
        .into()
    };
    let sets: KeySets = serde_json::from_slice(&text)
        .map_err(|error| unusable(format!("cannot be understood: {error}")))?;
    sets.verify()
        .map_err(|error| unusable(format!("is no chain of key sets: {error}")))?;
    Ok(Some(sets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_development_key_is_made_once_and_trusted_by_its_images() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::new(folder.path().to_owned(), None);
        let first = trusted(&project, Purpose::Development, Kind::Standin).unwrap();
        let again = trusted(&project, Purpose::Development, Kind::Official).unwrap();
        assert_eq!(first.text, again.text);
        assert_eq!(first.key_set, 1);
        let file: TrustFile = serde_json::from_str(&first.text).unwrap();
        assert_eq!(file.purpose, Purpose::Development);
        assert!(!first.text.contains("atalaya-signing-key"));
        let sets = KeySets { sets: file.sets };
        let public = development_key(&project).unwrap().public();
        assert_eq!(sets.verify().unwrap().keys, [public]);
    }

    #[test]
    fn release_images_need_the_official_server_and_a_ceremony() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::new(folder.path().to_owned(), None);
        let refused = |kind| {
            trusted(&project, Purpose::Release, kind)
                .err()
                .unwrap()
                .to_string()
        };
        assert!(refused(Kind::Standin).contains("never the stand-in"));
        assert!(refused(Kind::Official).contains("there are no release keys"));
    }
}

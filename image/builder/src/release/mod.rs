//! The Mattermost release that goes into the image: the official one, one that was given, or the project's stand-in.
//! Decides which, has it checked, and unpacks it once.

mod download;
mod pin;
mod schema;
mod tarball;

use crate::error::{Error, IoContext, Result};
use crate::manifest::{Kind, Mattermost};
use crate::progress::Stage;
use crate::project::Project;
use crate::{digest, process, programs};
use pin::Pin;
pub use pin::Update;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `MATTERMOST=` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    /// The official release if it can be had, else the stand-in.
    #[default]
    Auto,
    /// The official release or nothing.
    Official,
    /// The project's stand-in.
    Standin,
}

#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub choice: Choice,
    pub tarball: Option<PathBuf>,
    pub sha256: Option<String>,
}

pub struct Prepared {
    /// The unpacked tarball's top folder.
    pub tree: PathBuf,
    pub about: Mattermost,
    /// Why the stand-in was taken though nobody asked for it.
    pub fallback: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error(
        "{} has the wrong SHA-256\n  expected {expected}\n  found    {found}\nit is kept as {} and nothing was built; get the file again, or check MATTERMOST_SHA256=", file.display(), kept.display()
    )]
    WrongChecksum {
        file: PathBuf,
        expected: String,
        found: String,
        kept: PathBuf,
    },
    #[error(
        "{} is not the pinned Mattermost {version}\n  pinned {pinned}\n  found  {found}\nit was left where it is and nothing was built; to use another release, give its SHA-256, from a source you trust, with MATTERMOST_SHA256=", file.display()
    )]
    NeedsChecksum {
        file: PathBuf,
        version: String,
        pinned: String,
        found: String,
    },
    #[error(
        "MATTERMOST_SHA256= needs 64 hexadecimal digits and MATTERMOST_TARBALL= beside it; nothing was built; correct it and run this again"
    )]
    BadChecksum,
    #[error(
        "{} is not a Mattermost release: {problem}; nothing was built; use the vendor's tarball mattermost-team-VERSION-linux-amd64.tar.gz", file.display()
    )]
    NotRelease { file: PathBuf, problem: String },
    #[error(
        "{} would write outside its own folder ({entry}); such a file is not a Mattermost release and may be an attack; nothing was unpacked or built; get the vendor's tarball", file.display()
    )]
    Outside { file: PathBuf, entry: String },
    #[error(
        "{} holds the {found} and MATTERMOST={asked} was asked for; nothing was built; give the other file or leave MATTERMOST= out", file.display()
    )]
    OtherKind {
        file: PathBuf,
        found: &'static str,
        asked: &'static str,
    },
    #[error(
        "{} cannot be read ({reason}); nothing was built; check MATTERMOST_TARBALL=", file.display()
    )]
    Unreadable { file: PathBuf, reason: String },
    #[error(
        "the official Mattermost release cannot be had from {address}: {reason}; nothing was built; put the file into {} or give it with MATTERMOST_TARBALL=, or build with MATTERMOST=standin", cache.display()
    )]
    Unreachable {
        address: String,
        reason: String,
        cache: PathBuf,
    },
    #[error("image/release.toml is wrong: {problem}; nothing was built; restore the file")]
    BadPin { problem: String },
}

pub fn prepare(project: &Project, wanted: &Wanted, stage: &Stage<'_>) -> Result<Prepared> {
    let (pin, _) = pin::read(&project.image_sources().join("release.toml"))?;
    let sha256 = checked_sum(wanted)?;
    if let Some(file) = &wanted.tarball {
        return given(project, &pin, wanted.choice, file, sha256.as_deref());
    }
    match wanted.choice {
        Choice::Standin => standin(project, None),
        Choice::Official => official(project, &pin, stage),
        Choice::Auto => match official(project, &pin, stage) {
            Err(Error::Release(ReleaseError::Unreachable {
                address, reason, ..
            })) => standin(project, Some(format!("{address}: {reason}"))),
            other => other,
        },
    }
}

/// What updates need to know of this version of the product.
pub fn update(project: &Project) -> Result<Update> {
    Ok(pin::read(&project.image_sources().join("release.toml"))?.1)
}

fn checked_sum(wanted: &Wanted) -> Result<Option<String>> {
    let Some(sum) = wanted.sha256.as_deref().filter(|sum| !sum.is_empty()) else {
        return Ok(None);
    };
    let sum = sum.trim().to_ascii_lowercase();
    let right = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right && wanted.tarball.is_some() {
        Ok(Some(sum))
    } else {
        Err(ReleaseError::BadChecksum.into())
    }
}

/// A tarball that the user names: never moved, never changed.
fn given(
    project: &Project,
    pin: &Pin,
    choice: Choice,
    file: &Path,
    sum: Option<&str>,
) -> Result<Prepared> {
    let unreadable = |error: &dyn std::fmt::Display| ReleaseError::Unreadable {
        file: file.to_owned(),
        reason: error.to_string(),
    };
    let data = fs::metadata(file).map_err(|error| unreadable(&error))?;
    if !data.is_file() {
        return Err(unreadable(&"it is not a file").into());
    }
    let found = digest::of_file(file)?;
    match sum {
        Some(expected) if expected != found => {
            return Err(ReleaseError::WrongChecksum {
                file: file.to_owned(),
                expected: expected.to_owned(),
                found,
                kept: file.to_owned(),
            }
            .into());
        }
        None if pin.sha256 != found => {
            return Err(ReleaseError::NeedsChecksum {
                file: file.to_owned(),
                version: pin.version.clone(),
                pinned: pin.sha256.clone(),
                found,
            }
            .into());
        }
        _ => {}
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let prepared = unpacked(project, file, &found, name.into_owned(), None)?;
    let (found, asked) = match (prepared.about.kind, choice) {
        (Kind::Standin, Choice::Official) => ("stand-in", "official"),
        (Kind::Official, Choice::Standin) => ("official release", "standin"),
        _ => return Ok(prepared),
    };
    Err(ReleaseError::OtherKind {
        file: file.to_owned(),
        found,
        asked,
    }
    .into())
}

fn official(project: &Project, pin: &Pin, stage: &Stage<'_>) -> Result<Prepared> {
    let cache = project.releases();
    fs::create_dir_all(&cache).during("create folder", &cache)?;
    let file = cache.join(pin.file_name());
    if !file.exists() {
        stage.say("downloading the official Mattermost release");
        download::fetch(&pin.address, &file, stage).map_err(|reason| {
            ReleaseError::Unreachable {
                address: pin.address.clone(),
                reason,
                cache: cache.clone(),
            }
        })?;
    }
    stage.say("checking the release");
    verify_in_cache(&file, &pin.sha256)?;
    unpacked(project, &file, &pin.sha256, pin.address.clone(), None)
}

/// A wrong file in the cache is put aside, so that the next build gets it again.
fn verify_in_cache(file: &Path, expected: &str) -> Result<()> {
    let found = digest::of_file(file)?;
    if found == expected {
        return Ok(());
    }
    let mut kept = file.as_os_str().to_owned();
    kept.push(".wrong");
    let kept = PathBuf::from(kept);
    fs::rename(file, &kept).during("put aside", file)?;
    Err(ReleaseError::WrongChecksum {
        file: file.to_owned(),
        expected: expected.to_owned(),
        found,
        kept,
    }
    .into())
}

/// The stand-in's tarball, made anew only when its programs changed, goes the way of any other.
fn standin(project: &Project, fallback: Option<String>) -> Result<Prepared> {
    let maker = programs::path(project, &programs::STANDIN_RELEASE);
    let folder = project.build().join("standin");
    fs::create_dir_all(&folder).during("create folder", &folder)?;
    let file = folder.join("mattermost-standin.tar.gz");
    let stamp = folder.join("inputs");
    let mut inputs = digest::Inputs::default();
    for program in programs::STANDIN_PARTS {
        let path = maker.with_file_name(program);
        inputs.path(program, &path)?;
    }
    let inputs = inputs.finish();
    let same = fs::read_to_string(&stamp).is_ok_and(|text| text == inputs);
    if !same || !file.exists() {
        let new = Project::temporary_beside(&file);
        process::run(
            "making the stand-in's release",
            Command::new(&maker)
                .arg("--bin-dir")
                .arg(maker.parent().unwrap_or(Path::new(".")))
                .arg("--out")
                .arg(&new),
            &project.logs().join("standin-release.log"),
        )?;
        fs::rename(&new, &file).during("rename into place", &file)?;
        atalaya_sys::durable::write(&stamp, inputs.as_bytes(), 0o644, None)?;
    }
    let sum = digest::of_file(&file)?;
    unpacked(
        project,
        &file,
        &sum,
        "tests/standin of this project".to_owned(),
        fallback,
    )
}

fn unpacked(
    project: &Project,
    file: &Path,
    sum: &str,
    source: String,
    fallback: Option<String>,
) -> Result<Prepared> {
    let releases = project.build().join("releases");
    let place = releases.join(sum);
    if !place.exists() {
        // Only what is in use is kept: an unpacked official release is large.
        if releases.exists() {
            fs::remove_dir_all(&releases).during("remove", &releases)?;
        }
        let work = releases.join("new");
        fs::create_dir_all(&work).during("create folder", &work)?;
        tarball::unpack(file, &work)?;
        fs::rename(&work, &place).during("rename into place", &place)?;
    }
    let tree = place.join(tarball::TOP);
    let about = tarball::assess(file, &tree)?;
    Ok(Prepared {
        about: Mattermost {
            version: about.version,
            kind: about.kind,
            source,
            sha256: sum.to_owned(),
            schema: about.schema,
        },
        tree,
        fallback,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::tarball::made_up;

    fn project(folder: &Path) -> Project {
        Project::new(folder.to_owned(), None)
    }

    const PIN: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

    fn pin() -> Pin {
        Pin {
            version: "1.2.3".to_owned(),
            address: "https://releases.example/x.tar.gz".to_owned(),
            sha256: PIN.to_owned(),
        }
    }

    #[test]
    fn another_release_without_its_sum_is_refused_with_both_sums() {
        let work = tempfile::tempdir().unwrap();
        let file = made_up::release(work.path(), "9.9.9", false);
        let text = given(&project(work.path()), &pin(), Choice::Auto, &file, None)
            .err()
            .unwrap()
            .to_string();
        assert!(
            text.contains(PIN) && text.contains("MATTERMOST_SHA256="),
            "{text}"
        );
        assert!(text.contains(&digest::of_file(&file).unwrap()));
        assert!(file.exists());
    }

    #[test]
    fn a_wrong_sum_shows_both_and_leaves_the_users_file() {
        let work = tempfile::tempdir().unwrap();
        let file = made_up::release(work.path(), "9.9.9", false);
        let text = given(
            &project(work.path()),
            &pin(),
            Choice::Auto,
            &file,
            Some(PIN),
        )
        .err()
        .unwrap()
        .to_string();
        assert!(
            text.contains("expected") && text.contains("found"),
            "{text}"
        );
        assert!(file.exists());
    }

    #[test]
    fn another_release_with_its_sum_is_taken_and_tells_its_version() {
        let work = tempfile::tempdir().unwrap();
        let file = made_up::release(work.path(), "9.9.9", false);
        let sum = digest::of_file(&file).unwrap();
        let prepared = given(
            &project(work.path()),
            &pin(),
            Choice::Auto,
            &file,
            Some(&sum),
        )
        .unwrap();
        assert_eq!(prepared.about.version, "9.9.9");
        assert_eq!(prepared.about.kind, Kind::Official);
        assert_eq!(prepared.about.sha256, sum);
    }

    #[test]
    fn the_stand_ins_mark_decides_what_a_tarball_is() {
        let work = tempfile::tempdir().unwrap();
        let file = made_up::release(work.path(), "9.9.9", true);
        let sum = digest::of_file(&file).unwrap();
        let project = project(work.path());
        let prepared = given(&project, &pin(), Choice::Auto, &file, Some(&sum)).unwrap();
        assert_eq!(prepared.about.kind, Kind::Standin);
        let text = given(&project, &pin(), Choice::Official, &file, Some(&sum))
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains("MATTERMOST=official was asked for"), "{text}");
    }

    #[test]
    fn a_missing_tarball_and_a_folder_are_refused() {
        let work = tempfile::tempdir().unwrap();
        for file in [work.path().join("none"), work.path().to_owned()] {
            let text = given(&project(work.path()), &pin(), Choice::Auto, &file, None)
                .err()
                .unwrap()
                .to_string();
            assert!(text.contains("cannot be read"), "{text}");
        }
    }

    #[test]
    fn a_wrong_file_in_the_cache_is_put_aside() {
        let work = tempfile::tempdir().unwrap();
        let file = made_up::release(work.path(), "9.9.9", false);
        let text = verify_in_cache(&file, PIN).err().unwrap().to_string();
        assert!(text.contains(".wrong"), "{text}");
        assert!(!file.exists());
        assert!(work.path().join("release.tar.gz.wrong").exists());
    }

    #[test]
    fn a_sum_must_be_whole_and_have_a_tarball() {
        let wanted = |sum: &str, tarball: Option<&str>| Wanted {
            choice: Choice::Auto,
            tarball: tarball.map(PathBuf::from),
            sha256: Some(sum.to_owned()),
        };
        assert!(checked_sum(&wanted("abc", Some("x"))).is_err());
        assert!(checked_sum(&wanted(PIN, None)).is_err());
        assert!(
            checked_sum(&wanted(&PIN.to_uppercase(), Some("x")))
                .unwrap()
                .is_some()
        );
        assert!(checked_sum(&wanted("", None)).unwrap().is_none());
    }
}

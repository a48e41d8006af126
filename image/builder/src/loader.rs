//! systemd-boot: taken from the newest Debian, because older ones stay in the firmware's shell when an entry does not load.
//! Decides whether a loader is good enough; only that one file leaves the package.

use crate::error::{IoContext, Result};
use crate::mirrors::Mirrors;
use crate::project::Project;
use crate::{digest, process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first version that reboots by itself after an entry that does not load (`reboot-on-error`).
const OLDEST: u32 = 262;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoaderError {
    #[error(
        "Debian's newest systemd-boot is {found}, but {OLDEST} or later is needed, which reboots when an update does not load; nothing was built; use a mirror that carries Debian forky or later (--mirror)"
    )]
    TooOld { found: String },
    #[error(
        "systemd-boot {found} does not know `reboot-on-error`, so a broken update would leave the machine in its firmware; nothing was built; use another mirror (--mirror)"
    )]
    NoRebootOnError { found: String },
    #[error(
        "the mirror's systemd-boot package holds no loader; nothing was built; use another mirror (--mirror)"
    )]
    NotThere,
}

#[derive(Debug, Clone)]
pub struct Loader {
    pub path: PathBuf,
    pub version: String,
    pub sha256: String,
}

/// The loader in the cache, downloaded when it is not there yet.
pub fn prepare(project: &Project, mirrors: &Mirrors) -> Result<Loader> {
    let folder = project.loader();
    let path = folder.join("systemd-bootx64.efi");
    if !path.exists() {
        download(project, mirrors, &folder)?;
    }
    let bytes = fs::read(&path).during("read", &path)?;
    let version = assess(&bytes)?;
    Ok(Loader {
        sha256: digest::of_file(&path)?,
        path,
        version,
    })
}

/// Gives the version of a loader that is good enough.
fn assess(bytes: &[u8]) -> std::result::Result<String, LoaderError> {
    const MARK: &[u8] = b"#### LoaderInfo: systemd-boot ";
    let at = find(bytes, MARK).ok_or(LoaderError::NotThere)?;
    let version: String = bytes
        .iter()
        .skip(at + MARK.len())
        .take_while(|byte| byte.is_ascii_graphic())
        .map(|byte| char::from(*byte))
        .collect();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    if digits.parse::<u32>().unwrap_or(0) < OLDEST {
        return Err(LoaderError::TooOld { found: version });
    }
    if find(bytes, b"reboot-on-error").is_none() {
        return Err(LoaderError::NoRebootOnError { found: version });
    }
    Ok(version)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// Uses apt with a state of its own, so that the machine's apt is not touched and signatures are checked all the same.
fn download(project: &Project, mirrors: &Mirrors, folder: &Path) -> Result<()> {
    let work = Project::temporary_beside(folder);
    if work.exists() {
        fs::remove_dir_all(&work).during("remove", &work)?;
    }
    for part in ["lists/partial", "cache/archives/partial"] {
        let part = work.join(part);
        fs::create_dir_all(&part).during("create folder", &part)?;
    }
    let keyring = project
        .tools()
        .join("usr/share/keyrings/debian-archive-keyring.gpg");
    let sources = format!(
        "Types: deb\nURIs: {}\nSuites: forky\nComponents: main\nArchitectures: amd64\nSigned-By: {}\n",
        mirrors.main,
        keyring.display()
    );
    atalaya_sys::durable::write(
        &work.join("loader.sources"),
        sources.as_bytes(),
        0o644,
        None,
    )?;
    atalaya_sys::durable::write(&work.join("status"), b"", 0o644, None)?;
    let options = |command: &mut Command| {
        let at = |name: &str| work.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", at("loader.sources")),
            "Dir::Etc::sourceparts=/nonexistent".to_owned(),
            format!("Dir::State={}", work.display()),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.current_dir(&work);
    };
    let mut update = Command::new("apt-get");
    options(&mut update);
    process::run(
        "reading the package list of the boot loader",
        update.arg("update").arg("--error-on=any"),
        &project.logs().join("loader-update.log"),
    )?;
    let mut fetch = Command::new("apt-get");
    options(&mut fetch);
    process::run(
        "downloading the boot loader",
        fetch.arg("download").arg("systemd-boot-efi"),
        &project.logs().join("loader-download.log"),
    )?;
    let package = fs::read_dir(&work)
        .during("list", &work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|name| name == "deb"))
        .ok_or(LoaderError::NotThere)?;
    process::run(
        "unpacking the boot loader",
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&package)
            .arg(work.join("tree")),
        &project.logs().join("loader-unpack.log"),
    )?;
    let file = work.join("tree/usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    let bytes = fs::read(&file).map_err(|_| LoaderError::NotThere)?;
    assess(&bytes)?;
    fs::create_dir_all(folder).during("create folder", folder)?;
    let copyright =
        fs::read(work.join("tree/usr/share/doc/systemd-boot-efi/copyright")).unwrap_or_default();
    atalaya_sys::durable::write(&folder.join("copyright"), &copyright, 0o644, None)?;
    atalaya_sys::durable::write(&folder.join("systemd-bootx64.efi"), &bytes, 0o644, None)?;
    fs::remove_dir_all(&work).during("remove", &work)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loader(version: &str, setting: &str) -> Vec<u8> {
        format!("MZ..#### LoaderInfo: systemd-boot {version} ####\0..{setting}").into_bytes()
    }

    #[test]
    fn a_new_enough_loader_gives_its_version() {
        assert_eq!(
            assess(&loader("262.1-1", "reboot-on-error")),
            Ok("262.1-1".into())
        );
    }

    #[test]
    fn an_old_loader_is_refused() {
        assert_eq!(
            assess(&loader("257.9-1", "reboot-on-error")),
            Err(LoaderError::TooOld {
                found: "257.9-1".into()
            })
        );
    }

    #[test]
    fn a_loader_without_the_setting_is_refused() {
        assert!(matches!(
            assess(&loader("263", "")),
            Err(LoaderError::NoRebootOnError { .. })
        ));
        assert_eq!(assess(b"MZ"), Err(LoaderError::NotThere));
    }
}

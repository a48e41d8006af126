//! Unpacks a release and checks that it is one. Nothing is written outside the folder given, whatever the tarball says.

use super::{ReleaseError, schema};
use crate::error::{Error, IoContext, Result};
use crate::manifest::Kind;
use flate2::read::GzDecoder;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tar::EntryType;

/// The one folder at the top of a release's tarball.
pub const TOP: &str = "mattermost";
/// Only the stand-in has this file.
const STANDIN_MARK: &str = "STANDIN";

const PROGRAMS: [&str; 2] = ["bin/mattermost", "bin/mmctl"];
const FOLDERS: [&str; 4] = ["i18n", "templates", "fonts", "client"];
/// How long `mattermost version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct About {
    pub version: String,
    pub kind: Kind,
    /// The highest migration that it brings.
    pub schema: Option<u64>,
}

/// Unpacks `file` into the empty folder `place`.
pub fn unpack(file: &Path, place: &Path) -> Result<()> {
    let reader = BufReader::new(File::open(file).during("open", file)?);
    let mut archive = tar::Archive::new(GzDecoder::new(reader));
    let broken = |error: std::io::Error| -> Error {
        ReleaseError::NotRelease {
            file: file.to_owned(),
            problem: format!("it is damaged or no gzipped tar ({error})"),
        }
        .into()
    };
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let link = entry.link_name().map_err(broken)?.map(PathBuf::from);
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            continue;
        }
        check_entry(file, &path, kind, link.as_deref())?;
        let done = entry.unpack_in(place).map_err(broken)?;
        if !done {
            return Err(outside(file, &path));
        }
    }
    // gzip's own checksum stands behind the last entry.
    let mut rest = Vec::new();
    archive
        .into_inner()
        .take(1 << 20)
        .read_to_end(&mut rest)
        .map_err(broken)?;
    Ok(())
}

fn check_entry(file: &Path, path: &Path, kind: EntryType, link: Option<&Path>) -> Result<()> {
    if !is_inside(path) {
        return Err(outside(file, path));
    }
    let first = path
        .components()
        .find(|part| *part != Component::CurDir)
        .map(|part| part.as_os_str().to_owned());
    if first.as_deref().is_some_and(|name| name != TOP) {
        return Err(ReleaseError::NotRelease {
            file: file.to_owned(),
            problem: format!("{} is not in a folder {TOP}/", path.display()),
        }
        .into());
    }
    match kind {
        EntryType::Regular
        | EntryType::Directory
        | EntryType::Continuous
        | EntryType::GNUSparse => Ok(()),
        EntryType::Symlink | EntryType::Link => {
            let target = link.unwrap_or(Path::new(""));
            // A hard link's target counts from the top, a symbolic one's from where it lies.
            let from = match kind {
                EntryType::Symlink => path.parent().unwrap_or(Path::new("")).join(target),
                _ => target.to_owned(),
            };
            if target.is_absolute() || !stays_in_top(&from) {
                let both = format!("{} -> {}", path.display(), target.display());
                return Err(outside(file, Path::new(&both)));
            }
            Ok(())
        }
        _ => Err(ReleaseError::NotRelease {
            file: file.to_owned(),
            problem: format!("{} is neither a file, a folder nor a link", path.display()),
        }
        .into()),
    }
}

fn outside(file: &Path, entry: &Path) -> Error {
    ReleaseError::Outside {
        file: file.to_owned(),
        entry: entry.display().to_string(),
    }
    .into()
}

fn is_inside(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Whether a relative path with `..` in it never leaves the release's top folder.
fn stays_in_top(path: &Path) -> bool {
    let mut depth = 0_i32;
    for part in path.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => {
                depth -= 1;
                if depth < 1 {
                    return false;
                }
            }
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    depth > 0
}

/// Checks the layout of an unpacked release and asks it for its version.
pub fn assess(file: &Path, tree: &Path) -> Result<About> {
    let wrong = |problem: String| -> Error {
        ReleaseError::NotRelease {
            file: file.to_owned(),
            problem,
        }
        .into()
    };
    for program in PROGRAMS {
        let executable = fs::symlink_metadata(tree.join(program))
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0);
        if !executable {
            return Err(wrong(format!("it has no program {program}")));
        }
    }
    for folder in FOLDERS {
        if !fs::symlink_metadata(tree.join(folder)).is_ok_and(|data| data.is_dir()) {
            return Err(wrong(format!("it has no folder {folder}")));
        }
    }
    let text =
        ask_version(tree).map_err(|reason| wrong(format!("`bin/mattermost version` {reason}")))?;
    let version = parse_version(&text)
        .ok_or_else(|| wrong("`bin/mattermost version` names no version".to_owned()))?;
    let kind = if tree.join(STANDIN_MARK).exists() {
        Kind::Standin
    } else {
        Kind::Official
    };
    let schema = match kind {
        Kind::Standin => schema::said(&tree.join(STANDIN_MARK)),
        Kind::Official => schema::embedded(&tree.join(PROGRAMS[0]))?,
    };
    Ok(About {
        version,
        kind,
        schema,
    })
}

/// Runs the program with an empty environment, so that nothing of this machine reaches it.
fn ask_version(tree: &Path) -> std::result::Result<String, String> {
    let begun = Instant::now();
    let mut child = loop {
        let started = Command::new(tree.join("bin/mattermost"))
            .arg("version")
            .current_dir(tree)
            .env_clear()
            .env("HOME", "/nonexistent")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => break child,
            // Another thread's fork can hold the file that was just written, until its exec.
            Err(error)
                if error.kind() == std::io::ErrorKind::ExecutableFileBusy
                    && begun.elapsed() < VERSION_LIMIT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(format!("does not start ({error})")),
        }
    };
    let mut output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.as_mut().map(|pipe| pipe.read_to_string(&mut text));
        text
    });
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() > VERSION_LIMIT => {
                child.kill().ok();
                child.wait().ok();
                return Err("does not end".to_owned());
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(format!("cannot be waited for ({error})")),
        }
    };
    let text = reader.join().unwrap_or_default();
    if status.success() {
        Ok(text)
    } else {
        Err(format!("fails ({status})"))
    }
}

fn parse_version(text: &str) -> Option<String> {
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Version:"))?
        .trim();
    let sound = !version.is_empty()
        && version.len() < 40
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c));
    sound.then(|| version.to_owned())
}

#[cfg(test)]
pub mod made_up {
    //! Tarballs for tests.

    use flate2::{Compression, write::GzEncoder};
    use std::fs::File;
    use std::path::{Path, PathBuf};

    pub struct Maker(tar::Builder<GzEncoder<File>>);

    impl Maker {
        pub fn new(file: &Path) -> Self {
            let file = File::create(file).unwrap();
            Self(tar::Builder::new(GzEncoder::new(file, Compression::fast())))
        }

        pub fn entry(
            &mut self,
            path: &str,
            kind: tar::EntryType,
            link: &str,
            mode: u32,
            content: &str,
        ) {
            let mut header = tar::Header::new_gnu();
            // Written raw: the library would refuse the very paths that the tests are about.
            let name = &mut header.as_gnu_mut().unwrap().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            let target = &mut header.as_gnu_mut().unwrap().linkname;
            target[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(content.len() as u64);
            header.set_cksum();
            self.0.append(&header, content.as_bytes()).unwrap();
        }

        pub fn file(&mut self, path: &str, mode: u32, content: &str) {
            self.entry(path, tar::EntryType::Regular, "", mode, content);
        }

        pub fn finish(self) {
            self.0.into_inner().unwrap().finish().unwrap();
        }
    }

    pub fn release(folder: &Path, version: &str, standin: bool) -> PathBuf {
        let file = folder.join("release.tar.gz");
        let mut maker = Maker::new(&file);
        let script = format!("#!/bin/sh\necho 'Version: {version}'\necho 'Build Number: 1'\n");
        maker.file("mattermost/bin/mattermost", 0o755, &script);
        maker.file("mattermost/bin/mmctl", 0o755, "#!/bin/sh\n");
        for name in [
            "i18n/en.json",
            "templates/a.html",
            "fonts/a.ttf",
            "client/root.html",
        ] {
            maker.file(&format!("mattermost/{name}"), 0o644, "x");
        }
        if standin {
            maker.file("mattermost/STANDIN", 0o644, "");
        }
        maker.finish();
        file
    }
}

#[cfg(test)]
mod tests {
    use super::made_up::Maker;
    use super::*;

    fn refused(make: impl FnOnce(&mut Maker)) -> String {
        let work = tempfile::tempdir().unwrap();
        let file = work.path().join("t.tar.gz");
        let mut maker = Maker::new(&file);
        make(&mut maker);
        maker.finish();
        let place = work.path().join("place");
        fs::create_dir(&place).unwrap();
        let text = unpack(&file, &place).unwrap_err().to_string();
        assert!(!work.path().join("evil").exists());
        assert!(!Path::new("/tmp/atalaya-evil").exists());
        text
    }

    #[test]
    fn paths_outside_are_refused() {
        for path in ["../evil", "mattermost/../../evil", "/tmp/atalaya-evil"] {
            let text = refused(|maker| maker.file(path, 0o644, "x"));
            assert!(text.contains("would write outside"), "{text}");
        }
    }

    #[test]
    fn links_outside_are_refused() {
        for (kind, target) in [
            (EntryType::Symlink, "/etc/passwd"),
            (EntryType::Symlink, "../../evil"),
            (EntryType::Symlink, "../x/../../evil"),
            (EntryType::Link, "../evil"),
            (EntryType::Link, "/etc/passwd"),
        ] {
            let text = refused(|maker| maker.entry("mattermost/a", kind, target, 0o777, ""));
            assert!(text.contains("would write outside"), "{target}: {text}");
        }
    }

    #[test]
    fn links_inside_are_taken() {
        assert!(stays_in_top(Path::new("mattermost/bin/../client/a")));
        assert!(!stays_in_top(Path::new("mattermost/..")));
        assert!(!stays_in_top(Path::new("mattermost/../mattermost/a")));
    }

    #[test]
    fn devices_and_a_second_top_folder_are_refused() {
        let text = refused(|maker| maker.entry("mattermost/null", EntryType::Char, "", 0o666, ""));
        assert!(text.contains("neither a file"), "{text}");
        let text = refused(|maker| maker.file("other/a", 0o644, "x"));
        assert!(text.contains("is not in a folder mattermost/"), "{text}");
    }

    #[test]
    fn a_file_that_is_no_tarball_and_one_cut_short_are_refused() {
        let work = tempfile::tempdir().unwrap();
        let file = made_up::release(work.path(), "1", false);
        let whole = fs::read(&file).unwrap();
        for bytes in [
            &b"<html>not found</html>"[..],
            &whole[..whole.len() - 20],
            &[],
        ] {
            let part = work.path().join("part");
            std::io::Write::write_all(&mut File::create(&part).unwrap(), bytes).unwrap();
            let place = tempfile::tempdir().unwrap();
            let outcome = unpack(&part, place.path())
                .and_then(|()| assess(&part, &place.path().join(TOP)).map(drop));
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains("is not a Mattermost release"), "{text}");
        }
    }

    #[test]
    fn a_part_that_is_missing_is_named() {
        let work = tempfile::tempdir().unwrap();
        let file = made_up::release(work.path(), "1", false);
        unpack(&file, work.path()).unwrap();
        let tree = work.path().join(TOP);
        assert!(assess(&file, &tree).is_ok());
        fs::remove_dir_all(tree.join("client")).unwrap();
        let text = assess(&file, &tree).unwrap_err().to_string();
        assert!(text.contains("it has no folder client"), "{text}");
        fs::remove_file(tree.join("bin/mmctl")).unwrap();
        let text = assess(&file, &tree).unwrap_err().to_string();
        assert!(text.contains("it has no program bin/mmctl"), "{text}");
    }

    #[test]
    fn only_a_plain_version_is_taken() {
        assert_eq!(parse_version("x\nVersion: 11.7.9\n"), Some("11.7.9".into()));
        assert_eq!(parse_version("Version: $(reboot)"), None);
        assert_eq!(parse_version("Version:"), None);
        assert_eq!(parse_version("11.7.9"), None);
    }
}

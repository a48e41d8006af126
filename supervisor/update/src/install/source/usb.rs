//! A bundle on a stick or another medium with our label. It is mounted read-only in this unit's own mount namespace, and out of sight again as
//! soon as the file is open.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use atalaya_sys::medium::{self, UPDATE};
use atalaya_sys::mounts;
use nix::fcntl::OFlag;

/// A bundle's file name ends so.
const EXTENSION: &str = "bundle";

/// Opens the one bundle on the medium, which is mounted on `target` for a moment.
///
/// # Errors
/// There is no medium, it cannot be mounted, or there is not exactly one bundle on it.
pub(super) fn open(target: &Path) -> io::Result<File> {
    let (classes, devices) = (Path::new("/sys/class/block"), Path::new("/dev"));
    let (device, kind) = medium::find(classes, devices, &UPDATE).ok_or_else(|| {
        let text = format!("no medium is labelled {}", UPDATE.whole);
        io::Error::new(io::ErrorKind::NotFound, text)
    })?;
    fs::create_dir_all(target)?;
    let chain = |error: atalaya_sys::Error| io::Error::new(error.source.kind(), error.chain());
    medium::mount_read_only(&device, kind, target).map_err(chain)?;
    let file = bundle_in(target);
    mounts::detach(target).map_err(chain)?;
    file
}

fn bundle_in(directory: &Path) -> io::Result<File> {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let mut found: Vec<OsString> = fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| is_bundle(Path::new(name)))
        .collect();
    found.sort();
    let name = match found.as_slice() {
        [name] => name,
        [] => {
            let text = "no file in the medium's top directory ends in .bundle";
            return Err(wrong(text.to_owned()));
        }
        some => {
            let text = format!("several bundles are on the medium, leave one there: {some:?}");
            return Err(wrong(text));
        }
    };
    // A link could lead anywhere.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(directory.join(name))?;
    if !file.metadata()?.is_file() {
        return Err(wrong(format!("{} is no file", name.display())));
    }
    Ok(file)
}

/// macOS leaves `._NAME` beside each file; who writes FAT may change the case.
fn is_bundle(name: &Path) -> bool {
    let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let extension = name.extension();
    !hidden && extension.is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn the_one_bundle_is_found_whatever_else_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let lay = |name: &str| {
            let mut file = File::create(folder.path().join(name)).unwrap();
            file.write_all(name.as_bytes()).unwrap();
        };
        for name in ["readme.txt", "._a.bundle", "bundle"] {
            lay(name);
        }
        let error = bundle_in(folder.path()).unwrap_err().to_string();
        assert!(error.contains("ends in .bundle"), "{error}");
        lay("A.BUNDLE");
        let mut text = String::new();
        bundle_in(folder.path())
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "A.BUNDLE");
        lay("b.bundle");
        let error = bundle_in(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("A.BUNDLE") && error.contains("b.bundle"),
            "{error}"
        );
    }

    #[test]
    fn a_link_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("a.bundle")).unwrap();
        assert!(bundle_in(folder.path()).is_err());
    }
}

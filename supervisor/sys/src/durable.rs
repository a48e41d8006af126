//! The one way in which this project writes a file that has to survive a power cut.

use crate::{Context, Result};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Replaces `path` by a file with exactly `bytes`, `mode` and `owner` (uid, gid; `None`: the caller's).
///
/// After a power cut the file is either the old one or the new one, complete. A reader never sees a half-written file,
/// nor the right content with the wrong mode. The directory must exist.
///
/// # Errors
/// Any step that fails; `path` is then untouched and the temporary file is gone.
pub fn write(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> Result<()> {
    let temporary = temporary_beside(path);
    let outcome = write_temporary(&temporary, bytes, mode, owner).and_then(|()| {
        std::fs::rename(&temporary, path).context("rename into place", path.display())
    });
    if let Err(error) = outcome {
        // The first error is the one worth telling; a leftover temporary file harms nothing.
        drop(std::fs::remove_file(&temporary));
        return Err(error);
    }
    sync_directory(parent(path))
}

/// Makes a rename, creation or removal in `directory` survive a power cut.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|handle| handle.sync_all())
        .context("sync directory", directory.display())
}

/// Removes `path` durably; that it was not there is no error.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.context("remove", path.display())?,
    }
    sync_directory(parent(path))
}

fn write_temporary(
    temporary: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let name = temporary.display();
    // Created without any permission for others: the content may be secret before mode and owner are set.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)
        .context("create", &name)?;
    file.write_all(bytes).context("write", &name)?;
    if let Some((uid, gid)) = owner {
        fchown(&file, Some(uid), Some(gid)).context("change the owner of", &name)?;
    }
    file.set_permissions(PermissionsExt::from_mode(mode))
        .context("change the mode of", &name)?;
    file.sync_all().context("sync", &name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}.{count}.new", std::process::id()));
    parent(path).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn content_mode_and_owner_are_exact_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write(&path, b"one", 0o644, None).unwrap();
        write(&path, b"two", 0o400, Some((12, 34))).unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(metadata.mode() & 0o7777, 0o400);
        assert_eq!((metadata.uid(), metadata.gid()), (12, 34));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_target_and_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        let error = write(&path, b"x", 0o644, None).unwrap_err();
        assert_eq!(error.operation, "rename into place");
        assert!(path.is_dir());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        remove(&folder.path().join("absent")).unwrap();
    }
}

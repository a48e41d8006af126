//! A secret key's file: made once, for its owner only, never overwritten.

use super::KeysError;
use crate::error::{Error, IoContext, Result};
use crate::project::Project;
use atalaya_bundle::keys::SigningKey;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const DEVELOPMENT: &str = "development.key";

/// Whether there is a development key.
pub fn exists(folder: &Path) -> bool {
    folder.join(DEVELOPMENT).exists()
}

/// Makes a key and writes it to `path`, where nothing may be yet.
pub fn make(path: &Path) -> Result<SigningKey> {
    let random = Path::new("/dev/urandom");
    let mut seed = [0; 32];
    File::open(random)
        .and_then(|mut file| file.read_exact(&mut seed))
        .during("read", random)?;
    let key = SigningKey::from_seed(&seed);
    // Whole or not at all, and never over another: a link does not replace.
    let new = Project::temporary_beside(path);
    atalaya_sys::durable::write(&new, key.to_file().as_bytes(), 0o600, None)?;
    let linked = fs::hard_link(&new, path);
    atalaya_sys::durable::remove(&new)?;
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(KeysError::Exists(path.to_owned()).into())
        }
        other => other.during("write", path).map(|()| key),
    }
}

pub fn read(path: &Path) -> Result<SigningKey> {
    let unusable = |problem: &str, next| -> Error {
        KeysError::Unusable {
            path: path.to_owned(),
            problem: problem.to_owned(),
            next,
        }
        .into()
    };
    let text = fs::read_to_string(path).during("read", path)?;
    let key = SigningKey::from_file(&text).ok_or_else(|| {
        unusable(
            "is no secret key",
            "give the file that `keys new` wrote, not the one that ends in .pub",
        )
    })?;
    let mode = fs::metadata(path).during("look at", path)?.mode();
    if mode & 0o077 != 0 {
        return Err(unusable(
            "can be read by others on this machine",
            "chmod 600 it, and think about who may have seen it",
        ));
    }
    Ok(key)
}

/// The development key, made when it is asked for first.
pub fn of_this_machine(folder: &Path) -> Result<SigningKey> {
    let path = folder.join(DEVELOPMENT);
    if path.exists() {
        return read(&path);
    }
    fs::create_dir_all(folder).during("create folder", folder)?;
    match make(&path) {
        // Another build was faster.
        Err(Error::Keys(KeysError::Exists(_))) => read(&path),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_for_its_owner_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let made = make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(make(&path).is_err());
        assert_eq!(read(&path).unwrap().public(), made.public());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let text = read(&path).err().unwrap().to_string();
        assert!(text.contains("read by others"), "{text}");
    }
}

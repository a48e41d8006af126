//! The unit's secrets: read while the helper is root, shown to the unit's user alone, in memory that no other mount
//! namespace has. They never pass through an argument, the environment or a disk.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use atalaya_sys::mounts::{self, Flags};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use serde::{Deserialize, Serialize};

use super::{Failure, Spec, Stage};

/// A secret is a key or a password, not a database. Bytes.
const LIMIT: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// $CREDENTIALS_DIRECTORY; an empty directory of the machine, on which it is mounted.
    pub directory: String,
    /// Name below it, and where it comes from.
    pub files: Vec<(String, String)>,
}

/// A secret on its way. Never printed.
pub(super) struct Secret {
    name: String,
    content: Vec<u8>,
}

/// To be called while everything can still be seen.
pub(super) fn read(spec: &Spec) -> Result<Vec<Secret>, Failure> {
    let files = spec.credentials.iter().flat_map(|given| &given.files);
    files
        .map(|(name, source)| {
            let content = read_one(source)
                .map_err(|error| Stage::Credentials.fail(&format!("read {source}"), error))?;
            let name = name.clone();
            Ok(Secret { name, content })
        })
        .collect()
}

/// No link is followed: where another unit may write, it could lead to what only root may read.
fn read_one(source: &str) -> std::io::Result<Vec<u8>> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file = File::from(openat2(AT_FDCWD, source, how)?);
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut content = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LIMIT {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(content)
}

/// Mounts the directory and puts them into it, 0400 and the unit's user's; then nobody writes there any more.
pub(super) fn show(spec: &Spec, secrets: &[Secret]) -> Result<(), Failure> {
    let Some(given) = &spec.credentials else {
        return Ok(());
    };
    let fail = |error: atalaya_sys::Error| {
        Stage::Credentials.fail("make the directory of credentials", error.chain())
    };
    let directory = Path::new(&given.directory);
    let flags = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    let options = format!(
        "mode=0500,uid={},gid={},size=4m,nr_inodes=128",
        spec.uid, spec.gid
    );
    // Linux 6.4 has noswap; before it an appliance without swap is no worse.
    mounts::tmpfs(directory, flags, &format!("{options},noswap"))
        .or_else(|_| mounts::tmpfs(directory, flags, &options))
        .map_err(fail)?;
    for Secret { name, content } in secrets {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(directory.join(name))
            .and_then(|mut file| {
                file.write_all(content)?;
                fchown(&file, Some(spec.uid), Some(spec.gid))
            })
            .map_err(|error| Stage::Credentials.fail(&format!("write {name}"), error))?;
    }
    mounts::remount_bind(directory, flags | Flags::MS_RDONLY).map_err(fail)
}

//! Directories by their descriptors: whoever owns a part of the tree cannot lead a walk out of it by a link, whenever he sets one. Lists and
//! removes; decides nothing.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::path::Path;

use atalaya_sys::{Context, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Directories in one another. Deeper ones are refused: each takes some descriptors.
pub const DEEPEST: usize = 1000;

/// Where a walk is; nothing is put together before somebody reads it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    above: Option<&'a Place<'a>>,
    name: &'a CStr,
    pub depth: usize,
}

impl<'a> Place<'a> {
    pub fn top(name: &'a CStr) -> Self {
        Self {
            above: None,
            name,
            depth: 0,
        }
    }

    pub fn below(&'a self, name: &'a CStr) -> Place<'a> {
        Place {
            above: Some(self),
            name,
            depth: self.depth + 1,
        }
    }

    /// The way to it from the top, which is not named.
    pub fn relative(&self) -> CString {
        let mut bytes = match self.above {
            Some(above) if above.depth > 0 => {
                let mut bytes = above.relative().into_bytes();
                bytes.push(b'/');
                bytes
            }
            _ => Vec::new(),
        };
        if self.depth > 0 {
            bytes.extend_from_slice(self.name.to_bytes());
        }
        // Names have no NUL.
        CString::new(bytes).unwrap_or_default()
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}/")?;
        }
        f.write_str(&self.name.to_string_lossy())
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// One that is there and no link.
pub fn open_directory(above: &File, name: &CStr) -> nix::Result<File> {
    openat(above, name, DIRECTORY, Mode::empty()).map(File::from)
}

/// The one with which a walk begins.
pub fn open_top(path: &Path) -> Result<File> {
    openat(AT_FDCWD, path, DIRECTORY, Mode::empty())
        .map(File::from)
        .context("open", path.display())
}

/// Does something for each name in a directory.
pub fn each<E: From<atalaya_sys::Error>>(
    directory: &File,
    place: &Place<'_>,
    mut act: impl FnMut(&CStr) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    // One with a position of its own.
    let own = openat(directory, c".", DIRECTORY, Mode::empty()).context("open", place)?;
    let mut listing = Dir::from_fd(own).context("list", place)?;
    for entry in listing.iter() {
        let entry = entry.context("list", place)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            act(name)?;
        }
    }
    Ok(())
}

/// Removes a file, or a directory with all below it; that it was not there is no error. `gone` is told of each.
pub fn remove(above: &File, place: &Place<'_>, gone: &mut dyn FnMut()) -> Result<()> {
    match unlinkat(above, place.name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => {
            gone();
            return Ok(());
        }
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(error) => return Err(error).context("remove", place),
    }
    if place.depth > DEEPEST {
        return Err(Errno::ELOOP).context("remove what is nested too deep in", place);
    }
    let directory = open_directory(above, place.name).context("open", place)?;
    each(&directory, place, |name| {
        remove(&directory, &place.below(name), gone)
    })?;
    unlinkat(above, place.name, UnlinkatFlags::RemoveDir).context("remove", place)?;
    gone();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_is_removed_and_what_its_links_point_to_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir_all(path.join("tree/a/b")).unwrap();
        std::fs::create_dir(path.join("beside")).unwrap();
        File::create(path.join("beside/file")).unwrap();
        File::create(path.join("tree/a/file")).unwrap();
        symlink("../beside", path.join("tree/link")).unwrap();
        symlink("/nowhere", path.join("tree/a/b/link")).unwrap();
        let top = open_top(path).unwrap();
        let mut count = 0;
        remove(&top, &Place::top(c"tree"), &mut || count += 1).unwrap();
        remove(&top, &Place::top(c"tree"), &mut || count += 1).unwrap();
        assert_eq!(count, 6);
        assert!(!path.join("tree").exists());
        assert!(path.join("beside/file").exists());
    }

    #[test]
    fn a_place_says_where_it_is() {
        let top = Place::top(c"/data/gen/1");
        let (below, name) = (top.below(c"mattermost"), c"files");
        assert_eq!(
            below.below(name).to_string(),
            "/data/gen/1/mattermost/files"
        );
        assert_eq!(below.below(name).relative().as_c_str(), c"mattermost/files");
        assert_eq!(top.relative().as_c_str(), c"");
    }

    #[test]
    fn a_link_is_no_directory() {
        let folder = tempfile::tempdir().unwrap();
        symlink("/", folder.path().join("link")).unwrap();
        let top = open_top(folder.path()).unwrap();
        assert!(open_directory(&top, c"link").is_err());
        assert!(open_top(&folder.path().join("link")).is_err());
    }
}

//! Writes the image's root as files on this machine. Whatever is taken belongs to root, without setuid bits and file
//! capabilities; times are set by mkosi.

use crate::error::{IoContext, Result};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The root under construction.
pub struct Tree {
    pub root: PathBuf,
}

/// How the mode of a file is decided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// As it is, without setuid, setgid and sticky bits.
    Kept,
    /// 0755 for folders and executables, 0644 for the rest: a checkout's umask must not show in the image.
    Plain,
}

impl Tree {
    pub fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).during("create folder", &root)?;
        fs::set_permissions(&root, Permissions::from_mode(0o755)).during("set mode of", &root)?;
        Ok(Self { root })
    }

    /// Where `path`, absolute in the image, lies on this machine.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Lays `source` over `place`. `takes` is asked for each path, absolute in the image.
    pub fn lay(
        &self,
        source: &Path,
        place: &str,
        modes: Modes,
        takes: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        let mut entries = fs::read_dir(source)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .during("list", source)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let inside = format!("{place}/{name}");
            let from = entry.path();
            if name == ".gitkeep" || !takes(&inside) {
                continue;
            }
            let data = fs::symlink_metadata(&from).during("look at", &from)?;
            let target = self.at(&inside);
            if data.is_symlink() {
                let link = fs::read_link(&from).during("read link", &from)?;
                self.remove(&target)?;
                symlink(&link, &target).during("create link", &target)?;
            } else if data.is_dir() {
                // A folder laid over a link to a folder (lib -> usr/lib) goes where the link leads.
                if !target.is_dir() {
                    fs::create_dir(&target).during("create folder", &target)?;
                }
                let mode = mode_of(data.permissions().mode(), modes, true);
                fs::set_permissions(&target, Permissions::from_mode(mode))
                    .during("set mode of", &target)?;
                self.lay(&from, &inside, modes, takes)?;
            } else if data.is_file() {
                self.remove(&target)?;
                fs::copy(&from, &target).during("copy", &from)?;
                let mode = mode_of(data.permissions().mode(), modes, false);
                fs::set_permissions(&target, Permissions::from_mode(mode))
                    .during("set mode of", &target)?;
            }
            // Devices, sockets and pipes have no place in an image.
        }
        Ok(())
    }

    pub fn file(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        use std::io::Write;
        let target = self.parent_of(path)?;
        self.remove(&target)?;
        File::create(&target)
            .and_then(|mut file| file.write_all(content))
            .during("write", &target)?;
        fs::set_permissions(&target, Permissions::from_mode(mode)).during("set mode of", &target)
    }

    pub fn copy(&self, from: &Path, path: &str, mode: u32) -> Result<()> {
        let target = self.parent_of(path)?;
        self.remove(&target)?;
        fs::copy(from, &target).during("copy", from)?;
        fs::set_permissions(&target, Permissions::from_mode(mode)).during("set mode of", &target)
    }

    pub fn link(&self, path: &str, to: &str) -> Result<()> {
        let target = self.parent_of(path)?;
        self.remove(&target)?;
        symlink(to, &target).during("create link", &target)
    }

    pub fn folder(&self, path: &str, mode: u32) -> Result<()> {
        let target = self.at(path);
        fs::create_dir_all(&target).during("create folder", &target)?;
        fs::set_permissions(&target, Permissions::from_mode(mode)).during("set mode of", &target)
    }

    fn parent_of(&self, path: &str) -> Result<PathBuf> {
        let target = self.at(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).during("create folder", parent)?;
        }
        Ok(target)
    }

    fn remove(&self, target: &Path) -> Result<()> {
        match fs::remove_file(target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).during("replace", target)
            }
            _ => Ok(()),
        }
    }
}

fn mode_of(mode: u32, modes: Modes, folder: bool) -> u32 {
    match modes {
        Modes::Kept => mode & 0o777,
        Modes::Plain if folder || mode & 0o111 != 0 => 0o755,
        Modes::Plain => 0o644,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn setuid_bits_are_never_taken_and_rules_are_asked() {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        write(&source.join("usr/bin/su"), 0o4755);
        write(&source.join("usr/bin/bash"), 0o755);
        let tree = Tree::new(work.path().join("root")).unwrap();
        tree.lay(&source, "", Modes::Kept, &|path| path != "/usr/bin/bash")
            .unwrap();
        assert_eq!(mode(&tree.at("/usr/bin/su")), 0o755);
        assert!(!tree.at("/usr/bin/bash").exists());
    }

    #[test]
    fn an_overlay_replaces_links_and_follows_linked_folders() {
        let work = tempfile::tempdir().unwrap();
        let overlay = work.path().join("overlay");
        write(&overlay.join("etc/localtime"), 0o664);
        write(&overlay.join("lib/x"), 0o775);
        let tree = Tree::new(work.path().join("root")).unwrap();
        tree.folder("/usr/lib", 0o755).unwrap();
        tree.link("/lib", "usr/lib").unwrap();
        tree.link("/etc/localtime", "/usr/share/zoneinfo/UTC")
            .unwrap();
        tree.lay(&overlay, "", Modes::Plain, &|_| true).unwrap();
        assert!(!tree.at("/etc/localtime").is_symlink());
        assert_eq!(mode(&tree.at("/etc/localtime")), 0o644);
        assert_eq!(mode(&tree.at("/usr/lib/x")), 0o755);
    }
}

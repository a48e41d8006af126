//! Digests of files and of everything that goes into an image, so that nothing is built twice and builds can be told apart.

use crate::error::{IoContext, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// SHA-256 of a file, in hexadecimal.
pub fn of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).during("open", path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0_u8; 1 << 20];
    loop {
        let count = file.read(&mut block).during("read", path)?;
        if count == 0 {
            break;
        }
        hash.update(block.get(..count).unwrap_or_default());
    }
    Ok(hex(&hash.finalize()))
}

pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// Collects named inputs; the order in which they are added counts.
#[derive(Default)]
pub struct Inputs(Sha256);

impl Inputs {
    pub fn text(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// A file or a whole folder: names, kinds, the executable bit and the content, not times and owners.
    pub fn path(&mut self, name: &str, path: &Path) -> Result<()> {
        let Ok(data) = fs::symlink_metadata(path) else {
            self.text(name, "absent");
            return Ok(());
        };
        if data.is_symlink() {
            let target = fs::read_link(path).during("read link", path)?;
            self.text(name, &format!("link {}", target.display()));
        } else if data.is_dir() {
            self.text(name, "folder");
            let mut entries = fs::read_dir(path)
                .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
                .during("list", path)?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = String::from_utf8_lossy(entry.file_name().as_bytes()).into_owned();
                self.path(&name, &entry.path())?;
            }
            self.text(name, "end");
        } else {
            let executable = data.permissions().mode() & 0o111 != 0;
            self.text(name, &format!("file {executable} {}", of_file(path)?));
        }
        Ok(())
    }

    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn digest(path: &Path) -> String {
        let mut inputs = Inputs::default();
        inputs.path("x", path).unwrap();
        inputs.finish()
    }

    #[test]
    fn content_names_and_modes_count_and_times_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        File::create(&file).unwrap().write_all(b"1").unwrap();
        let first = digest(folder.path());
        File::create(&file).unwrap().write_all(b"1").unwrap();
        assert_eq!(first, digest(folder.path()));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let executable = digest(folder.path());
        assert_ne!(first, executable);
        fs::rename(&file, folder.path().join("b")).unwrap();
        assert_ne!(executable, digest(folder.path()));
    }
}

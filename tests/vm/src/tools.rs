//! The tools tree: a Debian root directory whose programs are run without entering it, by its own dynamic loader and
//! libraries. So QEMU sees the host's paths, needs no bind mounts and does not depend on the host's release.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::VmError;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";

/// A Debian root directory that holds QEMU, OVMF and the tools for images.
#[derive(Debug, Clone)]
pub struct ToolsTree {
    root: PathBuf,
}

impl ToolsTree {
    /// Takes the tree at `root`; refused when its loader is not there.
    pub fn at(root: impl AsRef<Path>) -> Result<ToolsTree, VmError> {
        let root = root.as_ref();
        let root = root.canonicalize().map_err(VmError::io(
            "find the tools tree",
            root.display().to_string(),
        ))?;
        let tree = ToolsTree { root };
        tree.file("the dynamic loader", LOADER)?;
        Ok(tree)
    }

    /// The tree's own root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A command that runs `program` (a plain name) of the tree.
    pub fn command(&self, program: &str) -> Result<Command, VmError> {
        let path = self.program(program)?;
        let mut command = Command::new(self.root.join(LOADER));
        command
            .arg("--library-path")
            .arg(self.root.join(LIBRARIES))
            .arg(path);
        Ok(command)
    }

    /// The words before QEMU's own arguments. They are a list because they follow another program's.
    pub(crate) fn qemu(&self) -> Result<Vec<PathBuf>, VmError> {
        Ok(vec![
            self.root.join(LOADER),
            "--library-path".into(),
            self.root.join(LIBRARIES),
            self.program("qemu-system-x86_64")?,
            "-L".into(),
            self.root.join("usr/share/qemu"),
        ])
    }

    pub(crate) fn qemu_modules(&self) -> PathBuf {
        self.root.join(LIBRARIES).join("qemu")
    }

    pub(crate) fn firmware_code(&self) -> Result<PathBuf, VmError> {
        self.file("the UEFI firmware", "usr/share/OVMF/OVMF_CODE_4M.fd")
    }

    pub(crate) fn firmware_variables(&self) -> Result<PathBuf, VmError> {
        self.file(
            "the UEFI variables' template",
            "usr/share/OVMF/OVMF_VARS_4M.fd",
        )
    }

    fn program(&self, program: &str) -> Result<PathBuf, VmError> {
        self.file(program, Path::new("usr/bin").join(program))
            .or_else(|missing| {
                self.file(program, Path::new("usr/sbin").join(program))
                    .map_err(|_| missing)
            })
    }

    fn file(&self, what: &str, path: impl AsRef<Path>) -> Result<PathBuf, VmError> {
        let path = self.root.join(path);
        if path.is_file() {
            Ok(path)
        } else {
            Err(VmError::ToolMissing {
                what: what.to_owned(),
                path,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_tree_is_refused_with_the_missing_file() {
        let tree = tempfile::tempdir().unwrap();
        let error = ToolsTree::at(tree.path()).unwrap_err();
        assert!(matches!(error, VmError::ToolMissing { path, .. } if path.ends_with(LOADER)));
    }
}

//! Builds an image that is like the test image but for one thing, without touching the project's own output: a folder
//! of links to the project, with a `build/` of its own that shares what Cargo has built.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::place::{Image, Place};

/// A place to build in. It must outlive the images built there.
#[derive(Debug)]
pub struct Workshop {
    folder: TempDir,
    programs: PathBuf,
    cache: PathBuf,
}

/// An image and the workshop that it lies in.
#[derive(Debug)]
pub struct Built {
    image: Image,
    _folder: TempDir,
}

impl std::ops::Deref for Built {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

impl Workshop {
    /// Lays the links.
    pub fn new(place: &Place) -> anyhow::Result<Workshop> {
        let folder = tempfile::Builder::new()
            .prefix("atalaya-workshop-")
            .tempdir()?;
        let root = place.root().canonicalize()?;
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            let own = ["build", "cache", "run"]
                .iter()
                .any(|name| entry.file_name() == *name);
            if !own {
                symlink(entry.path(), folder.path().join(entry.file_name()))?;
            }
        }
        let cargo = root.join("build/cargo");
        fs::create_dir(folder.path().join("build"))?;
        symlink(&cargo, folder.path().join("build/cargo"))?;
        let cache = place.cache().canonicalize().context("there is no cache")?;
        Ok(Workshop {
            folder,
            programs: cargo.join("release"),
            cache,
        })
    }

    /// Builds the test image with a stand-in that claims to be this version.
    pub fn build_with_release(self, version: &str) -> anyhow::Result<Built> {
        let tarball = self.folder.path().join("build/release.tar.gz");
        let mut pack = Command::new(self.programs.join("standin-release"));
        pack.args(["--version", version, "--bin-dir"])
            .arg(&self.programs)
            .arg("--out")
            .arg(&tarball);
        run(pack, "pack the made-up release")?;
        let mut build = Command::new(self.programs.join("atalaya-image"));
        build
            .arg("--project")
            .arg(self.folder.path())
            .arg("--cache")
            .arg(&self.cache);
        // The programs were built for the test image that is there already.
        build.args(["build", "--test", "--as-built"]);
        build
            .env("MATTERMOST_TARBALL", &tarball)
            .env("MATTERMOST_SHA256", sha256(&tarball)?);
        run(build, "build an image with the made-up release")?;
        let image = Image::at(&self.folder.path().join("build/image-test"))?;
        Ok(Built {
            image,
            _folder: self.folder,
        })
    }
}

fn run(mut command: Command, what: &str) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("failed to {what}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "failed to {what}: {said}");
    Ok(())
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let output = Command::new("sha256sum")
        .arg("--")
        .arg(path)
        .output()
        .context("failed to run sha256sum")?;
    let said = String::from_utf8(output.stdout)?;
    Ok(said
        .split_whitespace()
        .next()
        .context("sha256sum said nothing")?
        .to_owned())
}

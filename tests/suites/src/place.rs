//! Where the built things are. `make test` says so by environment; without it the project's usual folders are taken.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use atalaya_vm::{Accel, ToolsTree, detect_accel};
use serde_json::Value;

/// The image under test and the tools to run it with.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
    test_image: PathBuf,
    next_test_image: PathBuf,
    next_postgresql_image: PathBuf,
    production_image: PathBuf,
    cache: PathBuf,
}

impl Place {
    /// Reads the environment: `ATALAYA_IMAGE` (folder of the test image), `ATALAYA_NEXT_IMAGE`, `ATALAYA_NEXT_POSTGRESQL_IMAGE`,
    /// `ATALAYA_PRODUCTION_IMAGE`, `ATALAYA_CACHE`.
    #[must_use]
    pub fn from_environment() -> Place {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = |name: &str, default: &str| match env::var_os(name) {
            Some(path) if !path.is_empty() => root.join(path),
            _ => root.join(default),
        };
        Place {
            test_image: folder("ATALAYA_IMAGE", "build/image-test"),
            next_test_image: folder("ATALAYA_NEXT_IMAGE", "build/image-test-0.2.0"),
            next_postgresql_image: folder(
                "ATALAYA_NEXT_POSTGRESQL_IMAGE",
                "build/image-test-0.2.0-next-postgresql",
            ),
            production_image: folder("ATALAYA_PRODUCTION_IMAGE", "build/image"),
            cache: folder("ATALAYA_CACHE", "cache"),
            root,
        }
    }

    /// The project's root.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for downloads and the tools tree.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The tools tree.
    pub fn tools(&self) -> anyhow::Result<ToolsTree> {
        ToolsTree::at(self.cache.join("tools"))
            .context("there is no tools tree: `make image` makes it")
    }

    /// The image with the agent.
    pub fn test_image(&self) -> anyhow::Result<Image> {
        Image::at(&self.test_image).context("there is no test image: `make test` builds it")
    }

    /// The same as another version, and its bundle.
    pub fn next_test_image(&self) -> anyhow::Result<Image> {
        Image::at(&self.next_test_image)
            .context("there is no test image of another version: `make test` builds it")
    }

    /// Another version with the next major version of PostgreSQL, and its bundle.
    pub fn next_postgresql_image(&self) -> anyhow::Result<Image> {
        Image::at(&self.next_postgresql_image).context(
            "there is no test image with the next PostgreSQL: `tests/update-images --next-postgresql` builds it",
        )
    }

    /// The image that is shipped.
    pub fn production_image(&self) -> anyhow::Result<Image> {
        Image::at(&self.production_image).context("there is no image: `make image` builds it")
    }

    /// The accelerator for tests: TCG unless `ACCEL` says otherwise, so that every machine runs the same test.
    pub fn accel(&self) -> anyhow::Result<Accel> {
        match env::var("ACCEL").as_deref() {
            Ok("kvm") => Ok(Accel::Kvm),
            Ok("auto") => Ok(detect_accel().accel),
            Ok("" | "tcg") | Err(_) => Ok(Accel::Tcg),
            Ok(other) => bail!("ACCEL is {other:?}; it can be tcg, kvm or auto"),
        }
    }
}

/// The folder of one built image.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
    manifest: Value,
}

impl Image {
    /// Reads the folder's manifest.
    pub fn at(folder: &Path) -> anyhow::Result<Image> {
        let path = folder.join("manifest.json");
        let text =
            std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let manifest = serde_json::from_slice(&text)
            .with_context(|| format!("{} is no JSON", path.display()))?;
        Ok(Image {
            folder: folder.to_owned(),
            manifest,
        })
    }

    /// What the builder says about it.
    #[must_use]
    pub fn manifest(&self) -> &Value {
        &self.manifest
    }

    /// The whole disk.
    pub fn disk(&self) -> anyhow::Result<PathBuf> {
        self.file("atalaya.raw")
    }

    /// The erofs root alone.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        self.file("atalaya.root")
    }

    /// A file of it by its stable name.
    pub fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.join(name);
        ensure!(path.is_file(), "{} is not there", path.display());
        Ok(path)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

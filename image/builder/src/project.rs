//! Where things lie: the project's folders and their parts. It decides names only and touches no file.

use std::path::{Path, PathBuf};

/// The three folders that the pipeline writes to, and the tree it reads.
#[derive(Debug, Clone)]
pub struct Project {
    pub root: PathBuf,
    pub cache: PathBuf,
}

impl Project {
    pub fn new(root: PathBuf, cache: Option<PathBuf>) -> Self {
        let cache = match cache {
            Some(path) if path.is_absolute() => path,
            Some(path) => root.join(path),
            None => root.join("cache"),
        };
        Self { root, cache }
    }

    pub fn image_sources(&self) -> PathBuf {
        self.root.join("image")
    }

    pub fn overlays(&self) -> PathBuf {
        self.root.join("overlays")
    }

    pub fn build(&self) -> PathBuf {
        self.root.join("build")
    }

    /// Logs of every program that the pipeline runs.
    pub fn logs(&self) -> PathBuf {
        self.build().join("logs")
    }

    /// Half-finished things; removed at the start of each build.
    pub fn work(&self, test: bool) -> PathBuf {
        self.build().join(if test { "work-test" } else { "work" })
    }

    pub fn output(&self, test: bool) -> PathBuf {
        self.build().join(if test { "image-test" } else { "image" })
    }

    /// What the benchmark's baseline is made of.
    pub fn baseline_sources(&self) -> PathBuf {
        self.root.join("tests/bench/baseline")
    }

    pub fn baseline_work(&self) -> PathBuf {
        self.build().join("work-baseline")
    }

    pub fn baseline_output(&self) -> PathBuf {
        self.build().join("image-baseline")
    }

    pub fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    pub fn base(&self) -> PathBuf {
        self.cache.join("base")
    }

    pub fn baseline_base(&self) -> PathBuf {
        self.cache.join("baseline")
    }

    pub fn loader(&self) -> PathBuf {
        self.cache.join("loader")
    }

    pub fn packages(&self) -> PathBuf {
        self.cache.join("packages")
    }

    pub fn releases(&self) -> PathBuf {
        self.cache.join("releases")
    }

    pub fn temporary_beside(path: &Path) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".new");
        path.with_file_name(name)
    }
}

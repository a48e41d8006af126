//! Where things lie: the project's folders and their parts. It decides names only and touches no file.

use semver::Version;
use std::fmt;
use std::path::{Path, PathBuf};

/// Which of the images that are built beside each other: each has folders of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variant {
    /// The test image, which holds the agent.
    pub test: bool,
    /// Another version of the same content, to have something to update to; the project's own where there is none.
    pub version: Option<Version>,
    /// With the next major version of PostgreSQL.
    pub next_postgresql: bool,
}

/// What stands behind the names of its folders: nothing, `-test`, `-test-0.2.0`, `-test-0.2.0-next-postgresql`.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.test { "-test" } else { "" })?;
        if let Some(version) = &self.version {
            write!(f, "-{version}")?;
        }
        f.write_str(if self.next_postgresql {
            "-next-postgresql"
        } else {
            ""
        })
    }
}

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
    pub fn work(&self, variant: &Variant) -> PathBuf {
        self.build().join(format!("work{variant}"))
    }

    pub fn output(&self, variant: &Variant) -> PathBuf {
        self.build().join(format!("image{variant}"))
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

    pub fn next_postgresql_base(&self) -> PathBuf {
        self.cache.join("next-postgresql")
    }

    pub fn baseline_base(&self) -> PathBuf {
        self.cache.join("baseline")
    }

    pub fn loader(&self) -> PathBuf {
        self.cache.join("loader")
    }

    /// The development key, made on first use.
    pub fn keys(&self) -> PathBuf {
        self.cache.join("keys")
    }

    /// The release keys' public parts, set after set. Not there until the first ceremony was held.
    pub fn release_keys(&self) -> PathBuf {
        self.image_sources().join("keys.json")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_lie_beside_each_other() {
        let project = Project::new("/p".into(), None);
        let name = |test, version: Option<&str>, next_postgresql| {
            let version = version.map(|text| text.parse().unwrap());
            let variant = Variant {
                test,
                version,
                next_postgresql,
            };
            project.output(&variant).display().to_string()
        };
        assert_eq!(name(false, None, false), "/p/build/image");
        assert_eq!(name(true, None, false), "/p/build/image-test");
        assert_eq!(
            name(true, Some("0.2.0"), false),
            "/p/build/image-test-0.2.0"
        );
        assert_eq!(
            name(true, Some("0.2.0"), true),
            "/p/build/image-test-0.2.0-next-postgresql"
        );
    }
}

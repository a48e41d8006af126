//! Debian's packages, installed into a folder of the cache. Nothing of ours is in it, so it changes only with the list of
//! packages; it is made anew with `--refresh`. The benchmark's baseline has a list of its own on top, and so a folder.

use crate::digest::Inputs;
use crate::error::{Error, IoContext, Result};
use crate::mirrors::Mirrors;
use crate::mkosi;
use crate::project::Project;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::PathBuf;

/// Installed packages and where they are.
pub struct Base {
    pub tree: PathBuf,
    /// Names this very installation of packages.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub source: String,
}

/// Which list of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packages {
    /// The appliance's.
    Appliance,
    /// The same, and what only the benchmark's baseline has.
    Baseline,
    /// The appliance's, and the next major version of PostgreSQL from Debian's next release, with the C library that it needs.
    NextPostgresql,
}

/// The major version that unit files and image/root.rules name.
pub const POSTGRESQL: u32 = 17;
/// What comes after it: image/next-postgresql.rules, image/mkosi.profiles/next-postgresql.conf.
const NEXT_POSTGRESQL: u32 = 18;

impl Packages {
    /// mkosi's profiles, in image/mkosi.profiles.
    fn profiles(self) -> &'static [&'static str] {
        match self {
            Self::Appliance => &["base"],
            Self::Baseline => &["base", "baseline"],
            Self::NextPostgresql => &["base", "next-postgresql"],
        }
    }

    pub fn postgresql(self) -> u32 {
        match self {
            Self::Appliance | Self::Baseline => POSTGRESQL,
            Self::NextPostgresql => NEXT_POSTGRESQL,
        }
    }

    /// Source packages that come from Debian's next release.
    fn of_next_release(self) -> &'static [&'static str] {
        match self {
            Self::Appliance | Self::Baseline => &[],
            Self::NextPostgresql => &["postgresql-18", "glibc"],
        }
    }

    fn place(self, project: &Project) -> PathBuf {
        match self {
            Self::Appliance => project.base(),
            Self::Baseline => project.baseline_base(),
            Self::NextPostgresql => project.next_postgresql_base(),
        }
    }
}

/// PostgreSQL's package would make a cluster; ours is made on the machine.
const CREATECLUSTER: &str = "create_main_cluster = false\n";

fn recipe(project: &Project, packages: Packages) -> Result<String> {
    let sources = project.image_sources();
    let mut inputs = Inputs::default();
    inputs.text("skeleton", CREATECLUSTER);
    for package in packages.of_next_release() {
        inputs.text("from next", package);
    }
    inputs.path("mkosi.conf", &sources.join("mkosi.conf"))?;
    for profile in packages.profiles() {
        let name = format!("mkosi.profiles/{profile}.conf");
        inputs.path(&name, &sources.join(&name))?;
    }
    Ok(inputs.finish())
}

pub fn is_ready(project: &Project, packages: Packages) -> Result<bool> {
    let recipe = recipe(project, packages)?;
    let known = fs::read_to_string(packages.place(project).join("recipe"));
    Ok(known.is_ok_and(|text| text == recipe))
}

pub fn make(project: &Project, mirrors: &Mirrors, packages: Packages) -> Result<()> {
    let place = packages.place(project);
    let work = Project::temporary_beside(&place);
    for old in [&work, &place] {
        if old.exists() {
            fs::remove_dir_all(old).during("remove", old)?;
        }
    }
    fs::create_dir_all(&work).during("create folder", &work)?;
    let skeleton = work.join("skeleton");
    let settings = skeleton.join("etc/postgresql-common");
    fs::create_dir_all(&settings).during("create folder", &settings)?;
    atalaya_sys::durable::write(
        &settings.join("createcluster.conf"),
        CREATECLUSTER.as_bytes(),
        0o644,
        None,
    )?;
    mkosi::run(
        project,
        mirrors,
        &mkosi::Run {
            profiles: packages.profiles(),
            from_next: packages.of_next_release(),
            folder: &work,
            sources: &project.image_sources(),
            arguments: vec![format!("--skeleton-tree={}", skeleton.display())],
        },
    )?;
    for folder in ["sandbox", "workspace", "skeleton"] {
        let folder = work.join(folder);
        fs::remove_dir_all(&folder).during("remove", &folder)?;
    }
    atalaya_sys::durable::write(
        &work.join("recipe"),
        recipe(project, packages)?.as_bytes(),
        0o644,
        None,
    )?;
    fs::rename(&work, &place).during("rename into place", &place)
}

pub fn open(project: &Project, packages: Packages) -> Result<Base> {
    let folder = packages.place(project);
    let status = folder.join("base/var/lib/dpkg/status");
    let mut inputs = Inputs::default();
    inputs.path("status", &status)?;
    inputs.path("recipe", &folder.join("recipe"))?;
    Ok(Base {
        tree: folder.join("base"),
        id: inputs.finish(),
    })
}

impl Base {
    /// The one kernel's release, e.g. 6.12.0-amd64.
    pub fn kernel(&self) -> Result<String> {
        let folder = self.tree.join("usr/lib/modules");
        let mut found: Vec<String> = fs::read_dir(&folder)
            .during("list", &folder)?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        match (found.pop(), found.len()) {
            (Some(name), 0) => Ok(name),
            _ => Err(Error::Image {
                problem: "there is not exactly one kernel in it".to_owned(),
            }),
        }
    }

    pub fn packages(&self) -> Result<Vec<Package>> {
        let path = self.tree.join("var/lib/dpkg/status");
        let text = fs::read_to_string(&path).during("read", &path)?;
        Ok(parse_status(&text))
    }
}

fn parse_status(text: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = text
        .split("\n\n")
        .filter_map(|stanza| {
            let field = |name: &str| {
                stanza
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if field("Status")? != "install ok installed" {
                return None;
            }
            let name = field("Package")?.to_owned();
            let source = field("Source")
                .and_then(|text| text.split_whitespace().next())
                .map_or_else(|| name.clone(), str::to_owned);
            Some(Package {
                version: field("Version")?.to_owned(),
                source,
                name,
            })
        })
        .collect();
    packages.sort_by(|one, other| one.name.cmp(&other.name));
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_are_listed_with_their_source() {
        let text = "Package: b\nStatus: install ok installed\nSource: bsrc (1.0)\nVersion: 1.1\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n\
                    Package: a\nStatus: install ok installed\nVersion: 2\n";
        let names: Vec<_> = parse_status(text)
            .into_iter()
            .map(|package| (package.name, package.version, package.source))
            .collect();
        assert_eq!(
            names,
            [
                ("a".into(), "2".into(), "a".into()),
                ("b".into(), "1.1".into(), "bsrc".to_owned())
            ]
        );
    }
}

//! Which crates our installed programs are made of, as Cargo tells it. Pure but for the call of Cargo.

use crate::error::{Error, Result};
use crate::process;
use crate::programs::{INIT, PROGRAMS};
use crate::project::Project;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub licence: String,
    /// Its sources on this machine; not for the manifest.
    #[serde(skip)]
    pub folder: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

/// The foreign crates linked into what the image holds.
pub fn in_image(project: &Project, test: bool) -> Result<Vec<Crate>> {
    let text = process::read(
        "asking Cargo for the crates",
        Command::new("cargo").current_dir(&project.root).args([
            "metadata",
            "--format-version=1",
            // It reads all that the lock file names: what only tests use may not have been fetched before.
            "--locked",
            "--filter-platform=x86_64-unknown-linux-gnu",
        ]),
        &project.logs(),
    )?;
    let ours: Vec<&str> = PROGRAMS
        .iter()
        .chain([&INIT])
        .filter(|program| program.place.is_some() && (test || !program.test))
        .map(|program| program.package)
        .collect();
    linked(&text, &ours).map_err(|source| Error::Io {
        operation: "understand",
        object: "Cargo's metadata".to_owned(),
        source: source.into(),
    })
}

fn linked(text: &str, ours: &[&str]) -> serde_json::Result<Vec<Crate>> {
    let metadata: Metadata = serde_json::from_str(text)?;
    let packages: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let nodes: BTreeMap<&str, &Node> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node))
        .collect();
    let mut open: Vec<&str> = packages
        .values()
        .filter(|package| package.source.is_none() && ours.contains(&package.name.as_str()))
        .map(|package| package.id.as_str())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Some(node) = nodes.get(id) else { continue };
        for dependency in &node.deps {
            // What only builds or tests use is not in the image.
            if dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()) {
                open.push(&dependency.pkg);
            }
        }
    }
    let mut found: Vec<Crate> = seen
        .iter()
        .filter_map(|id| packages.get(id))
        .filter(|package| package.source.is_some())
        .map(|package| Crate {
            name: package.name.clone(),
            version: package.version.clone(),
            licence: package.license.clone().unwrap_or_default(),
            folder: package
                .manifest_path
                .parent()
                .map(PathBuf::from)
                .unwrap_or_default(),
        })
        .collect();
    found.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_into_our_programs_counts() {
        let text = r#"{"packages":[
          {"id":"us","name":"atalayad","version":"0.1.0","license":null,"source":null,"manifest_path":"/p/Cargo.toml"},
          {"id":"a","name":"a","version":"1.0.0","license":"MIT","source":"registry","manifest_path":"/r/a/Cargo.toml"},
          {"id":"b","name":"b","version":"1.0.0","license":"MIT","source":"registry","manifest_path":"/r/b/Cargo.toml"},
          {"id":"t","name":"t","version":"1.0.0","license":"MIT","source":"registry","manifest_path":"/r/t/Cargo.toml"}],
          "resolve":{"nodes":[
          {"id":"us","deps":[{"pkg":"a","dep_kinds":[{"kind":null}]},{"pkg":"t","dep_kinds":[{"kind":"dev"}]}]},
          {"id":"a","deps":[{"pkg":"b","dep_kinds":[{"kind":"build"},{"kind":null}]}]},
          {"id":"b","deps":[]},{"id":"t","deps":[]}]}}"#;
        let names: Vec<String> = linked(text, &["atalayad"])
            .unwrap()
            .into_iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}

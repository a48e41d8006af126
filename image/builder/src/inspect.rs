//! `atalaya-image inspect`: says what is in a built image and checks its files against the manifest.
#![allow(clippy::print_stdout)] // its output is what it is for

use crate::digest;
use crate::error::{Error, IoContext, Result};
use crate::manifest::Manifest;
use crate::project::Project;
use std::fs;
use std::path::Path;

pub fn run(project: &Project, test: bool, json: bool) -> Result<()> {
    let folder = project.output(test);
    let path = folder.join("manifest.json");
    let text = fs::read_to_string(&path).during("read", &path)?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|source| Error::Io {
        operation: "understand",
        object: path.display().to_string(),
        source: source.into(),
    })?;
    if json {
        print!("{text}");
    } else {
        println!("{}", describe(&manifest));
    }
    let parts = &manifest.artifacts;
    for file in [&parts.disk, &parts.root, &parts.verity, &parts.uki] {
        let found = digest::of_file(&folder.join(&file.name))?;
        if found != file.sha256 {
            return Err(Error::Damaged {
                path: folder.join(&file.name),
                expected: file.sha256.clone(),
                found,
            });
        }
        if !json {
            println!(
                "{:<34} {:>8.1} MiB  {found}",
                file.name,
                mebibytes(file.size)
            );
        }
    }
    Ok(())
}

/// Prints `main ADDRESS` and `security ADDRESS`.
pub fn mirrors(main: Option<String>, security: Option<String>) -> Result<()> {
    let found = crate::mirrors::of_this_machine(Path::new("/etc/apt"), main, security)?;
    println!("main {}\nsecurity {}", found.main, found.security);
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // a figure for people
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn describe(manifest: &Manifest) -> String {
    let release = &manifest.release;
    format!(
        "Atalaya {} (build {}, {})\nMattermost {} ({:?}) from {}, SHA-256 {}\nPostgreSQL {}, Linux {}, systemd-boot {}\n{} packages, {} crates; root hash {}",
        release.version,
        release.build,
        release.built,
        release.mattermost.version,
        release.mattermost.kind,
        release.mattermost.source,
        release.mattermost.sha256,
        release.postgresql,
        manifest.kernel,
        manifest.loader.version,
        manifest.packages.len(),
        manifest.crates.len(),
        manifest.artifacts.root_hash,
    )
}

//! `atalaya-image inspect`: says what is in a built image and checks its files against the manifest. A bundle is looked into by
//! [`crate::bundle`].
#![allow(clippy::print_stdout)] // its output is what it is for

use crate::artifacts;
use crate::error::Result;
use crate::manifest::Manifest;
use crate::pipeline::to_json;
use crate::project::{Project, Variant};
use std::path::Path;

pub fn run(project: &Project, variant: &Variant, json: bool) -> Result<()> {
    let folder = project.output(variant);
    let manifest = Manifest::of(&folder)?;
    if json {
        print!("{}", to_json(&manifest)?);
    } else {
        println!("{}", describe(&manifest));
    }
    let parts = &manifest.artifacts;
    for file in [&parts.disk, &parts.root, &parts.verity, &parts.uki] {
        artifacts::check(&folder, file)?;
        if !json {
            println!(
                "{:<34} {:>8.1} MiB  {}",
                file.name,
                mebibytes(file.size),
                file.sha256
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

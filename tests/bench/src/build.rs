//! How long building the image takes: from nothing (a fresh clone, an empty cache), and again with nothing changed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use atalaya_suites::place::Place;

use crate::table::Table;

/// Measures. `cold`: also from nothing.
pub fn measure(place: &Place, cold: bool) -> anyhow::Result<Table> {
    let mut table = Table::new(["building the image", "s"]);
    if cold {
        let clone = tempfile::Builder::new()
            .prefix("atalaya-bench-")
            .tempdir()?;
        let status = Command::new("git")
            .args(["clone", "--quiet", "--no-hardlinks", "--"])
            .args([place.root(), clone.path()])
            .status()
            .context("failed to run git")?;
        ensure!(status.success(), "failed to clone the project");
        let cache = clone.path().join("cache");
        table.row([
            "cold: fresh clone, empty cache",
            &build(clone.path(), &cache)?,
        ]);
    }
    build(place.root(), place.cache()).context("failed to build before measuring")?;
    table.row([
        "warm: nothing changed",
        &build(place.root(), place.cache())?,
    ]);
    Ok(table)
}

fn build(project: &Path, cache: &Path) -> anyhow::Result<String> {
    let begun = Instant::now();
    let status = Command::new("cargo")
        .args([
            "run",
            "--quiet",
            "--release",
            "--locked",
            "-p",
            "atalaya-image",
            "--",
            "build",
        ])
        .current_dir(project)
        .env("ATALAYA_CACHE", cache)
        .env("MATTERMOST", "standin")
        // What it says goes to the messages: the tables are alone on the output.
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "the build failed");
    Ok(format!("{:.0}", begun.elapsed().as_secs_f64()))
}

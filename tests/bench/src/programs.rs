//! The programs that are measured: built here as the image has them, or taken from a folder to compare with another
//! version.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use atalaya_suites::place::Place;

/// Statically linked, as image/builder does it for init.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C panic=abort";

/// Where each of them is.
#[derive(Debug, Clone)]
pub struct Programs {
    pub init: PathBuf,
    pub atalayad: PathBuf,
    pub sandbox: PathBuf,
    /// The one program that every supervisor runs.
    pub unit: PathBuf,
}

impl Programs {
    /// Those of a folder, which must have them all.
    pub fn of(folder: &Path) -> anyhow::Result<Programs> {
        let program = |name: &str| {
            let path = folder.join(name).canonicalize();
            path.with_context(|| format!("{} is not there", folder.join(name).display()))
        };
        Ok(Programs {
            init: program("atalaya-init")?,
            atalayad: program("atalayad")?,
            sandbox: program("atalaya-sandbox")?,
            unit: program("atalaya-bench-unit")?,
        })
    }

    /// Builds them.
    pub fn build(place: &Place) -> anyhow::Result<Programs> {
        // The whole workspace, so that crates shared by its members are compiled with one set of features.
        cargo(place, &["--workspace", "--bins"], None)?;
        let packages = ["-p", "atalaya-init", "-p", "atalaya-bench-unit"];
        let arguments = [&packages[..], &["--target", STATIC_TARGET]].concat();
        cargo(place, &arguments, Some(STATIC_FLAGS))?;
        let target = place.root().join("build/cargo").canonicalize()?;
        let shared = target.join("release");
        let own = target.join(STATIC_TARGET).join("release");
        Ok(Programs {
            init: own.join("atalaya-init"),
            atalayad: shared.join("atalayad"),
            sandbox: shared.join("atalaya-sandbox"),
            unit: own.join("atalaya-bench-unit"),
        })
    }
}

fn cargo(place: &Place, arguments: &[&str], flags: Option<&str>) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--quiet"])
        .args(arguments)
        .current_dir(place.root())
        .env_remove("CARGO_MANIFEST_DIR");
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
    }
    run(command, "cargo")
}

/// The image builder, as `make image` runs it; MIRROR= and the like come through `ATALAYA_BUILD_OPTIONS`.
pub fn build_image(place: &Place, arguments: &[&str]) -> anyhow::Result<()> {
    let given = std::env::var("ATALAYA_BUILD_OPTIONS").unwrap_or_default();
    let mut command = Command::new("cargo");
    command
        .args([
            "run",
            "--release",
            "--quiet",
            "-p",
            "atalaya-image",
            "--",
            "build",
        ])
        .args(arguments)
        .args(given.split_whitespace())
        .current_dir(place.root())
        .env("ATALAYA_CACHE", place.cache());
    run(command, "the image builder")
}

/// What it says goes to the messages: the tables are alone on the output.
fn run(mut command: Command, what: &str) -> anyhow::Result<()> {
    let status = command
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .with_context(|| format!("failed to run {what}"))?;
    ensure!(status.success(), "{what} ended with {status}");
    Ok(())
}

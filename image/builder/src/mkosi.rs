//! Runs mkosi out of the tools tree with the machine's own Python.

use crate::error::{IoContext, Result};
use crate::mirrors::Mirrors;
use crate::process;
use crate::project::Project;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Everything in the image bears this time (2020-01-01), so that the same content gives the same image.
const SOURCE_DATE_EPOCH: u32 = 1_577_836_800;

pub struct Run<'a> {
    pub profiles: &'a [&'a str],
    /// Source packages that come from Debian's next release, with those that they cannot do without.
    pub from_next: &'a [&'a str],
    /// Where mkosi puts its results and everything half-finished.
    pub folder: &'a Path,
    /// Folder with mkosi.conf and the rest.
    pub sources: &'a Path,
    pub arguments: Vec<String>,
}

pub fn run(project: &Project, mirrors: &Mirrors, run: &Run<'_>) -> Result<()> {
    let sandbox = run.folder.join("sandbox");
    let apt = sandbox.join("etc/apt/sources.list.d");
    let workspace = run.folder.join("workspace");
    let packages = project.packages();
    for folder in [&apt, &workspace, &packages] {
        fs::create_dir_all(folder).during("create folder", folder)?;
    }
    atalaya_sys::durable::write(
        &apt.join("mkosi.sources"),
        apt_sources(mirrors, run.from_next).as_bytes(),
        0o644,
        None,
    )?;
    if !run.from_next.is_empty() {
        let preferences = sandbox.join("etc/apt/preferences.d");
        fs::create_dir_all(&preferences).during("create folder", &preferences)?;
        atalaya_sys::durable::write(
            &preferences.join("next"),
            apt_preferences(run.from_next).as_bytes(),
            0o644,
            None,
        )?;
    }
    let tools = project.tools();
    let name = run.profiles.join("-");
    process::run(
        &format!("mkosi ({name})"),
        Command::new("python3")
            .args(["-m", "mkosi"])
            .env("PYTHONPATH", tools.join("usr/lib/python3/dist-packages"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .arg("--directory")
            .arg(run.sources)
            .arg(format!("--tools-tree={}", tools.display()))
            .arg(format!("--profile={}", run.profiles.join(",")))
            .arg(format!("--sandbox-tree={}", sandbox.display()))
            .arg(format!("--output-dir={}", run.folder.display()))
            .arg(format!("--package-cache-dir={}", packages.display()))
            .arg(format!("--workspace-dir={}", workspace.display()))
            .arg(format!("--source-date-epoch={SOURCE_DATE_EPOCH}"))
            .args(&run.arguments)
            .arg("--force")
            .arg("build"),
        &project.logs().join(format!("mkosi-{name}.log")),
    )
}

/// Debian's release after that of the image.
const NEXT: &str = "forky";

/// mkosi's own list would ask for debug packages, which not every mirror has.
fn apt_sources(mirrors: &Mirrors, from_next: &[&str]) -> String {
    let entry = |uri: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        )
    };
    let mut text = format!(
        "{}{}",
        entry(&mirrors.main, "trixie trixie-updates"),
        entry(&mirrors.security, "trixie-security")
    );
    if !from_next.is_empty() {
        text.push_str(&entry(&mirrors.main, NEXT));
    }
    text
}

/// Everything else stays where it is unless it is in the next release only.
fn apt_preferences(from_next: &[&str]) -> String {
    let sources: Vec<String> = from_next.iter().map(|name| format!("src:{name}")).collect();
    let pin = |packages: &str, priority: u32| {
        format!("Package: {packages}\nPin: release n={NEXT}\nPin-Priority: {priority}\n\n")
    };
    format!("{}{}", pin("*", 100), pin(&sources.join(" "), 990))
}

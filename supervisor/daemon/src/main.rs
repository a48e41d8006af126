//! atalayad: reads the units, greets init, and supervises until the machine ends.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use atalaya_core::system::System;
use atalaya_core::unit::{Unit, UnitFile, parse_units};
use atalaya_sys::cgroup::Cgroup;
use atalayad::api;
use atalayad::link::Link;
use atalayad::logs::Hub;
use atalayad::options::Options;
use atalayad::supervisor::Supervisor;

/// An error goes to stderr, which init shows on the console; init then tries again.
fn main() -> Result<()> {
    supervise(Options::parse(std::env::args())?)
}

fn supervise(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()?;
    runtime.block_on(async {
        // First, because it is a bare number until then.
        let link = if options.no_init {
            Link::alone()?
        } else {
            Link::inherited()?
        };
        let units = read_units(&options.units)?;
        let system = System::new(units).context("the units cannot be used")?;
        make_ground(&options)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let hub = Hub::new(
            boot.trim(),
            options.data.as_ref().map(|data| data.join("logs")),
        );
        let viewer = api::Viewer::find();
        let listener = api::bind(&options.run.join("control.sock"), viewer)?;
        let supervisor = Supervisor::new(options, system, link, hub.clone());
        tokio::spawn(api::serve(listener, supervisor.outbox(), hub, viewer));
        supervisor.run().await
    })
}

/// Every NAME.toml in the directory. What is wrong with them is told with file and line.
fn read_units(directory: &Path) -> Result<Vec<Unit>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory)
        .with_context(|| format!("failed to list {}", directory.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("failed to list {}", directory.display()))?
            .path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        files.push(UnitFile {
            name: name.into_owned(),
            path: path.to_string_lossy().into_owned(),
            text,
        });
    }
    Ok(parse_units(&files)?)
}

/// The directories and the cgroup in which units live.
fn make_ground(options: &Options) -> Result<()> {
    for directory in [
        options.run.clone(),
        options.run.join("notify"),
        options.run.join("public"),
    ] {
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        fs::set_permissions(
            &directory,
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .with_context(|| format!("failed to open {} to units", directory.display()))?;
    }
    let root = Cgroup::at(&options.cgroup);
    let units = Cgroup::create(options.cgroup.join("units"))?;
    for cgroup in [root, units] {
        for controller in ["+memory", "+pids", "+cpu", "+io"] {
            // A kernel may lack one; a unit that needs it says so when it starts.
            drop(cgroup.write("cgroup.subtree_control", controller));
        }
    }
    Ok(())
}

//! Packs the stand-in's programs as a tarball laid out like the Mattermost release.
#![allow(clippy::print_stdout, reason = "says what it wrote")]

use atalaya_standin::faults::Faults;
use atalaya_standin::release;
use clap::Parser;
use std::path::PathBuf;

/// Packs the stand-in as a tarball laid out like the Mattermost release.
#[derive(Parser)]
#[command(name = "standin-release")]
struct Arguments {
    /// Folder with the programs mattermost and mmctl
    #[arg(long)]
    bin_dir: PathBuf,
    /// The tarball to write (.tar.gz)
    #[arg(long)]
    out: PathBuf,
    /// The version that the release claims
    #[arg(long, default_value = "11.7.9")]
    version: String,
    /// A further migration, NNNNNN_name.sql, for a made-up newer schema; may be repeated
    #[arg(long)]
    migration: Vec<PathBuf>,
    /// What the release gets wrong; may be repeated
    #[arg(long)]
    fault: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(word) = Faults::new(&arguments.fault.join(" "), None)
        .unknown()
        .first()
    {
        anyhow::bail!("there is no fault {word}; nothing was written; README.md lists them");
    }
    let migrations = arguments
        .migration
        .iter()
        .map(|p| release::read_migration(p))
        .collect::<Result<Vec<_>, _>>()?;
    release::write(
        &arguments.bin_dir,
        &arguments.version,
        migrations,
        &arguments.fault.join(" "),
        &arguments.out,
    )?;
    println!(
        "{}: stand-in {} (not Mattermost)",
        arguments.out.display(),
        arguments.version
    );
    Ok(())
}

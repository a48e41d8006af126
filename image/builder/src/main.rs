//! `atalaya-image`: builds the image, boots it and says what is in one.

mod artifacts;
mod base;
mod clock;
mod compose;
mod cpio;
mod crates;
mod digest;
mod error;
mod licences;
mod loader;
mod lock;
mod manifest;
mod mirrors;
mod mkosi;
mod modules;
mod pipeline;
mod preflight;
mod process;
mod programs;
mod progress;
mod project;
mod release;
mod rules;
mod tools;
mod tree;

use clap::{Args, Parser, Subcommand};
use progress::Progress;
use project::Project;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "atalaya-image",
    version,
    about = "Builds, boots and inspects the image"
)]
struct Cli {
    /// The project's folder
    #[arg(long, global = true, default_value = ".")]
    project: PathBuf,
    /// Where the tools tree, packages and releases are kept
    #[arg(long, global = true, env = "ATALAYA_CACHE")]
    cache: Option<PathBuf>,
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Builds the image
    Build(BuildArgs),
}

#[derive(Args)]
struct BuildArgs {
    /// Debian's mirror; the machine's own apt entries tell it otherwise
    #[arg(long)]
    mirror: Option<String>,
    /// Debian's security mirror; the machine's own apt entries tell it otherwise
    #[arg(long)]
    security_mirror: Option<String>,
    /// Fetch tools, packages and boot loader anew, to get Debian's updates
    #[arg(long)]
    refresh: bool,
    /// Build the test image, which holds an agent that runs any command: never for use
    #[arg(long)]
    test: bool,
    /// Don't run Cargo: take the programs as they were built last, leave out those that never were (for development)
    #[arg(long)]
    as_built: bool,
    /// Which Mattermost goes in
    #[arg(long, env = "MATTERMOST", value_enum, default_value = "auto")]
    mattermost: release::Choice,
    /// A release's tarball to use
    #[arg(long, env = "MATTERMOST_TARBALL")]
    mattermost_tarball: Option<PathBuf>,
    /// The tarball's SHA-256, when it is not the pinned release
    #[arg(long, env = "MATTERMOST_SHA256")]
    mattermost_sha256: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atalaya-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let root = cli.project.canonicalize()?;
    let project = Project::new(root, cli.cache);
    match cli.command {
        Sub::Build(args) => {
            let mut progress = Progress::new();
            let built = pipeline::build(&project, &args.into(), &mut progress)?;
            eprintln!("{}", progress.summary());
            report(&project, &built);
        }
    }
    Ok(())
}

impl From<BuildArgs> for pipeline::Options {
    fn from(args: BuildArgs) -> Self {
        Self {
            mirror: args.mirror,
            security_mirror: args.security_mirror,
            refresh: args.refresh,
            test: args.test,
            as_built: args.as_built,
            release: release::Wanted {
                choice: args.mattermost,
                tarball: args
                    .mattermost_tarball
                    .filter(|path| !path.as_os_str().is_empty()),
                sha256: args.mattermost_sha256,
            },
        }
    }
}

/// The last lines of a build.
fn report(project: &Project, built: &pipeline::Built) {
    let release = &built.manifest.release;
    let folder = project.output(built.manifest.test);
    eprintln!(
        "Atalaya {} (build {}), Mattermost {}, PostgreSQL {}: {}",
        release.version,
        release.build,
        release.mattermost.version,
        release.postgresql,
        folder.join(artifacts::DISK_LINK).display()
    );
    if built.manifest.test {
        eprintln!("THIS IS A TEST IMAGE: it runs any command that its host sends. Never use it.");
    }
    if release.mattermost.kind == manifest::Kind::Standin {
        eprintln!(
            "THIS IMAGE HOLDS THE STAND-IN, NOT MATTERMOST. It is for tests and for a first look, not for use."
        );
        if let Some(reason) = &built.fallback {
            eprintln!("The official release could not be had ({reason}).");
            eprintln!(
                "Put it into {} or give it with MATTERMOST_TARBALL=; MATTERMOST=official insists on it.",
                project.releases().display()
            );
        }
    }
}

//! `atalaya-image`: builds the image, boots it and says what is in one.

mod artifacts;
mod base;
mod clock;
mod compose;
mod cpio;
mod digest;
mod error;
mod loader;
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
#[command(name = "atalaya-image", version, about = "Builds, boots and inspects the image")]
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
            pipeline::build(
                &project,
                &pipeline::Options {
                    mirror: args.mirror,
                    security_mirror: args.security_mirror,
                    refresh: args.refresh,
                    test: args.test,
                    as_built: args.as_built,
                },
                &mut progress,
            )?;
            eprintln!("{}", progress.summary());
        }
    }
    Ok(())
}

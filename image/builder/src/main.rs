//! `atalaya-image`: builds the image, boots it and says what is in one.

mod artifacts;
mod audit;
mod base;
mod baseline;
mod clock;
mod compose;
mod cpio;
mod crates;
mod digest;
mod error;
mod inspect;
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
mod run;
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
    /// Builds the image and boots it in QEMU until a signal comes
    Run(RunArgs),
    /// Says which mirrors would be used
    Mirrors(MirrorArgs),
    /// Says what is in the image that was built, and checks its files
    Inspect(InspectArgs),
}

#[derive(Args)]
struct InspectArgs {
    /// The test image instead
    #[arg(long)]
    test: bool,
    /// Print manifest.json
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    build: BuildArgs,
    /// Port of 127.0.0.1 for the site [default: 8443]
    #[arg(long, env = "HTTPS_PORT")]
    https_port: Option<u16>,
    /// Port of 127.0.0.1 that redirects to the site [default: 8080]
    #[arg(long, env = "HTTP_PORT")]
    http_port: Option<u16>,
    /// Size of the machine's disk in GiB
    #[arg(long, env = "DISK", default_value_t = 16)]
    disk: u64,
    /// Memory of the machine in MiB
    #[arg(long, env = "MEMORY", default_value_t = 2048)]
    memory: u32,
    /// How QEMU executes the machine
    #[arg(long, env = "ACCEL", value_enum, default_value = "auto")]
    accel: run::Choice,
    /// Start over: delete the machine and its data (FRESH=1)
    #[arg(long, env = "FRESH", value_parser = clap::builder::FalseyValueParser::new())]
    fresh: bool,
    /// Log in, post, shut down (ONCE=1)
    #[arg(long, env = "ONCE", value_parser = clap::builder::FalseyValueParser::new())]
    once: bool,
    /// The machine's folder [default: run]
    #[arg(long, env = "ATALAYA_RUN")]
    folder: Option<PathBuf>,
}

#[derive(Args)]
struct MirrorArgs {
    /// Debian's mirror; the machine's own apt entries tell it otherwise
    #[arg(long)]
    mirror: Option<String>,
    /// Debian's security mirror; the machine's own apt entries tell it otherwise
    #[arg(long)]
    security_mirror: Option<String>,
}

#[derive(Args)]
struct BuildArgs {
    #[command(flatten)]
    mirrors: MirrorArgs,
    /// Fetch tools, packages and boot loader anew, to get Debian's updates
    #[arg(long)]
    refresh: bool,
    /// Build the test image, which holds an agent that runs any command: never for use
    #[arg(long)]
    test: bool,
    /// Build the benchmark's baseline instead: the same root under systemd and nginx. Never for use
    #[arg(long, conflicts_with = "test")]
    baseline: bool,
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
        Sub::Build(args) if args.baseline => {
            let mut progress = Progress::new();
            baseline::build(&project, &args.into(), &mut progress)?;
            eprintln!("{}", progress.summary());
            eprintln!(
                "baseline: {}",
                project
                    .baseline_output()
                    .join(artifacts::DISK_LINK)
                    .display()
            );
        }
        Sub::Build(args) => {
            let mut progress = Progress::new();
            let built = pipeline::build(&project, &args.into(), &mut progress)?;
            eprintln!("{}", progress.summary());
            report(&project, &built);
        }
        Sub::Run(args) => {
            let options = run::Options {
                https_port: args.https_port,
                http_port: args.http_port,
                disk_gib: args.disk,
                memory_mib: args.memory,
                accel: args.accel,
                fresh: args.fresh,
                once: args.once,
                folder: args.folder,
            };
            run::run(&project, &args.build.into(), &options)?;
        }
        Sub::Mirrors(args) => inspect::mirrors(args.mirror, args.security_mirror)?,
        Sub::Inspect(args) => inspect::run(&project, args.test, args.json)?,
    }
    Ok(())
}

impl From<BuildArgs> for pipeline::Options {
    fn from(args: BuildArgs) -> Self {
        Self {
            mirror: args.mirrors.mirror,
            security_mirror: args.mirrors.security_mirror,
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

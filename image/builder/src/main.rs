//! `atalaya-image`: builds the image, boots it, makes update bundles, keeps the keys that sign them, and says what is in an image or a bundle.

mod artifacts;
mod audit;
mod base;
mod baseline;
mod bundle;
mod clock;
mod compose;
mod cpio;
mod crates;
mod digest;
mod error;
mod inspect;
mod keys;
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

use atalaya_bundle::keys::Purpose;
use clap::{Args, Parser, Subcommand};
use progress::Progress;
use project::{Project, Variant};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "atalaya-image",
    version,
    about = "Builds, boots and inspects the image; makes and signs its updates"
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
    /// Says what is in the image that was built, or in an update bundle, and checks every byte of it
    Inspect(InspectArgs),
    /// Makes the update bundle of the image that was built
    Bundle(BundleArgs),
    /// Makes keys, signs on separate machines, and keeps the sets of keys that machines trust (docs/keys.md)
    #[command(subcommand)]
    Keys(KeysSub),
}

/// Which of the images that lie in build/.
#[derive(Args, Clone)]
struct VariantArgs {
    /// The test image, which holds an agent that runs any command: never for use
    #[arg(long)]
    test: bool,
    /// The same content as another version, beside the first: something to update to, in tests and demonstrations
    #[arg(long = "version", value_name = "NUMBER", value_parser = plain_version)]
    number: Option<semver::Version>,
    /// With the next major version of PostgreSQL, from Debian's next release, and the present one's programs to carry data over: for
    /// the test of such an update
    #[arg(long, requires = "test")]
    next_postgresql: bool,
}

#[derive(Args)]
struct BundleArgs {
    #[command(flatten)]
    variant: VariantArgs,
    /// Where to write it [default: beside the image]
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// A secret key to sign with; an image that trusts the development key is signed with that one by itself
    #[arg(long, value_name = "FILE")]
    signing_key: Vec<PathBuf>,
    /// Only write what has to be signed to this small file, for `keys sign` on other machines
    #[arg(long, value_name = "FILE", conflicts_with_all = ["signing_key", "signed", "output"])]
    request: Option<PathBuf>,
    /// A request that was signed elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "signing_key")]
    signed: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum KeysSub {
    /// Makes a secret key on this machine, and its public part beside it (FILE.pub)
    New {
        /// Where to write the secret key; never overwritten
        file: PathBuf,
    },
    /// Proposes the next set of keys, and writes what has to be signed: by the former set's keys and by its own
    Rotate {
        /// How many of the keys have to sign
        #[arg(long)]
        threshold: u32,
        /// Too many of the former set's keys are lost to sign: machines have to be installed anew
        #[arg(long)]
        lost: bool,
        /// The highest number that a set ever had, where it is higher than in the project's list
        #[arg(long, value_name = "NUMBER", requires = "lost")]
        above: Option<u32>,
        /// Where to write the request
        #[arg(long)]
        request: PathBuf,
        /// The public keys of the new set (FILE.pub), those that stay among them
        #[arg(required = true)]
        keys: Vec<PathBuf>,
    },
    /// Shows what a request would have signed, asks, and adds this key's signature to it
    Sign {
        /// From `keys rotate` or `bundle --request`
        request: PathBuf,
        /// The secret key
        #[arg(long)]
        key: PathBuf,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// Takes a set of keys that enough have signed into image/keys.json: images built from then on know it
    Trust {
        /// The request, as each signer gave it back
        #[arg(required = true)]
        requests: Vec<PathBuf>,
    },
}

fn purpose(text: &str) -> Result<Purpose, String> {
    match text {
        "development" => Ok(Purpose::Development),
        "release" => Ok(Purpose::Release),
        _ => Err("it can be development or release".to_owned()),
    }
}

fn plain_version(text: &str) -> Result<semver::Version, String> {
    let version = semver::Version::parse(text).map_err(|error| error.to_string())?;
    if version.pre.is_empty() && version.build.is_empty() {
        Ok(version)
    } else {
        Err("it is three numbers; the stand-in's mark is added by itself".to_owned())
    }
}

#[derive(Args)]
struct InspectArgs {
    #[command(flatten)]
    variant: VariantArgs,
    /// A bundle; without it the image in build/
    bundle: Option<PathBuf>,
    /// Print it as JSON
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
    #[command(flatten)]
    variant: VariantArgs,
    /// Whose updates the image takes: the development key's of this machine, or the keys of image/keys.json
    #[arg(long, env = "KEYS", default_value = "development", value_parser = purpose)]
    keys: Purpose,
    /// Build the benchmark's baseline instead: the same root under systemd and nginx. Never for use
    #[arg(long, conflicts_with_all = ["test", "number"])]
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
        Sub::Inspect(args) => match args.bundle {
            Some(file) => bundle::inspect(&project, &file, args.json)?,
            None => inspect::run(&project, &args.variant.into(), args.json)?,
        },
        Sub::Bundle(args) => {
            let options = bundle::Options {
                variant: args.variant.into(),
                output: args.output,
                signers: match (args.request, args.signed) {
                    (Some(request), _) => bundle::Signers::Asked(request),
                    (None, signed) if !signed.is_empty() => bundle::Signers::Elsewhere(signed),
                    (None, _) => bundle::Signers::Here(args.signing_key),
                },
            };
            let place = bundle::make(&project, &options, &mut Progress::new())?;
            eprintln!("{}", place.display());
        }
        Sub::Keys(KeysSub::New { file }) => keys::new(&file)?,
        Sub::Keys(KeysSub::Rotate {
            threshold,
            lost,
            above,
            request,
            keys,
        }) => {
            let lost = lost.then_some(above.unwrap_or(0));
            keys::rotate(&project, threshold, &keys, lost, &request)?;
        }
        Sub::Keys(KeysSub::Sign { request, key, yes }) => keys::sign(&request, &key, yes)?,
        Sub::Keys(KeysSub::Trust { requests }) => keys::accept(&project, &requests)?,
    }
    Ok(())
}

impl From<VariantArgs> for Variant {
    fn from(args: VariantArgs) -> Self {
        Self {
            test: args.test,
            version: args.number,
            next_postgresql: args.next_postgresql,
        }
    }
}

impl From<BuildArgs> for pipeline::Options {
    fn from(args: BuildArgs) -> Self {
        Self {
            mirror: args.mirrors.mirror,
            security_mirror: args.mirrors.security_mirror,
            refresh: args.refresh,
            variant: args.variant.into(),
            keys: args.keys,
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
    eprintln!(
        "Atalaya {} (build {}), Mattermost {}, PostgreSQL {}: {}",
        release.version,
        release.build,
        release.mattermost.version,
        release.postgresql,
        built.folder.join(artifacts::DISK_LINK).display()
    );
    if built.manifest.update.trust == Purpose::Development {
        eprintln!(
            "This image trusts the development key of this machine ({}): for its updates and those of nobody else.",
            project.keys().display()
        );
    }
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

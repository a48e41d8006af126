//! `atalaya-firstboot`: one subcommand for each one-shot unit. Chooses, and says what happened.
#![allow(clippy::print_stdout)] // a unit's standard output is its log

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use atalaya_firstboot::{
    administrator, first_login, initdb, pg_upgrade, places::Places, render, seed, version_gate,
};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "One-shot steps of Atalaya's start", version)]
struct Arguments {
    #[command(subcommand)]
    step: Step,
}

#[derive(Subcommand)]
enum Step {
    /// Take the configuration from a seed at first boot; set identity and host name at every boot
    Seed,
    /// Write what PostgreSQL and chrony read
    Render,
    /// Write what Mattermost and the edge read: it names the site's address
    RenderSite {
        /// How long to wait for a first address where no site address is configured, in seconds
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Make the database cluster, if there is none
    Initdb(Cluster),
    /// Carry a database of an earlier PostgreSQL over, in the trial of an update
    PgUpgrade {
        #[command(flatten)]
        cluster: Cluster,
        #[arg(long, default_value = "clone")]
        transfer: pg_upgrade::Transfer,
        #[arg(long, default_value = "/tmp")]
        scratch: PathBuf,
        /// There while an update is on trial
        #[arg(long)]
        trial: Option<PathBuf>,
    },
    /// Refuse to start Mattermost on data that something newer has written
    VersionGate,
    /// Make the first administrator, team and probe accounts, then record the release
    Administrator,
    /// Remove for good what the probe has posted
    ProbeClean,
    /// Wait until the first administrator's random password was used, then forget it
    FirstLogin,
}

/// The database cluster, by the major version that names its directory and its programs.
#[derive(clap::Args)]
struct Cluster {
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    programs: PathBuf,
    /// Whose sorting rules: `builtin` (PostgreSQL 17 and later) or `libc`
    #[arg(long, default_value = "builtin")]
    locale_provider: initdb::LocaleProvider,
}

impl From<Cluster> for initdb::Plan {
    fn from(cluster: Cluster) -> Self {
        Self {
            directory: cluster.directory,
            programs: cluster.programs,
            locale_provider: cluster.locale_provider,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.step) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain, once.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(step: Step) -> Result<()> {
    let places = Places::at(Path::new("/"));
    let say = |line: &str| println!("{line}");
    match step {
        Step::Seed => seed::run(&places, &say)?,
        Step::Render => render::machine(&places)?,
        Step::RenderSite { wait } => render::site(&places, Duration::from_secs(wait), &say)?,
        Step::Initdb(cluster) => initdb::run(&cluster.into(), &say)?,
        Step::PgUpgrade {
            cluster,
            transfer,
            scratch,
            trial,
        } => {
            let trial = trial.unwrap_or_else(|| places.held_network());
            let upgrade = pg_upgrade::Upgrade {
                cluster: cluster.into(),
                transfer,
                on_trial: trial.exists(),
                scratch,
            };
            pg_upgrade::run(&upgrade, &say)?;
        }
        Step::VersionGate => version_gate::run(&places, &say)?,
        Step::Administrator => in_runtime(administrator::run(&places, &say))??,
        Step::ProbeClean => in_runtime(administrator::clean(&places, &say))??,
        Step::FirstLogin => in_runtime(first_login::run(&places, &say))??,
    }
    Ok(())
}

/// One thread is enough for one conversation.
fn in_runtime<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work))
}

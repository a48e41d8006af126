//! The program `mattermost` of the stand-in release: the server and its `version` and `db` commands. NOT Mattermost.
#![allow(clippy::print_stdout, reason = "commands print their result")]

use anyhow::Context;
use atalaya_standin::faults::Faults;
use atalaya_standin::store::{migrations, migrations::Migration};
use atalaya_standin::{layout, server};
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Stand-in for the Mattermost server, for tests. This is not Mattermost.
#[derive(Parser)]
#[command(name = "mattermost")]
struct Arguments {
    /// Configuration file, or a postgres:// address of the database that holds it
    #[arg(short, long, global = true)]
    config: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default)
    Server,
    /// Print the version
    Version,
    /// Commands about the database
    Db {
        #[command(subcommand)]
        command: Db,
    },
}

#[derive(Subcommand)]
enum Db {
    /// Migrate the database to this release's schema
    Migrate {
        /// Only list what would be done
        #[arg(long)]
        dry_run: bool,
        #[arg(long)]
        auto_recover: bool,
        #[arg(long)]
        save_plan: bool,
    },
    /// Print the schema version that the database has
    Version {
        /// List every applied migration
        #[arg(long)]
        all: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .context("failed to start the runtime");
    let outcome = runtime.and_then(|r| {
        let outcome = r.block_on(run(arguments));
        // A blocking read that hangs must not hold up the end.
        r.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
            eprintln!("Error: {}", chain.join(": "));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        None | Some(Command::Server) => Ok(server::run(arguments.config).await?),
        Some(Command::Version) => {
            version();
            Ok(())
        }
        Some(Command::Db { command }) => {
            let opened = server::open(&server::config_source(arguments.config)).await?;
            let known = migrations::known(layout::find("migrations").as_deref());
            match command {
                Db::Version { all } => {
                    let connection = opened.pool.take().await?;
                    let applied = migrations::applied(&connection)
                        .await
                        .context("failed to get the database schema version")?;
                    print_versions(&applied, all);
                }
                Db::Migrate { dry_run: true, .. } => {
                    print_plan(&migrations::plan_pending(&opened.pool, &known).await?);
                }
                Db::Migrate { .. } => {
                    let words = std::env::var("MM_STANDIN_FAULTS").unwrap_or_default();
                    migrations::migrate(&opened.pool, &known, &Faults::new(&words, None)).await?;
                    println!("Database successfully migrated");
                }
            }
            Ok(())
        }
    }
}

fn version() {
    let identity = layout::identity();
    println!("Version: {}", identity.version);
    println!("Build Number: {}", identity.version);
    println!("Build Date: {}", identity.build_date);
    println!("Build Hash: {}", identity.build_hash);
    println!("Build Enterprise Ready: false");
}

fn print_versions(applied: &[(i64, String)], all: bool) {
    if all {
        for (version, name) in applied {
            // The vendor's spelling.
            println!("Varsion: {version}, Name: {name}");
        }
    }
    if !all {
        let newest = applied.last().map_or(0, |(version, _)| *version);
        println!("Current database schema version is: {newest}");
    }
}

fn print_plan(pending: &[Migration]) {
    if pending.is_empty() {
        println!("No migrations to apply.");
    } else {
        println!("The following migrations will be applied:");
    }
    for migration in pending {
        println!("{}_{}", migration.version, migration.name);
    }
}

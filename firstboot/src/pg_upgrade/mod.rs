//! `pg-upgrade`: carries a database over to the next major version of PostgreSQL, in the trial of an update.
//!
//! ```text
//! 17 --initdb--> 18.unfinished --pg_upgrade, indexes, statistics--> rename: 18 --> 17 is removed
//! ```
//! All of it happens in the trial's copy of the data, which shares its blocks with the data as they were: what fails or is cut off
//! is thrown away with that copy, so nothing is ever tried a second time on half of a database. It must never run anywhere else.

mod failure;
mod plan;
mod server;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

pub use plan::{Found, Plan, Refusal, plan};

use crate::initdb;
use server::Server;

#[derive(Debug, Clone)]
pub struct Upgrade {
    /// The cluster as this image calls it and how it is made.
    pub cluster: initdb::Plan,
    pub transfer: Transfer,
    pub on_trial: bool,
    /// For sockets and what pg_upgrade leaves behind: nobody else's, and short.
    pub scratch: PathBuf,
}

/// How the tables get into the new cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transfer {
    /// They share their blocks with those of the old one.
    Clone,
    /// Where the file system cannot do that.
    Copy,
}

#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the directory {} is not named by a major version", .0.display())]
    Name(PathBuf),
    #[error("failed to make the new cluster")]
    Cluster(#[from] initdb::InitdbError),
    #[error("failed to start {}", program.display())]
    Start {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "{step} ended with {status}: the database could not be carried over from PostgreSQL {from} to {own}. The data as they were are not \
         touched. All of what was said: atalaya logs -u pg-upgrade"
    )]
    Failed {
        step: &'static str,
        status: std::process::ExitStatus,
        from: u32,
        own: u32,
    },
    #[error("failed to remove the former database {}", path.display())]
    Remove {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Which indexes have to be rebuilt.
const DEPENDENT: &str = include_str!("dependent.sql");

/// Does what there is to do; mostly nothing.
///
/// # Errors
/// Why the database is not this image's. The unit fails with it, and the trial with the unit.
pub fn run(upgrade: &Upgrade, say: &dyn Fn(&str)) -> Result<(), UpgradeError> {
    let directory = &upgrade.cluster.directory;
    let own = number(directory).ok_or_else(|| UpgradeError::Name(directory.clone()))?;
    let installed: Vec<u32> = (numbers(installations(&upgrade.cluster)).into_iter())
        .filter(|(_, place)| place.join("bin/postgres").exists())
        .map(|(number, _)| number)
        .collect();
    let clusters: Vec<u32> = (numbers(directory.parent()).into_iter())
        .filter(|(_, place)| place.join("PG_VERSION").exists())
        .map(|(number, _)| number)
        .collect();
    let found = Found {
        own,
        clusters: &clusters,
        installed: &installed,
        on_trial: upgrade.on_trial,
    };
    match plan(&found)? {
        Plan::Ready => say(&format!("the database is PostgreSQL {own}'s")),
        Plan::Absent => say("there is no database yet"),
        Plan::CarryOver(from) => Work::new(upgrade, from, own).carry_over(say)?,
    }
    Ok(())
}

/// One run.
struct Work<'a> {
    upgrade: &'a Upgrade,
    from: u32,
    own: u32,
    old: PathBuf,
    new: PathBuf,
    processors: String,
}

impl<'a> Work<'a> {
    fn new(upgrade: &'a Upgrade, from: u32, own: u32) -> Self {
        let directory = &upgrade.cluster.directory;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            upgrade,
            from,
            own,
            old: directory.with_file_name(from.to_string()),
            new: initdb::unfinished(directory),
            processors: processors.to_string(),
        }
    }

    fn carry_over(&self, say: &dyn Fn(&str)) -> Result<(), UpgradeError> {
        let (from, own) = (self.from, self.own);
        let begun = Instant::now();
        say(&format!(
            "carrying the database over from PostgreSQL {from} to {own}"
        ));
        initdb::remove_leftovers(&self.new)?;
        initdb::make_cluster(&self.upgrade.cluster, &self.new)?;
        self.transfer()?;
        let server = Server::start(self)?;
        for database in server.ask(
            "postgres",
            "SELECT datname FROM pg_database WHERE datallowconn",
        )? {
            let statements = server.ask(&database, DEPENDENT)?;
            say(&format!(
                "{} indexes of {database} are rebuilt",
                statements.len()
            ));
            server.execute(&database, &statements)?;
        }
        say("statistics are gathered");
        server.analyze()?;
        server.stop()?;
        initdb::publish(&self.new, &self.upgrade.cluster.directory)?;
        // The data as they were lie in the generation before; here nobody reads it any more.
        std::fs::remove_dir_all(&self.old).map_err(|source| UpgradeError::Remove {
            path: self.old.clone(),
            source,
        })?;
        say(&format!(
            "the database is PostgreSQL {own}'s, after {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// pg_upgrade checks before it does anything, and says what stands in the way.
    fn transfer(&self) -> Result<(), UpgradeError> {
        let mut command = self.program("pg_upgrade");
        command
            .args(["--no-sync", "--username=postgres", "--jobs"])
            .arg(&self.processors)
            .arg("--old-datadir")
            .arg(&self.old)
            .arg("--new-datadir")
            .arg(&self.new)
            .arg("--old-bindir")
            .arg(self.old_programs())
            .arg("--new-bindir")
            .arg(&self.upgrade.cluster.programs)
            .arg("--socketdir")
            .arg(&self.upgrade.scratch);
        match self.upgrade.transfer {
            Transfer::Clone => command.arg("--clone"),
            Transfer::Copy => &mut command,
        };
        let done = self.finish("pg_upgrade", command);
        if done.is_err() {
            for line in failure::told(&self.new) {
                eprintln!("{line}");
            }
        }
        done
    }

    fn old_programs(&self) -> PathBuf {
        let installations = installations(&self.upgrade.cluster).unwrap_or(Path::new("/"));
        installations.join(self.from.to_string()).join("bin")
    }

    /// One of the new version, among nothing but what PostgreSQL's programs need.
    fn program(&self, name: &str) -> Command {
        let programs = &self.upgrade.cluster.programs;
        let mut command = Command::new(programs.join(name));
        command
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            // pg_upgrade calls cp.
            .env("PATH", "/usr/bin:/bin")
            .current_dir(&self.upgrade.scratch)
            .stdin(Stdio::null());
        command
    }

    fn finish(&self, step: &'static str, mut command: Command) -> Result<(), UpgradeError> {
        let status = command.status().map_err(|source| UpgradeError::Start {
            program: command.get_program().into(),
            source,
        })?;
        self.verdict(step, status)
    }

    fn verdict(
        &self,
        step: &'static str,
        status: std::process::ExitStatus,
    ) -> Result<(), UpgradeError> {
        if status.success() {
            return Ok(());
        }
        Err(UpgradeError::Failed {
            step,
            status,
            from: self.from,
            own: self.own,
        })
    }
}

/// `bin` lies in a folder that the major version names.
fn installations(plan: &initdb::Plan) -> Option<&Path> {
    plan.programs.parent()?.parent()
}

fn number(path: &Path) -> Option<u32> {
    path.file_name().and_then(OsStr::to_str)?.parse().ok()
}

/// What a number names, in order. Where nothing can be listed there is nothing.
fn numbers(directory: Option<&Path>) -> Vec<(u32, PathBuf)> {
    let entries = directory.and_then(|place| std::fs::read_dir(place).ok());
    let mut found: Vec<(u32, PathBuf)> = (entries.into_iter().flatten().flatten())
        .filter_map(|entry| Some((number(&entry.path())?, entry.path())))
        .collect();
    found.sort();
    found
}

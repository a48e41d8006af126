//! `initdb`: makes the database cluster with Mattermost's role and database, once.
//!
//! Everything is made in a directory beside the final one and comes into force by one rename, so that a cluster is
//! whole or not there. It must never remove or change a directory that has the final name.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Debug, Clone)]
pub struct Plan {
    /// The cluster; its parent must be there and be the caller's.
    pub directory: PathBuf,
    /// `bin` of a PostgreSQL installation.
    pub programs: PathBuf,
    pub locale_provider: LocaleProvider,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LocaleProvider {
    /// PostgreSQL's own rules: a new C library never changes the order of an index.
    Builtin,
    /// The C library's.
    Libc,
}

#[derive(Debug, thiserror::Error)]
pub enum InitdbError {
    #[error(
        "{} is there but is not a database cluster. Nothing in it was changed. Restore it from a backup, or move it away to \
         begin with an empty database", .0.display()
    )]
    NotACluster(PathBuf),
    #[error(
        "the database in {} was made by another major version of PostgreSQL than this image has. No database was made and nothing \
         was changed. Start an image with the PostgreSQL that made it", .0.display()
    )]
    OtherVersion(PathBuf),
    #[error("failed to {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("failed to start {}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{step} ended with {status}; no database was made, the next start tries again")]
    Failed {
        step: &'static str,
        status: std::process::ExitStatus,
    },
    #[error("failed to make the new database durable")]
    Durable(#[from] atalaya_sys::Error),
}

/// Makes the cluster unless it is there.
///
/// # Errors
/// What failed. The next run begins anew.
pub fn run(plan: &Plan, say: &dyn Fn(&str)) -> Result<(), InitdbError> {
    if plan.directory.join("PG_VERSION").exists() {
        say("the database cluster is there");
        return Ok(());
    }
    if plan.directory.symlink_metadata().is_ok() {
        return Err(InitdbError::NotACluster(plan.directory.clone()));
    }
    if let Some(other) = other_cluster(&plan.directory)? {
        return Err(InitdbError::OtherVersion(other));
    }
    let start = Instant::now();
    let unfinished = unfinished(&plan.directory);
    remove_leftovers(&unfinished)?;
    say("making the database cluster");
    make_cluster(plan, &unfinished)?;
    single_user(
        plan,
        &unfinished,
        "template1",
        "making the role and the database",
        "CREATE ROLE mattermost LOGIN;\n\
         CREATE DATABASE mattermost OWNER mattermost TEMPLATE template0;\n\
         REVOKE ALL ON DATABASE mattermost FROM PUBLIC;\n",
    )?;
    single_user(
        plan,
        &unfinished,
        "mattermost",
        "handing over the schema",
        "ALTER SCHEMA public OWNER TO mattermost;\n",
    )?;
    publish(&unfinished, &plan.directory)?;
    say(&format!(
        "made the database cluster in {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// A cluster beside it, in a directory that another version's number names: an empty one would take the place of its data.
fn other_cluster(directory: &Path) -> Result<Option<PathBuf>, InitdbError> {
    let Some(parent) = directory.parent() else {
        return Ok(None);
    };
    let failed = |source| InitdbError::File {
        operation: "list",
        path: parent.to_owned(),
        source,
    };
    for entry in std::fs::read_dir(parent).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(OsStr::to_str);
        if name.is_some_and(|name| name.parse::<u32>().is_ok()) && path.join("PG_VERSION").exists()
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Where a cluster is made.
pub(crate) fn unfinished(directory: &Path) -> PathBuf {
    let mut name = directory
        .file_name()
        .unwrap_or(OsStr::new("cluster"))
        .to_owned();
    name.push(".unfinished");
    directory.with_file_name(name)
}

pub(crate) fn remove_leftovers(unfinished: &Path) -> Result<(), InitdbError> {
    match std::fs::remove_dir_all(unfinished) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(InitdbError::File {
            operation: "remove what an earlier try left in",
            path: unfinished.to_owned(),
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(crate) fn make_cluster(plan: &Plan, unfinished: &Path) -> Result<(), InitdbError> {
    let mut command = program(plan, "initdb");
    command
        .arg("--pgdata")
        .arg(unfinished)
        // Nobody but the owner of the directory is let in, and no password is ever set.
        .args([
            "--username=postgres",
            "--auth=peer",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
        ])
        // Would be `simple` for this locale; Mattermost's search indexes are made for `english`.
        .args([
            "--text-search-config=english",
            "--no-instructions",
            "--no-sync",
        ]);
    match plan.locale_provider {
        LocaleProvider::Builtin => command.arg("--locale-provider=builtin"),
        LocaleProvider::Libc => command.arg("--locale-provider=libc"),
    };
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| InitdbError::Start {
            program: plan.programs.join("initdb"),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    // What it says on the way to success would only alarm: that there are no system locales, that it did not sync.
    for said in [&output.stdout, &output.stderr] {
        eprint!("{}", String::from_utf8_lossy(said));
    }
    Err(InitdbError::Failed {
        step: "initdb",
        status: output.status,
    })
}

/// Runs SQL, a statement a line, in a server that listens nowhere.
fn single_user(
    plan: &Plan,
    cluster: &Path,
    database: &str,
    step: &'static str,
    sql: &str,
) -> Result<(), InitdbError> {
    let mut command = program(plan, "postgres");
    command
        .arg("--single")
        // -F: everything is synced at once, before the rename. Without exit_on_error an error is only printed.
        .args([
            "-F",
            "-c",
            "exit_on_error=true",
            "-c",
            "log_checkpoints=off",
            "-D",
        ])
        .arg(cluster)
        .arg(database)
        .stdin(Stdio::piped())
        // The prompt; errors go to standard error.
        .stdout(Stdio::null());
    finish(step, &plan.programs.join("postgres"), command.spawn(), sql)
}

fn program(plan: &Plan, name: &str) -> Command {
    let mut command = Command::new(plan.programs.join(name));
    // No setting of the surroundings may end up in the cluster.
    command
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("PATH", &plan.programs);
    command
}

fn finish(
    step: &'static str,
    program: &Path,
    child: io::Result<std::process::Child>,
    input: &str,
) -> Result<(), InitdbError> {
    let started = |source| InitdbError::Start {
        program: program.to_owned(),
        source,
    };
    let mut child = child.map_err(started)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that dies early closes the pipe; its exit status says more than this error.
        drop(pipe.write_all(input.as_bytes()));
    }
    let status = child.wait().map_err(started)?;
    if status.success() {
        Ok(())
    } else {
        Err(InitdbError::Failed { step, status })
    }
}

/// After this the cluster is there, whatever happens. The one sync stands for all those that the programs were told to
/// leave out: file by file they take most of the time.
pub(crate) fn publish(unfinished: &Path, directory: &Path) -> Result<(), InitdbError> {
    let file = |operation, path: &Path, source| InitdbError::File {
        operation,
        path: path.to_owned(),
        source,
    };
    let handle =
        std::fs::File::open(unfinished).map_err(|source| file("open", unfinished, source))?;
    nix::unistd::syncfs(&handle)
        .map_err(|source| file("sync the file system of", unfinished, source.into()))?;
    std::fs::rename(unfinished, directory)
        .map_err(|source| file("rename into place", directory, source))?;
    if let Some(parent) = directory.parent() {
        atalaya_sys::durable::sync_directory(parent)?;
    }
    Ok(())
}

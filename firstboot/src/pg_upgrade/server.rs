//! The new cluster's server while the database is being carried over: nobody else can reach it, and nothing need be durable yet.

use std::process::{Command, Stdio};

use super::{UpgradeError, Work};

pub struct Server<'a> {
    work: &'a Work<'a>,
    is_up: bool,
}

/// pg_ctl gives up waiting after so long, in seconds; the supervisor looks at progress.
const LIMIT: &str = "--timeout=86400";

impl<'a> Server<'a> {
    pub fn start(work: &'a Work<'a>) -> Result<Self, UpgradeError> {
        // -F: all is synced at once, before the new cluster gets its name. Memory is for the indexes: nothing else runs yet.
        let options = format!(
            "-F -c listen_addresses='' -c unix_socket_directories='{}' -c autovacuum=off \
             -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=1GB -c maintenance_work_mem=256MB",
            work.upgrade.scratch.display()
        );
        let mut command = control(work, "start");
        command.arg("--options").arg(options);
        work.finish("the start of the new server", command)?;
        Ok(Self { work, is_up: true })
    }

    /// Each row's only column.
    pub fn ask(&self, database: &str, query: &str) -> Result<Vec<String>, UpgradeError> {
        let mut command = self.psql(database);
        command.args([
            "--tuples-only",
            "--no-align",
            "--record-separator-zero",
            "--command",
        ]);
        let output = command
            .arg(query)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|source| UpgradeError::Start {
                program: command.get_program().into(),
                source,
            })?;
        self.work.verdict("a query", output.status)?;
        let rows = output.stdout.split(|byte| *byte == 0);
        Ok(rows
            .map(|row| String::from_utf8_lossy(row).into_owned())
            .filter(|row| !row.is_empty())
            .collect())
    }

    /// One after the other, each shown before it runs.
    pub fn execute(&self, database: &str, statements: &[String]) -> Result<(), UpgradeError> {
        let mut command = self.psql(database);
        command.arg("--echo-queries");
        for statement in statements {
            command.arg("--command").arg(statement);
        }
        if statements.is_empty() {
            return Ok(());
        }
        self.work.finish("the rebuilding of an index", command)
    }

    /// Not in stages: nobody is served meanwhile.
    pub fn analyze(&self) -> Result<(), UpgradeError> {
        let mut command = self.client("vacuumdb");
        command
            .args(["--all", "--analyze-only", "--jobs"])
            .arg(&self.work.processors);
        self.work.finish("vacuumdb", command)
    }

    pub fn stop(mut self) -> Result<(), UpgradeError> {
        self.is_up = false;
        let mut command = control(self.work, "stop");
        command.arg("--mode=fast");
        self.work.finish("the stop of the new server", command)
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = self.client("psql");
        command.args([
            "--no-psqlrc",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--dbname",
        ]);
        command.arg(database);
        command
    }

    fn client(&self, name: &str) -> Command {
        let mut command = self.work.program(name);
        command
            .args(["--no-password", "--username=postgres", "--host"])
            .arg(&self.work.upgrade.scratch);
        command
    }
}

fn control(work: &Work<'_>, what: &str) -> Command {
    let mut command = work.program("pg_ctl");
    command
        .arg(what)
        .args(["--wait", "--silent", LIMIT, "--pgdata"])
        .arg(&work.new);
    command
}

/// After an error: the cluster is thrown away.
impl Drop for Server<'_> {
    fn drop(&mut self) {
        if self.is_up {
            let mut command = control(self.work, "stop");
            command.arg("--mode=immediate");
            drop(self.work.finish("the stop of the new server", command));
        }
    }
}

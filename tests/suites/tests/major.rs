//! An update to the next major version of PostgreSQL: the database is carried over in the trial, and comes back where that fails or
//! where somebody goes back. PostgreSQL 17 and 18 are real: the second image has both (`atalaya-image build --next-postgresql`).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use atalaya_suites::appliance::{Appliance, BOOT, FIRST_BOOT, run, served, wait_served};
use atalaya_suites::download::Download;
use atalaya_suites::place::{Image, Place};
use atalaya_suites::story::{self, Step};
use atalaya_suites::updating::{last_update, log_in, version, version_of};
use atalaya_vm::Vm;

const DISK: u64 = 12;
/// A whole system is fetched, written, read back and compared, on an emulated machine; then it restarts.
const INSTALL: Duration = Duration::from_secs(900);
/// A trial in which a database is carried over, and a boot.
const TRIAL: Duration = Duration::from_secs(900);
const POST: &str = "written by PostgreSQL 17";

struct Major {
    one: Image,
    two: Image,
    appliance: Appliance,
    vm: Vm,
    channel: String,
}

fn main() -> ExitCode {
    let step = |name, run: fn(&mut Major) -> anyhow::Result<()>| Step { name, run };
    let steps = [
        step(
            "a_database_that_cannot_be_carried_over_comes_back_with_the_reason",
            cannot_be_carried_over,
        ),
        step(
            "the_next_postgresql_takes_the_database_over_and_a_rollback_gives_it_back",
            over_and_back,
        ),
    ];
    story::run("major", begin, &steps)
}

fn begin() -> anyhow::Result<Major> {
    let place = Place::from_environment();
    let (one, two) = (place.test_image()?, place.next_postgresql_image()?);
    let appliance = Appliance::new(&place, &one, DISK, true)?
        .seeded()?
        // The bundle is fetched from this host.
        .change(|machine| machine.isolated(false));
    let vm = appliance.start()?;
    let state = wait_served(&vm, FIRST_BOOT)?;
    let client = log_in(&appliance, &state)?;
    let channel = client.make_channel("major")?;
    client.make_post(&channel, POST, &[])?;
    vm.agent()?.wait_ready(BOOT)?;
    Ok(Major {
        one,
        two,
        appliance,
        vm,
        channel,
    })
}

impl Major {
    fn install(&self, again: bool) -> anyhow::Result<()> {
        let download = Download::start(&self.two.file("atalaya.bundle")?)?;
        let address = download.address();
        let mut argv = vec![
            "/usr/bin/atalaya",
            "update",
            "install",
            "--yes",
            "--no-wait",
        ];
        if again {
            argv.push("--again");
        }
        argv.push(&address);
        let mark = self.vm.qmp().mark();
        run(&self.vm, &argv)?;
        self.vm
            .wait_reset("the machine to restart into the new version", mark, INSTALL)?;
        Ok(())
    }

    /// Users are in, on this version, and the post is there.
    fn wait_version(&self, image: &Image) -> anyhow::Result<()> {
        let wanted = version_of(image)?;
        let state = self.vm.wait_status(
            &format!("version {wanted} to admit users"),
            TRIAL,
            |state| version(state) == wanted && served(state),
        )?;
        self.vm.agent()?.wait_ready(BOOT)?;
        let messages = log_in(&self.appliance, &state)?.messages(&self.channel)?;
        ensure!(
            messages.contains(&POST.to_owned()),
            "the post is gone; there are {messages:?}"
        );
        Ok(())
    }

    /// What the database says, asked with the programs of this major version.
    fn sql(&self, major: u32, text: &str) -> anyhow::Result<String> {
        let psql = format!("/usr/lib/postgresql/{major}/bin/psql");
        let said = run(
            &self.vm,
            &[
                &psql,
                "-X",
                "-A",
                "-t",
                "-U",
                "postgres",
                "-h",
                "/run/postgresql",
                "-d",
                "mattermost",
                "-c",
                text,
            ],
        )?;
        Ok(said.trim().to_owned())
    }

    fn has(&self, path: &str) -> bool {
        self.vm.agent().is_ok_and(|agent| agent.stat(path).is_ok())
    }
}

/// pg_upgrade refuses a column whose content is the number of something in the old cluster: a check of its own, before it changes anything.
fn cannot_be_carried_over(of: &mut Major) -> anyhow::Result<()> {
    of.sql(17, "CREATE TABLE odd (named regproc)")?;
    of.install(false)?;
    of.wait_version(&of.one)?;
    let last = last_update(&of.vm)?;
    let reason = last["reason"].to_string();
    ensure!(
        last["outcome"] == "rolled_back"
            && reason.contains("pg-upgrade")
            && reason.contains("public.odd.named"),
        "the history ends with {last}"
    );
    of.sql(17, "DROP TABLE odd")?;
    Ok(())
}

fn over_and_back(of: &mut Major) -> anyhow::Result<()> {
    // The step before may not have been chosen.
    let again = (last_update(&of.vm)).is_ok_and(|last| last["outcome"] == "rolled_back");
    of.install(again)?;
    of.wait_version(&of.two)?;
    let version = of.sql(18, "SHOW server_version_num")?;
    ensure!(version.starts_with("18"), "the server is {version}");
    let statistics = of.sql(
        18,
        "SELECT count(*) > 0 FROM pg_stats WHERE schemaname = 'public'",
    )?;
    ensure!(statistics == "t", "there are no statistics");
    let last = last_update(&of.vm)?;
    ensure!(last["outcome"] == "opened", "the history ends with {last}");
    let log = run(&of.vm, &["/usr/bin/atalaya", "logs", "-u", "pg-upgrade"])?;
    ensure!(
        log.contains("Cloning user relation files") && log.contains("REINDEX INDEX"),
        "pg-upgrade said:\n{log}"
    );
    // A trial that failed has left its own.
    let generation = if again { 3 } else { 2 };
    let of_generation =
        |number: u32, major: u32| of.has(&format!("/data/gen/{number}/postgres/{major}"));
    ensure!(of_generation(1, 17), "the data as they were are gone");
    ensure!(
        of_generation(generation, 18) && !of_generation(generation, 17),
        "generation {generation} has not just the new database"
    );

    let mark = of.vm.qmp().mark();
    of.vm
        .agent()?
        .launch(&["/usr/bin/atalaya", "update", "rollback", "--yes"])?;
    of.vm
        .wait_reset("the machine to restart into the old version", mark, INSTALL)?;
    of.wait_version(&of.one)?;
    let version = of.sql(17, "SHOW server_version_num")?;
    ensure!(version.starts_with("17"), "the server is {version}");
    Ok(())
}

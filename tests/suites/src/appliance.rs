//! An appliance in a machine: image copied, seeded, booted until users are admitted.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use atalaya_vm::{Cache, Machine, Snapshot, Vm, free_port};
use tempfile::TempDir;

use crate::client::Client;
use crate::disk::copy_grown;
use crate::place::{Image, Place};

/// A first boot makes the database and every secret. Under TCG with both processors busy it takes about a minute.
pub const FIRST_BOOT: Duration = Duration::from_secs(480);
/// A later boot.
pub const BOOT: Duration = Duration::from_secs(300);
/// From the power button to the end of QEMU.
pub const POWER_OFF: Duration = Duration::from_secs(90);
/// A unit that was killed is back, and users are admitted.
pub const RECOVERY: Duration = Duration::from_secs(60);

/// The administrator's name in the seed.
pub const ADMINISTRATOR: &str = "chief";
/// The administrator's password in the seed.
pub const PASSWORD: &str = "Chief-Passw0rd-of-the-tests";

const GIB: u64 = 1 << 30;

/// An image's copy on a disk of its own, with ports of its own: it can be booted again and again.
#[derive(Debug)]
pub struct Appliance {
    directory: TempDir,
    machine: Machine,
    https_port: u16,
    http_port: u16,
}

impl Appliance {
    /// Copies the image to a disk of `gib` GiB.
    pub fn new(place: &Place, image: &Image, gib: u64, agent: bool) -> anyhow::Result<Appliance> {
        let directory = directory()?;
        let disk = directory.path().join("disk.raw");
        copy_grown(&image.disk()?, &disk, gib * GIB)?;
        let (https_port, http_port) = (free_port()?, free_port()?);
        let machine = Machine::new(place.tools()?, disk)
            .accel(place.accel()?)
            .cache(Cache::Unsafe)
            .isolated(true)
            .agent(agent)
            .https_port(https_port)
            .http_port(http_port);
        Ok(Appliance {
            directory,
            machine,
            https_port,
            http_port,
        })
    }

    /// Gives it a seed by fw_cfg: its address as this host sees it, and the tests' administrator.
    pub fn seeded(self) -> anyhow::Result<Appliance> {
        let seed = self.seed();
        self.seeded_with(&seed)
    }

    /// Gives it this seed by fw_cfg.
    pub fn seeded_with(mut self, seed: &str) -> anyhow::Result<Appliance> {
        let path = self.directory.path().join("seed.toml");
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(seed.as_bytes())
            .context("failed to write the seed")?;
        self.machine = self.machine.seed(path);
        Ok(self)
    }

    /// A seed for this machine.
    #[must_use]
    pub fn seed(&self) -> String {
        format!(
            "hostname = \"watchtower\"\n[site]\naddress = \"https://localhost:{}\"\n[administrator]\n\
             username = \"{ADMINISTRATOR}\"\nemail = \"chief@example.com\"\npassword = \"{PASSWORD}\"\n",
            self.https_port
        )
    }

    /// The port of 127.0.0.1 that leads to its 443.
    #[must_use]
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port of 127.0.0.1 that leads to its 80.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Changes the machine before it is booted.
    #[must_use]
    pub fn change(mut self, change: impl FnOnce(Machine) -> Machine) -> Appliance {
        self.machine = change(self.machine);
        self
    }

    /// Described as this one, with ports and a folder of its own, but without a disk.
    pub fn another(&self) -> anyhow::Result<Appliance> {
        let directory = directory()?;
        let (https_port, http_port) = (free_port()?, free_port()?);
        let machine = self.machine.clone().https_port(https_port);
        Ok(Appliance {
            directory,
            machine: machine.http_port(http_port),
            https_port,
            http_port,
        })
    }

    /// What it is described as, to start it with something of its own.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine.clone()
    }

    /// Its disk. To be changed only while the machine is off.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.path().join("disk.raw")
    }

    /// A place for files that go when the appliance goes.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Switches it on.
    pub fn start(&self) -> anyhow::Result<Vm> {
        Ok(self.machine.clone().start()?)
    }

    /// A client of it, when it has reported its CA. It asks for the site that is reported, as a person types it.
    pub fn client(&self, state: &Snapshot) -> anyhow::Result<Client> {
        let ca = state.ca.as_ref().context("it has not reported its CA")?;
        match &state.site {
            Some(site) => Client::of_site(site, self.https_port, self.http_port, &ca.pem),
            None => Client::new(self.https_port, self.http_port, &ca.pem),
        }
    }
}

fn directory() -> std::io::Result<TempDir> {
    tempfile::Builder::new().prefix("atalaya-suite-").tempdir()
}

/// Waits until users are admitted and everything that a client needs is reported.
pub fn wait_served(vm: &Vm, limit: Duration) -> anyhow::Result<Snapshot> {
    Ok(vm.wait_status("users to be admitted", limit, served)?)
}

/// Users are admitted and everything that a client needs is reported.
#[must_use]
pub fn served(state: &Snapshot) -> bool {
    state.boot.is_some() && state.ca.is_some() && state.admit
}

/// Runs a program in the machine and gives its output; refused when its exit status is not 0.
pub fn run(vm: &Vm, argv: &[&str]) -> anyhow::Result<String> {
    let output = vm.agent()?.exec(argv)?;
    ensure!(
        output.code == Some(0),
        "{argv:?} ended with {:?}: {}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    Ok(output.stdout)
}

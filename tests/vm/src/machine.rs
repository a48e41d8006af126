//! The description of a machine: what it has and where it starts from. It does nothing but hold it.

use std::path::PathBuf;

use crate::{Accel, Disk, ToolsTree, Vm, VmError};

/// What the host does with the guest's flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// They reach the host's disk.
    Writeback,
    /// They are ignored: faster, and safe for a disk that is thrown away after the host's own crash.
    Unsafe,
}

/// The description of a virtual machine: a disk, and defaults that fit the appliance.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(crate) tools: ToolsTree,
    pub(crate) disk: Disk,
    pub(crate) extra_disks: Vec<Disk>,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u32,
    pub(crate) accel: Accel,
    pub(crate) cache: Cache,
    pub(crate) https_port: Option<u16>,
    pub(crate) http_port: Option<u16>,
    pub(crate) isolated: bool,
    pub(crate) display: bool,
    pub(crate) agent: bool,
    pub(crate) watchdog: bool,
    pub(crate) seed: Option<PathBuf>,
    pub(crate) smbios_strings: Vec<String>,
    pub(crate) kernel_arguments: Vec<String>,
    pub(crate) variables: Option<PathBuf>,
    pub(crate) console: Option<PathBuf>,
    pub(crate) capture: Option<PathBuf>,
    pub(crate) stick: Option<PathBuf>,
}

impl Machine {
    /// A machine that boots `disk`, a raw file: 2 processors, 1536 MiB, TCG, free ports, network to the outside.
    pub fn new(tools: ToolsTree, disk: impl Into<PathBuf>) -> Machine {
        Machine {
            tools,
            disk: Disk::new(disk),
            extra_disks: Vec::new(),
            memory_mib: 1536,
            cpus: 2,
            accel: Accel::Tcg,
            cache: Cache::Writeback,
            https_port: None,
            http_port: None,
            isolated: false,
            display: false,
            agent: false,
            watchdog: false,
            seed: None,
            smbios_strings: Vec::new(),
            kernel_arguments: Vec::new(),
            variables: None,
            console: None,
            capture: None,
            stick: None,
        }
    }

    /// Boots another disk than the one it was described with.
    #[must_use]
    pub fn boot_disk(mut self, disk: Disk) -> Machine {
        self.disk = disk;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Machine {
        self.memory_mib = memory_mib;
        self
    }

    /// Number of processors.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Machine {
        self.cpus = cpus;
        self
    }

    /// Which accelerator; see [`crate::detect_accel`].
    #[must_use]
    pub fn accel(mut self, accel: Accel) -> Machine {
        self.accel = accel;
        self
    }

    /// What happens to the guest's flushes, of all disks.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Machine {
        self.cache = cache;
        self
    }

    /// The port of 127.0.0.1 that leads to the guest's 443. Default: a free one.
    #[must_use]
    pub fn https_port(mut self, port: u16) -> Machine {
        self.https_port = Some(port);
        self
    }

    /// The port of 127.0.0.1 that leads to the guest's 80. Default: a free one.
    #[must_use]
    pub fn http_port(mut self, port: u16) -> Machine {
        self.http_port = Some(port);
        self
    }

    /// The guest reaches nothing outside; the two ports above still lead in.
    #[must_use]
    pub fn isolated(mut self, isolated: bool) -> Machine {
        self.isolated = isolated;
        self
    }

    /// A screen, for [`Vm::screenshot`].
    #[must_use]
    pub fn display(mut self, display: bool) -> Machine {
        self.display = display;
        self
    }

    /// The port of the agent that a test image has.
    #[must_use]
    pub fn agent(mut self, agent: bool) -> Machine {
        self.agent = agent;
        self
    }

    /// A hardware watchdog (i6300esb), which the driver says to have bitten on the boot after it did.
    #[must_use]
    pub fn watchdog(mut self, watchdog: bool) -> Machine {
        self.watchdog = watchdog;
        self
    }

    /// A file with an `appliance.toml` that is given to the guest by fw_cfg. QEMU reads it once, at its start.
    #[must_use]
    pub fn seed(mut self, path: impl Into<PathBuf>) -> Machine {
        self.seed = Some(path.into());
        self
    }

    /// One more string of SMBIOS type 11, `KEY=VALUE`.
    #[must_use]
    pub fn smbios_string(mut self, string: impl Into<String>) -> Machine {
        self.smbios_strings.push(string.into());
        self
    }

    /// One more argument on the kernel's command line, by systemd-stub's SMBIOS hook.
    #[must_use]
    pub fn kernel_argument(mut self, argument: impl Into<String>) -> Machine {
        self.kernel_arguments.push(argument.into());
        self
    }

    /// One more disk.
    #[must_use]
    pub fn extra_disk(mut self, disk: Disk) -> Machine {
        self.extra_disks.push(disk);
        self
    }

    /// A file for the UEFI variables that outlives the machine; made from the firmware's template when it is not
    /// there. Default: a temporary one.
    #[must_use]
    pub fn variables(mut self, path: impl Into<PathBuf>) -> Machine {
        self.variables = Some(path.into());
        self
    }

    /// A file for the console's log that outlives the machine; appended to. Default: a temporary one.
    #[must_use]
    pub fn console(mut self, path: impl Into<PathBuf>) -> Machine {
        self.console = Some(path.into());
        self
    }

    /// A file for every packet that goes in or out, for [`crate::Packets`].
    #[must_use]
    pub fn capture(mut self, path: impl Into<PathBuf>) -> Machine {
        self.capture = Some(path.into());
        self
    }

    /// A USB stick with the content of this raw file, which [`Vm::plug_in`] puts in.
    #[must_use]
    pub fn stick(mut self, path: impl Into<PathBuf>) -> Machine {
        self.stick = Some(path.into());
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Vm, VmError> {
        Vm::start(self)
    }
}

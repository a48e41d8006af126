//! The description of a machine, and the arguments of QEMU that follow from it (a pure function, shown by tests).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::{Accel, ToolsTree, Vm, VmError};

/// The name of the virtio-serial port on which the appliance reports its state.
pub(crate) const STATUS_PORT: &str = "atalaya.status";
/// The name of the agent's virtio-serial port. Only a test image has the agent.
pub(crate) const AGENT_PORT: &str = "atalaya.agent";
/// Where the appliance looks for a seed among QEMU's firmware configuration.
const SEED_FW_CFG: &str = "opt/atalaya/appliance.toml";

/// What the host does with the guest's flushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// They reach the host's disk.
    Writeback,
    /// They are ignored: faster, and safe for a disk that is thrown away after the host's own crash.
    Unsafe,
}

/// A raw disk.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
    read_only: bool,
}

impl Disk {
    /// A disk that the guest may write.
    pub fn new(path: impl Into<PathBuf>) -> Disk {
        Disk {
            path: path.into(),
            read_only: false,
        }
    }

    /// A disk that the guest can only read.
    pub fn read_only(path: impl Into<PathBuf>) -> Disk {
        Disk {
            path: path.into(),
            read_only: true,
        }
    }
}

/// The description of a virtual machine: a disk, and defaults that fit the appliance.
#[derive(Debug, Clone)]
pub struct Machine {
    tools: ToolsTree,
    disk: Disk,
    extra_disks: Vec<Disk>,
    memory_mib: u32,
    cpus: u32,
    accel: Accel,
    cache: Cache,
    https_port: Option<u16>,
    http_port: Option<u16>,
    isolated: bool,
    display: bool,
    agent: bool,
    seed: Option<PathBuf>,
    smbios_strings: Vec<String>,
    kernel_arguments: Vec<String>,
    variables: Option<PathBuf>,
    console: Option<PathBuf>,
}

impl Machine {
    /// A machine that boots `disk` (raw): 2 processors, 1536 MiB, TCG, free ports, network to the outside.
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
            seed: None,
            smbios_strings: Vec::new(),
            kernel_arguments: Vec::new(),
            variables: None,
            console: None,
        }
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

    /// Starts it.
    pub fn start(self) -> Result<Vm, VmError> {
        Vm::start(self)
    }

    pub(crate) fn tools(&self) -> &ToolsTree {
        &self.tools
    }

    pub(crate) fn has_agent(&self) -> bool {
        self.agent
    }

    pub(crate) fn wanted_ports(&self) -> (Option<u16>, Option<u16>) {
        (self.https_port, self.http_port)
    }

    pub(crate) fn variables_path(&self) -> Option<&Path> {
        self.variables.as_deref()
    }

    pub(crate) fn console_path(&self) -> Option<&Path> {
        self.console.as_deref()
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(&self, place: &Place) -> Vec<OsString> {
        let mut list = Arguments::default();
        list.add([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-name",
            "atalaya",
        ]);
        list.add([
            "-machine",
            "q35",
            "-smp",
            &self.cpus.to_string(),
            "-m",
            &format!("{}M", self.memory_mib),
        ]);
        match self.accel {
            Accel::Kvm => list.add(["-accel", "kvm", "-cpu", "host"]),
            Accel::Tcg => list.add(["-accel", "tcg,thread=multi", "-cpu", "max"]),
        }
        // Started halted: nothing the guest says is lost before the sockets are connected.
        list.add(["-S"]);
        list.option(
            "-drive",
            "if=pflash,unit=0,format=raw,readonly=on,file=",
            &place.firmware_code,
            "",
        );
        list.option(
            "-drive",
            "if=pflash,unit=1,format=raw,file=",
            &place.variables,
            "",
        );
        list.add(["-device", "virtio-rng-pci"]);
        if self.display {
            // The UEFI firmware has its own driver and needs none from the card.
            list.add(["-device", "VGA,romfile="]);
        }
        self.add_disks(&mut list);
        self.add_network(&mut list, place);
        self.add_ports(&mut list, place);
        self.add_strings(&mut list);
        if let Some(seed) = &self.seed {
            list.option("-fw_cfg", &format!("name={SEED_FW_CFG},file="), seed, "");
        }
        list.words
    }

    fn add_disks(&self, list: &mut Arguments) {
        let cache = match self.cache {
            Cache::Writeback => "writeback",
            Cache::Unsafe => "unsafe",
        };
        for (number, disk) in std::iter::once(&self.disk)
            .chain(&self.extra_disks)
            .enumerate()
        {
            let access = if disk.read_only { ",readonly=on" } else { "" };
            let head = format!(
                "if=none,id=disk{number},format=raw,cache={cache},discard=unmap,detect-zeroes=off{access},file="
            );
            list.option("-drive", &head, &disk.path, "");
            let boot = if number == 0 { ",bootindex=1" } else { "" };
            list.add([
                "-device",
                &format!("virtio-blk-pci,drive=disk{number}{boot}"),
            ]);
        }
    }

    fn add_network(&self, list: &mut Arguments, place: &Place) {
        let restrict = if self.isolated { ",restrict=on" } else { "" };
        let forward = |host: u16, guest: u16| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
        let (https, http) = (forward(place.https_port, 443), forward(place.http_port, 80));
        list.add(["-netdev", &format!("user,id=net0{restrict}{https}{http}")]);
        // No option ROM: this machine does not boot from the network.
        list.add(["-device", "virtio-net-pci,netdev=net0,romfile="]);
    }

    fn add_ports(&self, list: &mut Arguments, place: &Place) {
        list.option(
            "-chardev",
            "file,id=console,append=on,path=",
            &place.console,
            "",
        );
        list.add(["-serial", "chardev:console"]);
        list.option(
            "-chardev",
            "socket,id=qmp,server=on,wait=off,path=",
            &place.qmp,
            "",
        );
        list.add(["-mon", "chardev=qmp,mode=control"]);
        list.add(["-device", "virtio-serial-pci"]);
        list.option(
            "-chardev",
            "socket,id=status,server=on,wait=off,path=",
            &place.status,
            "",
        );
        list.add([
            "-device",
            &format!("virtserialport,chardev=status,name={STATUS_PORT}"),
        ]);
        if self.agent {
            list.option(
                "-chardev",
                "socket,id=agent,server=on,wait=off,path=",
                &place.agent,
                "",
            );
            list.add([
                "-device",
                &format!("virtserialport,chardev=agent,name={AGENT_PORT}"),
            ]);
        }
    }

    fn add_strings(&self, list: &mut Arguments) {
        let extra = match self.kernel_arguments.as_slice() {
            [] => None,
            some => Some(format!(
                "io.systemd.stub.kernel-cmdline-extra={}",
                some.join(" ")
            )),
        };
        for string in self.smbios_strings.iter().chain(&extra) {
            list.option("-smbios", "type=11,value=", string, "");
        }
    }
}

/// Where the pieces of one running machine are.
#[derive(Debug)]
pub(crate) struct Place {
    pub firmware_code: PathBuf,
    pub variables: PathBuf,
    pub console: PathBuf,
    pub qmp: PathBuf,
    pub status: PathBuf,
    pub agent: PathBuf,
    pub https_port: u16,
    pub http_port: u16,
}

#[derive(Default)]
struct Arguments {
    words: Vec<OsString>,
}

impl Arguments {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.words.extend(words.iter().map(OsString::from));
    }

    /// `switch head value tail`; a comma in the value is doubled, as QEMU wants it.
    fn option(&mut self, switch: &str, head: &str, value: impl AsRef<OsStr>, tail: &str) {
        let value = value.as_ref().to_string_lossy().replace(',', ",,");
        self.words.push(switch.into());
        self.words.push(format!("{head}{value}{tail}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(change: impl FnOnce(Machine) -> Machine) -> String {
        let dir = tempfile::tempdir().unwrap();
        let loader = dir.path().join("usr/lib/x86_64-linux-gnu");
        std::fs::create_dir_all(&loader).unwrap();
        std::fs::File::create(loader.join("ld-linux-x86-64.so.2")).unwrap();
        let machine = change(Machine::new(ToolsTree::at(dir.path()).unwrap(), "/disk"));
        let place = Place {
            firmware_code: "/code".into(),
            variables: "/vars".into(),
            console: "/console".into(),
            qmp: "/qmp".into(),
            status: "/status".into(),
            agent: "/agent".into(),
            https_port: 8443,
            http_port: 8080,
        };
        machine
            .arguments(&place)
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn only_loopback_ports_lead_in() {
        let line = line(|machine| machine.isolated(true));
        assert!(line.contains("user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8443-:443,hostfwd=tcp:127.0.0.1:8080-:80"));
    }

    #[test]
    fn the_agent_port_is_there_only_when_asked_for() {
        assert!(!line(|machine| machine).contains("agent"));
        assert!(
            line(|machine| machine.agent(true))
                .contains("virtserialport,chardev=agent,name=atalaya.agent")
        );
    }

    #[test]
    fn kernel_arguments_share_one_string_and_commas_are_doubled() {
        let line = line(|machine| machine.kernel_argument("a=1,2").kernel_argument("b"));
        assert!(
            line.contains("-smbios type=11,value=io.systemd.stub.kernel-cmdline-extra=a=1,,2 b")
        );
    }

    #[test]
    fn the_seed_goes_by_fw_cfg() {
        let line = line(|machine| machine.seed("/run/seed.toml"));
        assert!(line.contains("-fw_cfg name=opt/atalaya/appliance.toml,file=/run/seed.toml"));
    }

    #[test]
    fn the_first_disk_is_booted_and_others_follow() {
        let line = line(|machine| machine.extra_disk(Disk::read_only("/seed")));
        assert!(line.contains("drive=disk0,bootindex=1"));
        assert!(line.contains("id=disk1,format=raw,cache=writeback,discard=unmap,detect-zeroes=off,readonly=on,file=/seed"));
    }
}

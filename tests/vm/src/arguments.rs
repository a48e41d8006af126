//! The arguments of QEMU that follow from the description of a machine: a pure function.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{Accel, Cache, Machine, disk};

/// The name of the virtio-serial port on which the appliance reports its state.
const STATUS_PORT: &str = "atalaya.status";
/// The name of the agent's virtio-serial port. Only a test image has the agent.
const AGENT_PORT: &str = "atalaya.agent";
/// Where the appliance looks for a seed among QEMU's firmware configuration.
const SEED_FW_CFG: &str = "opt/atalaya/appliance.toml";

impl Machine {
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
        if self.watchdog {
            list.add(["-device", "i6300esb", "-action", "watchdog=reset"]);
        }
        if self.display {
            // The UEFI firmware has its own driver and needs none from the card.
            list.add(["-device", "VGA,romfile="]);
        }
        self.add_disks(&mut list);
        self.add_stick(&mut list);
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
            match &disk.place {
                disk::Place::File(path) => list.option("-drive", &head, path, ""),
                disk::Place::ThrownAway(path) => list.option("-drive", &head, path, ",snapshot=on"),
                disk::Place::Recorded(path, log) => {
                    let node = recorded(number, path, log, self.cache);
                    list.add(["-blockdev", &node]);
                }
                disk::Place::Served(socket) => {
                    list.option("-drive", &format!("{head}nbd+unix:///?socket="), socket, "");
                }
            }
            let boot = if number == 0 { ",bootindex=1" } else { "" };
            list.add([
                "-device",
                &format!("virtio-blk-pci,drive=disk{number}{boot}"),
            ]);
        }
    }

    /// The port, and what is going to be plugged into it.
    fn add_stick(&self, list: &mut Arguments) {
        if let Some(path) = &self.stick {
            let head = "if=none,id=stick,format=raw,readonly=on,file=";
            list.option("-drive", head, path, "");
            list.add(["-device", "qemu-xhci,id=usb"]);
        }
    }

    fn add_network(&self, list: &mut Arguments, place: &Place) {
        let restrict = if self.isolated { ",restrict=on" } else { "" };
        let forward = |host: u16, guest: u16| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
        let (https, http) = (forward(place.https_port, 443), forward(place.http_port, 80));
        list.add(["-netdev", &format!("user,id=net0{restrict}{https}{http}")]);
        if let Some(capture) = &self.capture {
            let head = "filter-dump,id=capture,netdev=net0,maxlen=256,file=";
            list.option("-object", head, capture, "");
        }
        // No option ROM: this machine does not boot from the network. A place of its own: the interface is named after it, and a machine keeps the
        // name whatever else is put in.
        list.add(["-device", "virtio-net-pci,netdev=net0,romfile=,addr=0x10"]);
    }

    fn add_ports(&self, list: &mut Arguments, place: &Place) {
        // What it says is logged whether or not somebody is connected; who connects can type, or stop reading.
        let log = place.console.to_string_lossy().replace(',', ",,");
        list.option(
            "-chardev",
            "socket,id=console,server=on,wait=off,path=",
            &place.terminal,
            &format!(",logappend=on,logfile={log}"),
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

/// A disk of which every write and flush is logged, and how much the log holds after each of them. What the host does with
/// flushes is for the files below: the log has them in any case.
fn recorded(number: usize, path: &Path, log: &Path, cache: Cache) -> String {
    let file = |path: &Path| {
        json!({
            "driver": "file",
            "filename": path,
            "discard": "unmap",
            "cache": {"no-flush": matches!(cache, Cache::Unsafe)},
        })
    };
    let node = json!({
        "driver": "blklogwrites",
        "node-name": format!("disk{number}"),
        "discard": "unmap",
        "log-super-update-interval": 1,
        "file": file(path),
        "log": file(log),
    });
    node.to_string()
}

/// Where the pieces of one running machine are.
#[derive(Debug)]
pub(crate) struct Place {
    pub firmware_code: PathBuf,
    pub variables: PathBuf,
    pub console: PathBuf,
    pub terminal: PathBuf,
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
    use crate::{Disk, ToolsTree};

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
            terminal: "/terminal".into(),
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
    fn the_console_is_logged_and_can_be_typed_on() {
        assert!(line(|machine| machine).contains(
            "socket,id=console,server=on,wait=off,path=/terminal,logappend=on,logfile=/console"
        ));
    }

    #[test]
    fn a_watchdog_that_bites_resets_the_machine() {
        let with = line(|machine| machine.watchdog(true));
        assert!(with.contains("-device i6300esb -action watchdog=reset"));
        assert!(!line(|machine| machine).contains("i6300esb"));
    }

    #[test]
    fn the_network_card_is_in_the_same_place_whatever_else_is_there() {
        for line in [
            line(|machine| machine),
            line(|machine| machine.watchdog(true)),
        ] {
            assert!(line.contains("virtio-net-pci,netdev=net0,romfile=,addr=0x10"));
        }
    }

    #[test]
    fn the_seed_goes_by_fw_cfg() {
        let line = line(|machine| machine.seed("/run/seed.toml"));
        assert!(line.contains("-fw_cfg name=opt/atalaya/appliance.toml,file=/run/seed.toml"));
    }

    #[test]
    fn a_recorded_disk_logs_every_flush_and_keeps_its_name() {
        let line = line(|machine| {
            machine
                .cache(Cache::Unsafe)
                .boot_disk(Disk::recorded("/disk", "/log"))
        });
        let (_, node) = line.split_once("-blockdev ").unwrap();
        let (node, rest) = node.split_once(' ').unwrap();
        let node: serde_json::Value = serde_json::from_str(node).unwrap();
        assert_eq!(node["log-super-update-interval"], 1);
        assert_eq!(node["cache"], serde_json::Value::Null);
        assert_eq!(node["log"]["filename"], "/log");
        assert_eq!(node["file"]["cache"]["no-flush"], true);
        assert!(rest.starts_with("-device virtio-blk-pci,drive=disk0,bootindex=1"));
    }

    #[test]
    fn what_is_thrown_away_and_what_is_captured_is_said() {
        let line = line(|machine| {
            machine
                .boot_disk(Disk::thrown_away("/disk"))
                .capture("/capture")
        });
        assert!(line.contains("file=/disk,snapshot=on"));
        assert!(line.contains("filter-dump,id=capture,netdev=net0,maxlen=256,file=/capture"));
    }

    #[test]
    fn the_first_disk_is_booted_and_others_follow() {
        let line = line(|machine| machine.extra_disk(Disk::read_only("/seed")));
        assert!(line.contains("drive=disk0,bootindex=1"));
        assert!(line.contains("id=disk1,format=raw,cache=writeback,discard=unmap,detect-zeroes=off,readonly=on,file=/seed"));
    }
}

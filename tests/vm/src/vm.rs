//! A machine that runs.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::arguments::Place;
use crate::disk;
use crate::process::{Invocation, Process};
use crate::{Agent, Console, Exit, Machine, Qmp, Snapshot, Status, VmError, free_port};

/// QEMU makes its sockets before it does anything slow.
const SOCKET_LIMIT: Duration = Duration::from_secs(20);
/// Its sockets close a moment before it has ended.
const ENDING_LIMIT: Duration = Duration::from_millis(200);
/// How much of the console an error shows.
const CONSOLE_LINES: usize = 40;

/// A running machine. Dropping it is pulling its plug.
#[derive(Debug)]
pub struct Vm {
    // Before the directory, so that QEMU is gone before its files are.
    process: Process,
    qmp: Qmp,
    status: Status,
    agent: Option<Agent>,
    console: Console,
    terminal: PathBuf,
    messages: PathBuf,
    started: Instant,
    https_port: u16,
    http_port: u16,
    _directory: TempDir,
}

impl Vm {
    pub(crate) fn start(machine: Machine) -> Result<Vm, VmError> {
        let directory = tempfile::Builder::new()
            .prefix("atalaya-vm-")
            .tempdir()
            .map_err(VmError::io("make", "a temporary directory"))?;
        let place = prepare(&machine, directory.path())?;
        let messages = directory.path().join("messages");
        let process = Process::start(invocation(&machine, &place, &messages)?)?;
        let console = Console::new(place.console.clone());
        let failed = |what: &str| ended(&process, &messages, &console, what);

        let status = connect(&place.status, &process).ok_or_else(|| failed("its status port"))?;
        let started = Instant::now();
        let status = Status::open(status, started)?;
        let agent = match machine.agent {
            true => Some(Agent::open(
                connect(&place.agent, &process).ok_or_else(|| failed("the agent's port"))?,
            )?),
            false => None,
        };
        let qmp = connect(&place.qmp, &process).ok_or_else(|| failed("its control socket"))?;
        let on_reset = status.clone();
        let qmp = Qmp::open(qmp, &place.qmp, move |event| {
            if event.name == "RESET" {
                on_reset.forget();
            }
        });
        // QEMU makes its sockets before its devices, and may still end because of one of those.
        let qmp = qmp.and_then(|qmp| qmp.execute("cont", json!({})).map(|_| qmp));
        let qmp = qmp.map_err(|error| match process.wait(ENDING_LIMIT) {
            Some(_) => failed("its first answer"),
            None => error,
        })?;
        Ok(Vm {
            process,
            qmp,
            status,
            agent,
            console,
            terminal: place.terminal,
            messages,
            started,
            https_port: place.https_port,
            http_port: place.http_port,
            _directory: directory,
        })
    }

    /// The port of 127.0.0.1 that leads to 443.
    #[must_use]
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port of 127.0.0.1 that leads to 80.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// When the machine was switched on.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// QEMU's process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The serial console.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Sits down at the serial console: what is written is typed, and the machine is held up by who does not read. The
    /// log goes on. Dropping it is standing up again.
    pub fn open_terminal(&self) -> Result<UnixStream, VmError> {
        UnixStream::connect(&self.terminal).map_err(VmError::io("connect to", "the serial console"))
    }

    /// The appliance's reports.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// QEMU's control socket.
    #[must_use]
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// The agent; refused when the machine was described without it.
    pub fn agent(&self) -> Result<&Agent, VmError> {
        self.agent
            .as_ref()
            .ok_or(VmError::NotAttached("the agent's port"))
    }

    /// Waits for a state of the appliance. The error shows the last state and the last console lines.
    pub fn wait_status(
        &self,
        what: &str,
        timeout: Duration,
        predicate: impl Fn(&Snapshot) -> bool,
    ) -> Result<Snapshot, VmError> {
        let begun = Instant::now();
        self.status
            .wait_for(timeout, predicate)
            .ok_or_else(|| self.failed(what, begun.elapsed()))
    }

    /// Waits until QEMU has ended, as it does when the guest switches itself off.
    pub fn wait_exit(&self, what: &str, timeout: Duration) -> Result<Exit, VmError> {
        self.process
            .wait(timeout)
            .ok_or_else(|| self.deadline(what, timeout))
    }

    /// How QEMU ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.process.exit()
    }

    /// Waits for a reset of the machine after `mark` (see [`Qmp::mark`]); gives the time of it.
    pub fn wait_reset(
        &self,
        what: &str,
        mark: usize,
        timeout: Duration,
    ) -> Result<Instant, VmError> {
        let begun = Instant::now();
        let event = self.qmp.wait_event("RESET", mark, timeout);
        event
            .map(|event| event.at)
            .ok_or_else(|| self.failed(what, begun.elapsed()))
    }

    /// Lets QEMU end instead of resetting the machine, when the machine restarts itself. It says so (SHUTDOWN with the
    /// reason) before it waits for its disks, so a machine whose disk hangs can be seen to restart.
    pub fn end_on_reboot(&self) -> Result<(), VmError> {
        self.qmp
            .execute("set-action", json!({"reboot": "shutdown"}))
            .map(drop)
    }

    /// Presses the power button.
    pub fn press_power_button(&self) -> Result<(), VmError> {
        self.qmp.execute("system_powerdown", json!({})).map(drop)
    }

    /// Presses the reset button: no warning to the guest.
    pub fn press_reset(&self) -> Result<(), VmError> {
        self.qmp.execute("system_reset", json!({})).map(drop)
    }

    /// Types Ctrl-Alt-Del.
    pub fn press_ctrl_alt_del(&self) -> Result<(), VmError> {
        let key = |name: &str| json!({"type": "qcode", "data": name});
        self.qmp
            .execute(
                "send-key",
                json!({"keys": [key("ctrl"), key("alt"), key("delete")]}),
            )
            .map(drop)
    }

    /// Puts in the stick of [`Machine::stick`].
    pub fn plug_in(&self) -> Result<(), VmError> {
        let stick =
            json!({"driver": "usb-storage", "bus": "usb.0", "drive": "stick", "id": "plugged"});
        self.qmp.execute("device_add", stick).map(drop)
    }

    /// Pulls it out for good.
    pub fn pull_out(&self) -> Result<(), VmError> {
        self.qmp
            .execute("device_del", json!({"id": "plugged"}))
            .map(drop)
    }

    /// Writes what the screen shows to a PNG file. The machine needs [`Machine::display`].
    pub fn screenshot(&self, path: &Path) -> Result<(), VmError> {
        self.qmp
            .execute("screendump", json!({"filename": path, "format": "png"}))
            .map(drop)
    }

    /// Ends QEMU without the guest's doing.
    pub fn quit(&self) -> Result<Exit, VmError> {
        self.qmp.execute("quit", json!({}))?;
        self.wait_exit("QEMU to quit", Duration::from_secs(20))
    }

    /// An error for a wait that ran out of time: what was waited for, the last state, the last console lines.
    #[must_use]
    pub fn deadline(&self, what: &str, waited: Duration) -> VmError {
        let context = format!(
            "state: {}\n{}",
            self.status.snapshot().summary(),
            context(&self.messages, &self.console)
        );
        VmError::Deadline {
            what: what.to_owned(),
            waited,
            context,
        }
    }

    fn failed(&self, what: &str, waited: Duration) -> VmError {
        if self.process.wait(ENDING_LIMIT).is_some() {
            ended(&self.process, &self.messages, &self.console, what)
        } else {
            self.deadline(what, waited)
        }
    }
}

fn prepare(machine: &Machine, directory: &Path) -> Result<Place, VmError> {
    let tools = &machine.tools;
    if let disk::Place::Recorded(_, log) = &machine.disk.place {
        // The driver wants the file to be there; what an older machine left in it would be read as this one's.
        fs::File::create(log).map_err(VmError::io("make", log.display().to_string()))?;
    }
    let variables = machine
        .variables
        .clone()
        .unwrap_or_else(|| directory.join("variables"));
    if !variables.exists() {
        let template = tools.firmware_variables()?;
        fs::copy(&template, &variables)
            .map_err(VmError::io("make", variables.display().to_string()))?;
    }
    Ok(Place {
        firmware_code: tools.firmware_code()?,
        variables,
        console: machine
            .console
            .clone()
            .unwrap_or_else(|| directory.join("console")),
        terminal: directory.join("terminal"),
        qmp: directory.join("qmp"),
        status: directory.join("status"),
        agent: directory.join("agent"),
        https_port: machine.https_port.map_or_else(free_port, Ok)?,
        http_port: machine.http_port.map_or_else(free_port, Ok)?,
    })
}

fn invocation(machine: &Machine, place: &Place, messages: &Path) -> Result<Invocation, VmError> {
    let mut words = machine.tools.qemu()?;
    words.extend(machine.arguments(place).into_iter().map(PathBuf::from));
    let environment = vec![("QEMU_MODULE_DIR", machine.tools.qemu_modules())];
    Ok(Invocation {
        words,
        environment,
        messages: messages.to_owned(),
    })
}

/// Connects to a socket that QEMU is about to make. There is nothing to wait on before it exists.
fn connect(path: &Path, process: &Process) -> Option<UnixStream> {
    let deadline = Instant::now() + SOCKET_LIMIT;
    while Instant::now() < deadline && process.exit().is_none() {
        match UnixStream::connect(path) {
            Ok(stream) => return Some(stream),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    None
}

fn ended(process: &Process, messages: &Path, console: &Console, what: &str) -> VmError {
    let exit = process
        .exit()
        .map_or_else(|| "it still runs".to_owned(), |exit| exit.to_string());
    VmError::Ended {
        what: what.to_owned(),
        exit,
        context: context(messages, console),
    }
}

fn context(messages: &Path, console: &Console) -> String {
    let messages = fs::read_to_string(messages).unwrap_or_default();
    let lines = console.tail(CONSOLE_LINES);
    match messages.trim() {
        "" => format!("last console lines:\n{lines}"),
        said => format!("QEMU said: {said}\nlast console lines:\n{lines}"),
    }
}

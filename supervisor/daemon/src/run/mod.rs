//! One run of a unit: from its file to a process in its own cgroup, with its pipe and its notify socket.

mod describe;
mod plan;

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::PathBuf;

use atalaya_core::machine::Stage;
use atalaya_core::unit::Unit;
use atalaya_sys::cgroup::Cgroup;
use atalaya_sys::spawn::{Parent, Spec as CloneSpec, clone_into};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;

pub use describe::describe;
pub use plan::{environment_of, make_directories, spec_for};

use crate::options::Options;
use crate::sandbox;

/// Room in a unit's pipe before it has to wait for the pump, in bytes.
const PIPE_BYTES: i32 = 1 << 20;

/// A start that came to nothing.
#[derive(Debug)]
pub struct Failure {
    pub stage: Stage,
    pub error: String,
}

impl Failure {
    fn new(stage: Stage, what: &str, error: impl std::fmt::Display) -> Self {
        Self {
            stage,
            error: format!("failed to {what}: {error}"),
        }
    }

    fn sys(stage: Stage) -> impl Fn(atalaya_sys::Error) -> Self {
        move |error| Self {
            stage,
            error: error.chain(),
        }
    }
}

/// What a run needs before its process exists, and what init keeps for it.
pub struct Prepared {
    pub cgroup: Cgroup,
    /// What it says on stdout, and on stderr.
    pub log: LogPipe,
    pub errors: LogPipe,
    pub notify: OwnedFd,
    spec: sandbox::Spec,
}

/// From a unit to its pump.
pub struct LogPipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

impl LogPipe {
    fn new() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Stage::Fork, "make a pipe", error);
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
        // A smaller pipe only makes the unit wait sooner.
        fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES)).ok();
        Ok(Self { read, write })
    }
}

/// A process that has just been made.
pub struct Spawned {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The helper's report; end of file when the program runs.
    pub report: OwnedFd,
}

/// The name of a run's cgroup, which every exit names.
pub fn cgroup_name(unit: &str, run: u32) -> String {
    format!("{unit}.{run}")
}

/// The other way round.
pub fn parse_cgroup_name(name: &str) -> Option<(&str, u32)> {
    let (unit, run) = name.rsplit_once('.')?;
    run.parse().ok().map(|run| (unit, run))
}

pub fn cgroup_of(options: &Options, unit: &str, run: u32) -> Cgroup {
    Cgroup::at(options.cgroup.join("units").join(cgroup_name(unit, run)))
}

pub fn notify_path(options: &Options, unit: &str, run: u32) -> PathBuf {
    options.run.join("notify").join(cgroup_name(unit, run))
}

/// Makes the cgroup, the pipe and the socket.
///
/// # Errors
/// The first thing that could not be made.
pub fn prepare(options: &Options, unit: &Unit, run: u32) -> Result<Prepared, Failure> {
    let sandbox_stage = Failure::sys(Stage::Sandbox);
    let spec = spec_for(options, unit, run).map_err(|error| Failure {
        stage: Stage::Sandbox,
        error,
    })?;
    make_directories(options, unit, &spec).map_err(|error| Failure {
        stage: Stage::Sandbox,
        error,
    })?;
    let cgroup = cgroup_of(options, &unit.name, run);
    Cgroup::create(cgroup.path()).map_err(&sandbox_stage)?;
    limit(&cgroup, unit)?;
    let (log, errors) = (LogPipe::new()?, LogPipe::new()?);
    let path = notify_path(options, &unit.name, run);
    let notify = atalaya_sys::notify::bind(&path, 0o600).map_err(Failure::sys(Stage::Fork))?;
    chown(&path, Some(spec.uid), Some(spec.gid))
        .map_err(|error| Failure::new(Stage::Fork, "hand over the notify socket", error))?;
    Ok(Prepared {
        cgroup,
        log,
        errors,
        notify,
        spec,
    })
}

fn limit(cgroup: &Cgroup, unit: &Unit) -> Result<(), Failure> {
    let resources = &unit.resources;
    let write = |file: &str, value: &str| {
        cgroup
            .write(file, value)
            .map_err(Failure::sys(Stage::Sandbox))
    };
    if let Some(memory) = resources.memory_max {
        let total = atalaya_sys::host::memory_total().map_err(Failure::sys(Stage::Sandbox))?;
        write("memory.max", &memory.bytes(total).to_string())?;
    }
    if resources.memory_oom_group && cgroup.path().join("memory.oom.group").exists() {
        write("memory.oom.group", "1")?;
    }
    if let Some(tasks) = resources.tasks_max {
        write("pids.max", &tasks.to_string())?;
    }
    if let Some(weight) = resources.cpu_weight {
        write("cpu.weight", &weight.to_string())?;
    }
    if let Some(percent) = resources.cpu_percent {
        write("cpu.max", &cpu_max(percent))?;
    }
    if let Some(weight) = resources.io_weight
        && weighs_io(cgroup)
    {
        write("io.weight", &format!("default {weight}"))?;
    }
    Ok(())
}

/// Microseconds of each tenth of a second (cgroup-v2.rst, cpu.max).
fn cpu_max(percent: u32) -> String {
    format!("{} 100000", u64::from(percent) * 1000)
}

/// Whether the kernel shares the disks by weight. Not every one does, and a unit is no less safe without; `describe` says so.
fn weighs_io(cgroup: &Cgroup) -> bool {
    cgroup.path().join("io.weight").exists()
}

/// Starts the unit's program in what was prepared. `sockets` are what atalayad keeps open for it, by name: listening
/// sockets and what it has stored. It finds them from descriptor 3 on (LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID).
///
/// # Errors
/// The process could not be made; what was prepared is still there.
pub fn spawn(
    options: &Options,
    prepared: &Prepared,
    sockets: &[(String, OwnedFd)],
) -> Result<Spawned, Failure> {
    let outputs = [prepared.log.write.as_fd(), prepared.errors.write.as_fd()];
    spawn_with(options, &prepared.spec, &prepared.cgroup, outputs, sockets)
}

/// Starts a readiness check of the unit.
///
/// # Errors
/// As for `spawn`.
pub fn spawn_check(options: &Options, unit: &Unit, run: u32) -> Result<Spawned, Failure> {
    let null = open_null()?;
    spawn_command(options, unit, run, &unit.ready.command, null.as_fd())
}

/// Starts another program (a check, a reload) in the unit's cgroup and in a sandbox like the unit's own.
///
/// # Errors
/// As for `spawn`.
pub fn spawn_command(
    options: &Options,
    unit: &Unit,
    run: u32,
    command: &[String],
    output: BorrowedFd<'_>,
) -> Result<Spawned, Failure> {
    let mut spec = spec_for(options, unit, run).map_err(|error| Failure {
        stage: Stage::Sandbox,
        error,
    })?;
    spec.exec = command.to_vec();
    // READY=1 and WATCHDOG=1 are the unit's to say.
    spec.environment.remove("NOTIFY_SOCKET");
    spec.environment.remove("WATCHDOG_USEC");
    let cgroup = cgroup_of(options, &unit.name, run);
    spawn_with(options, &spec, &cgroup, [output, output], &[])
}

fn open_null() -> Result<File, Failure> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| Failure::new(Stage::Fork, "open /dev/null", error))
}

fn spawn_with(
    options: &Options,
    spec: &sandbox::Spec,
    cgroup: &Cgroup,
    [output, errors]: [BorrowedFd<'_>; 2],
    sockets: &[(String, OwnedFd)],
) -> Result<Spawned, Failure> {
    let fork = |what: &'static str| {
        move |error: &dyn std::fmt::Display| Failure::new(Stage::Fork, what, error)
    };
    let describe = fork("write the sandbox's description");
    let memfd =
        memfd_create(c"sandbox", MFdFlags::MFD_CLOEXEC).map_err(|error| describe(&error))?;
    let mut memfd = File::from(memfd);
    let mut spec = spec.clone();
    spec.sockets = sockets.iter().map(|(name, _)| name.clone()).collect();
    let text = serde_json::to_vec(&spec).map_err(|error| describe(&error))?;
    memfd
        .write_all(&text)
        .and_then(|()| memfd.rewind())
        .map_err(|error| describe(&error))?;
    let (report, report_write) =
        pipe2(OFlag::O_CLOEXEC).map_err(|error| fork("make a pipe")(&error))?;
    fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(|error| fork("make a pipe")(&error))?;
    let null = open_null()?;
    let directory = cgroup.open().map_err(Failure::sys(Stage::Fork))?;
    let program = CString::new(options.sandbox.as_os_str().as_encoded_bytes())
        .map_err(|error| fork("name the helper")(&error))?;
    let passed = sandbox::FIRST_SOCKET..;
    let mut fds: Vec<(BorrowedFd<'_>, i32)> = vec![(null.as_fd(), 0), (output, 1), (errors, 2)];
    fds.extend(sockets.iter().map(|(_, fd)| fd.as_fd()).zip(passed));
    let spec_fd = sandbox::spec_fd(sockets.len());
    fds.push((memfd.as_fd(), spec_fd));
    fds.push((report_write.as_fd(), spec_fd + 1));
    let count = CString::new(sockets.len().to_string())
        .map_err(|error| fork("count the sockets")(&error))?;
    let clone = CloneSpec {
        args: vec![c"atalaya-sandbox".to_owned(), count],
        program,
        env: Vec::new(),
        fds,
        cgroup: Some(directory.as_fd()),
        parent: if options.no_init {
            Parent::Caller
        } else {
            Parent::Grandparent
        },
        new_session: true,
    };
    let (pid, pidfd) = clone_into(&clone).map_err(Failure::sys(Stage::Fork))?;
    Ok(Spawned { pid, pidfd, report })
}

/// What the helper has said so far: nothing yet, that its program runs, or why it does not.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Executed,
    Failed(sandbox::Report),
}

/// Reads the report without waiting. The helper writes it at once and whole.
pub fn read_report(report: BorrowedFd<'_>) -> Told {
    let Ok(copy) = report.try_clone_to_owned() else {
        return Told::Nothing;
    };
    let mut bytes = Vec::new();
    match File::from(copy).read_to_end(&mut bytes) {
        Ok(_) if bytes.is_empty() => Told::Executed,
        Err(_) if bytes.is_empty() => Told::Nothing,
        Ok(_) | Err(_) => serde_json::from_slice(&bytes).map_or(Told::Nothing, Told::Failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_name_is_read_back() {
        assert_eq!(
            parse_cgroup_name(&cgroup_name("config-render", 12)),
            Some(("config-render", 12))
        );
        assert_eq!(parse_cgroup_name("atalaya.init"), None);
    }
}

//! `atalaya-image run`: builds, then boots the image in QEMU until its page is served, and stays until it is told to stop.
//!
//! The order: what can be refused is refused before anything is built; then build, disk, machine. The folder run/ holds
//! the machine's disk and what a person needs to use it. Decisions about the disk are in [`plan`], its layout in [`gpt`].

mod credentials;
mod disk;
mod gpt;
mod place;
mod plan;
mod stop;
mod wait;

use crate::error::{Error, Result};
use crate::manifest::{Kind, Manifest};
use crate::pipeline;
use crate::progress::Progress;
use crate::project::Project;
use atalaya_vm::{Accel, Machine, Snapshot, ToolsTree, Vm, detect_accel, port_is_free};
use credentials::Credentials;
use place::{Place, State};
use plan::Step;
use std::path::PathBuf;
use std::time::Duration;
use stop::{Foreground, StopSignal};

/// From the power button to the end of QEMU; PostgreSQL may need minutes to write everything out.
const POWER_OFF: Duration = Duration::from_secs(330);

/// What `make run` can be told.
#[derive(Debug, Clone)]
pub struct Options {
    pub https_port: Option<u16>,
    pub http_port: Option<u16>,
    /// Size of the machine's disk, GiB.
    pub disk_gib: u64,
    pub memory_mib: u32,
    pub accel: Choice,
    /// Start over with an empty disk.
    pub fresh: bool,
    /// Log in, post, shut down.
    pub once: bool,
    pub folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Choice {
    #[default]
    Auto,
    Tcg,
    Kvm,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(
        "port {port} of 127.0.0.1 is taken; nothing was built or started; end what listens there, or choose another with {variable}= (and FRESH=1 if this machine was started before)"
    )]
    PortTaken { port: u16, variable: &'static str },
    #[error(
        "the machine in {} was made with {variable}={kept}, and its address is fixed by that; nothing was built or started; leave {variable}= out, or start over with FRESH=1, which deletes its data", folder.display()
    )]
    PortFixed {
        folder: PathBuf,
        variable: &'static str,
        kept: u16,
    },
    #[error(
        "a machine runs from {} already; nothing was started; stop that one first", folder.display()
    )]
    AlreadyRunning { folder: PathBuf },
    #[error(
        "the data in {} are of {kept} and the image is {built}; they were not touched and the machine was not started; build that one again, or start over with FRESH=1, which deletes the data", folder.display()
    )]
    OtherData {
        folder: PathBuf,
        kept: String,
        built: String,
    },
    #[error(
        "DISK={given} is too small, the image alone needs {needed} GiB; nothing was started; give more"
    )]
    DiskTooSmall { given: u64, needed: u64 },
    #[error(
        "{} does not look like a disk of this machine ({problem}); it was not changed; start over with FRESH=1, which deletes its data", disk.display()
    )]
    Disk { disk: PathBuf, problem: String },
    #[error("the machine did not get as far as {stage}; its data are in {}; the next step is in these last lines:\n{detail}", folder.display())]
    Machine {
        stage: String,
        folder: PathBuf,
        detail: String,
    },
    #[error("stopped as asked, before {stage}")]
    Stopped { stage: String },
    #[error("{operation} failed; the machine was shut down, its data are kept; {detail}")]
    Use {
        operation: &'static str,
        detail: String,
    },
    #[error(transparent)]
    Vm(#[from] atalaya_vm::VmError),
}

/// Builds, boots and stays.
pub fn run(project: &Project, build: &pipeline::Options, options: &Options) -> Result<()> {
    let _foreground = Foreground::take();
    let stop = StopSignal::install()?;
    let place = Place::open(project, options.folder.as_deref())?;
    let state = if options.fresh { None } else { place.state()? };
    let ports = plan::ports(
        place.folder(),
        (options.https_port, options.http_port),
        state
            .as_ref()
            .map(|state| (state.https_port, state.http_port)),
    )?;
    for (port, variable) in [(ports.0, "HTTPS_PORT"), (ports.1, "HTTP_PORT")] {
        if !port_is_free(port) {
            return Err(RunError::PortTaken { port, variable }.into());
        }
    }

    let mut progress = Progress::new();
    let built = pipeline::build(project, build, &mut progress)?;
    crate::report(project, &built);
    stop.check("the machine was started")?;
    let manifest = &built.manifest;
    let (accel, reason) = accelerator(options.accel);
    eprintln!("{reason}");

    if options.fresh {
        place.clear()?;
    }
    let stage = progress.stage("disk");
    let step = plan::step(
        place.folder(),
        state.as_ref(),
        manifest,
        place.disk().exists(),
    )?;
    let state = prepare_disk(project, &place, &built, &step, state, options, ports)?;
    stage.finish(step.words());

    let credentials = place.credentials(ports.0)?;
    let vm = Machine::new(
        ToolsTree::at(project.tools()).map_err(RunError::from)?,
        place.disk(),
    )
    .accel(accel)
    .memory_mib(options.memory_mib)
    .https_port(ports.0)
    .http_port(ports.1)
    .seed(place.seed())
    .variables(place.variables())
    .console(place.console())
    .start()
    .map_err(RunError::from)?;
    let outcome = wait::until_served(&vm, &place, &stop, &mut progress, &credentials);
    let snapshot = match outcome {
        Ok(snapshot) => snapshot,
        Err(error) => {
            shut_down(&vm, &stop)?;
            return match error {
                // The user changed their mind: no failure.
                Error::Run(RunError::Stopped { .. }) => Ok(()),
                other => Err(other),
            };
        }
    };
    place.save_authority(&snapshot)?;
    place.save_state(&with_boot(&state, &snapshot))?;
    eprintln!("{}", progress.summary());
    tell(&place, manifest, &credentials, &snapshot);
    if options.once {
        let used = credentials.use_once(&snapshot, ports.0);
        shut_down(&vm, &stop)?;
        return used;
    }
    stop.wait(|| vm.exit().is_some());
    // It may have been updated meanwhile.
    place.save_state(&with_boot(&state, &vm.status().snapshot()))?;
    if vm.exit().is_some() {
        eprintln!(
            "the machine has switched itself off; its data are in {}",
            place.folder().display()
        );
        return Ok(());
    }
    shut_down(&vm, &stop)
}

fn accelerator(choice: Choice) -> (Accel, String) {
    match choice {
        Choice::Tcg => (
            Accel::Tcg,
            "QEMU translates (TCG), as ACCEL=tcg says".to_owned(),
        ),
        Choice::Kvm => (Accel::Kvm, "QEMU uses KVM, as ACCEL=kvm says".to_owned()),
        Choice::Auto => {
            let found = detect_accel();
            let name = match found.accel {
                Accel::Kvm => "uses KVM",
                Accel::Tcg => "translates (TCG), which is slower",
            };
            (found.accel, format!("QEMU {name}: {}", found.reason))
        }
    }
}

fn prepare_disk(
    project: &Project,
    place: &Place,
    built: &pipeline::Built,
    step: &Step,
    state: Option<State>,
    options: &Options,
    ports: (u16, u16),
) -> Result<State> {
    let (output, manifest) = (&built.folder, &built.manifest);
    let fresh = State {
        slot: "a".to_owned(),
        version: manifest.release.version.clone(),
        build: manifest.release.build.clone(),
        mattermost: manifest.release.mattermost.version.clone(),
        kind: manifest.release.mattermost.kind,
        https_port: ports.0,
        http_port: ports.1,
    };
    let state = match (step, state) {
        (Step::Keep, Some(state)) => return Ok(state),
        (Step::Replace, Some(state)) => {
            disk::replace(project, place, output, manifest, &state)?;
            State {
                slot: state.slot,
                ..fresh
            }
        }
        _ => {
            disk::create(
                place,
                &output.join(&manifest.artifacts.disk.name),
                options.disk_gib,
            )?;
            fresh
        }
    };
    place.save_state(&state)?;
    Ok(state)
}

/// What the machine says of itself, where it does: an update changes all of it.
fn with_boot(state: &State, snapshot: &Snapshot) -> State {
    let kept = state.clone();
    match &snapshot.boot {
        Some(boot) if boot.slot == "a" || boot.slot == "b" => State {
            slot: boot.slot.clone(),
            version: boot.version.clone(),
            build: boot.build.clone(),
            mattermost: boot.mattermost.clone(),
            kind: if boot.standin {
                Kind::Standin
            } else {
                Kind::Official
            },
            ..kept
        },
        _ => kept,
    }
}

/// Presses the power button and waits. A second signal pulls the plug.
fn shut_down(vm: &Vm, stop: &StopSignal) -> Result<()> {
    if vm.exit().is_some() {
        return Ok(());
    }
    eprintln!(
        "pressing the power button; the machine writes everything out and switches itself off ..."
    );
    let before = stop.count();
    vm.press_power_button().map_err(RunError::from)?;
    let ended = stop.wait_at_most(POWER_OFF, before, || vm.exit().is_some());
    if ended {
        eprintln!("the machine is off");
        return Ok(());
    }
    eprintln!("it was not off in time, or a second signal came: pulling the plug");
    let error = vm.deadline("the machine to switch itself off", POWER_OFF);
    vm.quit().map_err(RunError::from)?;
    Err(RunError::from(error).into())
}

fn tell(place: &Place, manifest: &Manifest, credentials: &Credentials, snapshot: &Snapshot) {
    let fingerprint = snapshot.ca.as_ref().map_or("", |ca| ca.sha256.as_str());
    eprintln!();
    eprintln!("  address        {}", credentials.site);
    eprintln!("  user name      {}", credentials.username);
    eprintln!("  password       {}", credentials.password);
    eprintln!("  CA certificate {}", place.authority().display());
    eprintln!("  its SHA-256    {fingerprint}");
    eprintln!("  console log    {}", place.console().display());
    if manifest.release.mattermost.kind == Kind::Standin {
        eprintln!("  NOTE           this is the stand-in, not Mattermost");
    }
    eprintln!(
        "  to stop        Ctrl-C here, or a SIGTERM to process {}",
        std::process::id()
    );
    eprintln!();
}

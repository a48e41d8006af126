//! atalayad: reads the units, greets init, and supervises until the machine ends.

use std::fs;

use anyhow::{Context, Result};
use atalaya_core::system::System;
use atalaya_sys::cgroup::Cgroup;
use atalayad::api;
use atalayad::link::Link;
use atalayad::logs::{self, Hub, Level};
use atalayad::options::Options;
use atalayad::supervisor::Supervisor;
use atalayad::{panics, units};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// An error goes to stderr, which init shows on the console; init then tries again.
fn main() -> Result<()> {
    panics::end_at_once();
    allow_descriptors();
    supervise(Options::parse(std::env::args())?)
}

fn supervise(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // More than a few wait only for a disk that does not answer.
        .max_blocking_threads(16)
        .build()?;
    runtime.block_on(async {
        // First, because it is a bare number until then.
        let link = if options.no_init {
            Link::alone()?
        } else {
            Link::inherited()?
        };
        let units = units::read(&options.units).context(
            "the unit files are refused as a whole: no service was started, stopped or changed by this, and no data. Put the \
             file right that is named here",
        )?;
        let system = System::new(units).context("the units cannot be used")?;
        make_ground(&options)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let hub = Hub::new(
            boot.trim(),
            options.data.as_ref().map(|data| data.join("logs")),
        );
        begin_logging(&hub, &options);
        let viewer = api::Viewer::find();
        let listener = api::bind(&options.run.join("control.sock"), viewer)?;
        let places = api::Places {
            maintenance: options.maintenance(),
            bundle: options.update().join("bundle"),
        };
        let supervisor = Supervisor::new(options, system, link, hub.clone());
        tokio::spawn(api::serve(
            listener,
            supervisor.outbox(),
            hub,
            viewer,
            places,
        ));
        supervisor.run().await
    })
}

/// What is heard beside units' pipes, and how the last boot ended.
fn begin_logging(hub: &Hub, options: &Options) {
    let say = |text: String| hub.push_level("atalayad", Level::Warning, &text);
    match logs::syslog_socket(&options.run.join("log.sock")) {
        Ok(socket) => hub.pump_syslog(socket),
        Err(error) => say(format!("nothing is heard by syslog: {}", error.chain())),
    }
    // Without init this is no machine of ours, and its kernel's words are none of ours either.
    if !options.no_init
        && let Err(error) = hub.pump_kernel(options.run.join("kmsg"))
    {
        say(format!("nothing is heard from the kernel: {error}"));
    }
    hub.assess_last_boot(logs::Places {
        boot_record: options.run.join("boot.json"),
        end_record: options
            .data
            .as_ref()
            .map(|data| data.join("state/last-end.json")),
        pstore: "/sys/fs/pstore".into(),
        answer: options.run.join("last-boot.json"),
    });
}

/// Each unit takes a handful of descriptors: as many as the kernel allows, instead of select(2)'s 1024.
fn allow_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Then fewer units can run at once.
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
    }
}

/// The directories and the cgroup in which units live.
fn make_ground(options: &Options) -> Result<()> {
    for directory in [
        options.run.clone(),
        options.run.join("notify"),
        options.run.join("public"),
        options.update(),
    ] {
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        fs::set_permissions(
            &directory,
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .with_context(|| format!("failed to open {} to units", directory.display()))?;
    }
    let root = Cgroup::at(&options.cgroup);
    let units = Cgroup::create(options.cgroup.join("units"))?;
    for cgroup in [root, units] {
        for controller in ["+memory", "+pids", "+cpu", "+io"] {
            // A kernel may lack one; a unit that needs it says so when it starts.
            drop(cgroup.write("cgroup.subtree_control", controller));
        }
    }
    Ok(())
}

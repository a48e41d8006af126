//! What PID 1 sets on the machine before anything else runs: mounts, kernel settings, limits, cgroups.
//!
//! Nothing here is fatal: a machine with a missing setting is told about and goes on.

pub mod cgroups;
pub mod mounts;
pub mod sysctl;
pub mod trial;

mod clock;

use crate::console::Console;
use crate::failure::{Failure, chain};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::unix::fs::symlink;
use std::path::Path;

/// Open files for init itself and, until the sandbox sets their own, its children. The kernel starts init with 1,024,
/// 4,096 at most; this is its own ceiling (fs.nr_open) halved.
const OPEN_FILES: u64 = 524_288;
/// Where init and atalayad leave what others read.
const RUN: &str = "/run/atalaya";
/// Until the configuration is read.
const HOSTNAME: &str = "atalaya";

/// The file systems that stage 1 needs; those already there are left alone. Returns what did not work.
pub fn early_mounts() -> Vec<Failure> {
    mounts::apply(mounts::EARLY)
}

/// Everything, in order; problems are told on the console.
pub fn prepare(console: &mut Console) {
    let problems = mounts::apply(mounts::EARLY);
    let more = mounts::apply(mounts::FULL);
    for problem in problems.iter().chain(&more) {
        console.say("mounts", &chain(problem));
    }
    // Stage 1 has made it, where there was one.
    if let Err(error) = std::fs::create_dir_all(RUN) {
        console.say("mounts", &format!("failed to make {RUN}: {error}"));
    }
    for (target, link) in DEVICE_LINKS {
        if !Path::new(link).exists()
            && let Err(error) = symlink(target, link)
        {
            console.say("mounts", &format!("failed to link {link}: {error}"));
        }
    }
    if let Err(errno) = raise_open_files() {
        console.say(
            "limits",
            &format!("failed to raise the limit of open files: {errno}"),
        );
    }
    if let Err(errno) = nix::unistd::sethostname(HOSTNAME) {
        console.say("host name", &format!("failed to set it: {errno}"));
    }
    for problem in sysctl::apply() {
        console.say("kernel settings", &chain(&problem));
    }
    if let Err(error) = atalaya_sys::host::loopback_up() {
        console.say("network", &error.chain());
    }
    if let Some(problem) = clock::not_before_build() {
        console.say("clock", &problem);
    }
    for problem in cgroups::create() {
        console.say("cgroups", &problem.chain());
    }
}

/// As far as possible, should that be less (a container's own limit).
fn raise_open_files() -> nix::Result<()> {
    let files = Resource::RLIMIT_NOFILE;
    setrlimit(files, OPEN_FILES, OPEN_FILES).or_else(|errno| {
        let (_, hard) = getrlimit(files)?;
        setrlimit(files, hard, hard)?;
        Err(errno)
    })
}

/// What udev would make and devtmpfs does not.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

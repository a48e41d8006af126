//! Who the unit is and what it may do: user, capabilities, and the last step.

use std::convert::Infallible;
use std::ffi::CString;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::{Failure, Spec, Stage};

pub(super) fn become_user(spec: &Spec) -> Result<(), Failure> {
    let user = |error: nix::Error| Stage::User.fail(&format!("become user {}", spec.uid), error);
    let capabilities =
        |error: caps::errors::CapsError| Stage::Capabilities.fail("set capabilities", error);
    let allowed = spec
        .capabilities
        .iter()
        .map(|name| {
            name.parse::<Capability>()
                .map_err(|_| Stage::Capabilities.fail(&format!("find {name}"), "unknown"))
        })
        .collect::<Result<CapsHashSet, Failure>>()?;
    if !spec.privileged {
        // While CAP_SETPCAP is there.
        for capability in caps::runtime::procfs_all_supported(None).map_err(capabilities)? {
            if !allowed.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(capabilities)?;
            }
        }
        caps::securebits::set_keepcaps(true).map_err(capabilities)?;
    }
    let groups: Vec<Gid> = spec.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).map_err(user)?;
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    setresgid(gid, gid, gid).map_err(user)?;
    setresuid(uid, uid, uid).map_err(user)?;
    if !spec.privileged {
        caps::set(None, CapSet::Inheritable, &allowed).map_err(capabilities)?;
        // What is effective must be permitted at every step.
        caps::clear(None, CapSet::Effective).map_err(capabilities)?;
        caps::set(None, CapSet::Permitted, &allowed).map_err(capabilities)?;
        caps::set(None, CapSet::Effective, &allowed).map_err(capabilities)?;
        caps::set(None, CapSet::Ambient, &allowed).map_err(capabilities)?;
    }
    nix::sys::prctl::set_no_new_privs()
        .map_err(|error| Stage::Capabilities.fail("set no_new_privs", error))
}

/// What execve needs, made before the filter is there.
pub(super) struct Program {
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// Working directory, umask, arguments, environment: nothing of it is inherited.
pub(super) fn prepare(spec: &Spec) -> Result<Program, Failure> {
    let fail = |what: &str, error: &dyn std::fmt::Display| Stage::Exec.fail(what, error);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(spec.umask));
    std::env::set_current_dir(Path::new(&spec.directory))
        .map_err(|error| fail(&format!("enter {}", spec.directory), &error))?;
    let c = |text: String| CString::new(text).map_err(|error| fail("read an argument", &error));
    let mut environment = spec.environment.clone();
    if !spec.sockets.is_empty() {
        let (count, names) = (spec.sockets.len().to_string(), spec.sockets.join(":"));
        environment.insert("LISTEN_FDS".to_owned(), count);
        environment.insert("LISTEN_FDNAMES".to_owned(), names);
        // exec does not change it.
        environment.insert("LISTEN_PID".to_owned(), std::process::id().to_string());
    }
    let pairs = environment
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    Ok(Program {
        arguments: spec.exec.iter().cloned().map(c).collect::<Result<_, _>>()?,
        environment: pairs.map(c).collect::<Result<_, _>>()?,
    })
}

impl Program {
    pub(super) fn execute(&self) -> Result<Infallible, Failure> {
        let program = self
            .arguments
            .first()
            .ok_or_else(|| Stage::Exec.fail("find the program", "none is given"))?;
        nix::unistd::execve(program, &self.arguments, &self.environment).map_err(|error| {
            Stage::Exec.fail(&format!("execute {}", program.to_string_lossy()), error)
        })
    }
}

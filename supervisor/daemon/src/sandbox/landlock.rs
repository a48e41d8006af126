//! Landlock: which files may be read and written, whatever the mounts and the owners say, and whom the unit may signal.
//! A kernel that knows less enforces what it knows, and the unit's log says so.

use std::os::fd::OwnedFd;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use atalaya_sys::host::landlock_abi;
use serde::{Deserialize, Serialize};

use super::{Failure, Spec, Stage, hold, is_directory};

/// What is asked of the kernel: Linux 6.12, which the appliance has.
pub const WANTED_ABI: i32 = 6;
const WANTED: ABI = ABI::V6;

/// What a unit may do besides reading and executing what it sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Files, and directories with all below them.
    pub write: Vec<String>,
    /// Its own entries in /proc, such as oom_score_adj.
    pub write_proc: bool,
    pub tcp: Tcp,
    /// Signals reach only the unit's own processes.
    pub scope_signals: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tcp {
    Any,
    /// No socket of its own making listens: atalayad opens them.
    ConnectOnly,
    None,
}

pub(super) fn restrict(spec: &Spec) -> Result<(), Failure> {
    let Some(rules) = &spec.landlock else {
        return Ok(());
    };
    let places = places(rules)?;
    let status = try_restrict(rules, &places)
        .map_err(|error| Stage::Landlock.fail("limit the files by Landlock", chain(&error)))?;
    if status != RulesetStatus::FullyEnforced {
        let found = landlock_abi().map_or("no Landlock".to_owned(), |abi| format!("ABI {abi}"));
        eprintln!(
            "Landlock is not fully enforced: the kernel has {found}, ABI {WANTED_ABI} is wanted"
        );
    }
    Ok(())
}

fn try_restrict(
    rules: &Rules,
    places: &[(OwnedFd, BitFlags<AccessFs>)],
) -> Result<RulesetStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .scope(Scope::AbstractUnixSocket)?;
    if rules.scope_signals {
        ruleset = ruleset.scope(Scope::Signal)?;
    }
    ruleset = match rules.tcp {
        Tcp::Any => ruleset,
        Tcp::ConnectOnly => ruleset.handle_access(AccessNet::BindTcp)?,
        Tcp::None => ruleset.handle_access(AccessNet::from_all(WANTED))?,
    };
    let mut created = ruleset.create()?;
    for (place, access) in places {
        created = created.add_rule(PathBeneath::new(place, *access))?;
    }
    Ok(created.restrict_self()?.ruleset)
}

/// Each place with what may be done there and below.
fn places(rules: &Rules) -> Result<Vec<(OwnedFd, BitFlags<AccessFs>)>, Failure> {
    let read = AccessFs::from_read(WANTED);
    let devices = read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let mut wanted = vec![("/", read), ("/dev", devices)];
    if rules.write_proc {
        wanted.push(("/proc", read | AccessFs::WriteFile | AccessFs::Truncate));
    }
    let all = AccessFs::from_all(WANTED);
    wanted.extend(rules.write.iter().map(|path| (path.as_str(), all)));
    let open = |(path, access): (&str, BitFlags<AccessFs>)| {
        let place =
            hold(path).map_err(|error| Stage::Landlock.fail(&format!("open {path}"), error))?;
        let access = fitting(&place, access);
        Ok((place, access))
    };
    wanted.into_iter().map(open).collect()
}

/// A file takes no rights that only directories have.
fn fitting(place: &OwnedFd, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if is_directory(place) {
        access
    } else {
        access & AccessFs::from_file(WANTED)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

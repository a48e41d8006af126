//! What a unit is, as its file in the image says it. Decides what a unit file may contain and refuses everything else,
//! with file and line. It must not look at the machine: whether a user or a program exists is found out at the start.

mod check;
#[cfg(test)]
mod json_schema;
mod parse;
mod schema;
mod values;

pub use check::Refused;
pub use parse::{UnitError, UnitFile, parse_unit, parse_units};
pub use schema::{
    CredentialFile, DataMount, FullDisk, Handover, KILL_LIMIT_MS, Kind, Listen, Liveness,
    LivenessKind, Ready, ReadyKind, Reload, RequirementLost, Resources, Restart, RestartPolicy,
    RuntimeDirectory, Sandbox, Stop, Timer, Unit,
};
pub use values::{Capability, DataSource, MemoryMax, Mode, Rlimit, SignalName};

/// A unit's name: a lower-case letter, then letters, digits and hyphens, at most 32 in all. It becomes a cgroup's name and a
/// file's, and carries no dot, because a dot parts it from the run number there.
pub fn is_valid_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= 32
        && chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

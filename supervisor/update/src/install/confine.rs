//! Before the first byte of a bundle is looked at, this process gives up what it needed to get there: the right to mount, and to open devices.
//! From then on it has the partitions of the slots by their descriptors, and writes files in its own places only.

use std::os::fd::AsFd;
use std::path::Path;

use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};

use super::failure::Failure;

/// Linux 6.12. An older kernel enforces what it knows.
const WANTED: ABI = ABI::V6;

/// Files are written below `places` from now on, and read anywhere. There is no way back.
///
/// # Errors
/// The kernel refuses, or one of the places is not there.
pub fn to(places: &[&Path]) -> Result<(), Failure> {
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
    ] {
        caps::clear(None, set).map_err(failed)?;
    }
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(Ruleset::create);
    let mut ruleset = ruleset.map_err(failed)?;
    let all = [(Path::new("/"), AccessFs::from_read(WANTED))];
    let own = places
        .iter()
        .map(|place| (*place, AccessFs::from_all(WANTED)));
    for (place, access) in all.into_iter().chain(own) {
        let place = PathFd::new(place).map_err(failed)?;
        ruleset = ruleset
            .add_rule(PathBeneath::new(place.as_fd(), access))
            .map_err(failed)?;
    }
    ruleset.restrict_self().map_err(failed)?;
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Confine(error.to_string())
}

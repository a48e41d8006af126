//! What a unit's sandbox is, for people and for the tests that compare it with /proc. Says what a start would do; does
//! nothing.

use atalaya_core::unit::Unit;
use serde_json::{Value, json};

use super::spec_for;
use crate::options::Options;

/// The sandbox of a unit as its next start makes it; an `error` where it could not start.
pub fn describe(options: &Options, unit: &Unit) -> Value {
    match spec_for(options, unit, 0) {
        Ok(spec) => json!({
            "user": unit.user,
            "uid": spec.uid,
            "gid": spec.gid,
            "groups": unit.groups,
            "capabilities": spec.capabilities,
            "privileged": spec.privileged,
        }),
        Err(error) => json!({ "error": error }),
    }
}

//! The last wall before the program: a seccomp filter of the calls that the spec lists. All others end in EPERM; those of
//! another architecture kill, because their numbers mean something else.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::{Failure, Spec, Stage};

/// Flags of clone(2) that make a namespace.
const NEW_NAMESPACE: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

pub(super) fn install(spec: &Spec) -> Result<(), Failure> {
    let Some(calls) = &spec.syscalls else {
        return Ok(());
    };
    let fail =
        |error: &dyn std::fmt::Display| Stage::Syscalls.fail("limit the system calls", error);
    for program in programs(calls).map_err(|error| fail(&error))? {
        seccompiler::apply_filter(&program).map_err(|error| fail(&error))?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn programs(calls: &[i64]) -> Result<Vec<BpfProgram>, BackendError> {
    let mut rules: Rules = calls.iter().map(|number| (*number, Vec::new())).collect();
    let eperm = SeccompAction::Errno(Errno::EPERM as u32);
    if calls.contains(&libc::SYS_unshare) {
        return Ok(vec![compile(rules, eperm, SeccompAction::Allow)?]);
    }
    // The flags are the first argument on x86-64 and on ARM.
    let flags = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(u64::from(NEW_NAMESPACE.unsigned_abs())),
        0,
    )?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![flags])?]);
    let allowed = compile(rules, eperm, SeccompAction::Allow)?;
    // Its flags lie in memory, where no filter can look. The C library falls back to clone(2) when there is no such call.
    let no_clone3: Rules = [(libc::SYS_clone3, Vec::new())].into();
    let enosys = SeccompAction::Errno(Errno::ENOSYS as u32);
    Ok(vec![
        allowed,
        compile(no_clone3, SeccompAction::Allow, enosys)?,
    ])
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, on_match, architecture)?.try_into()
}

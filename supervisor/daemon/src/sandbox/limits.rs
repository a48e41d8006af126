//! The unit's limits (setrlimit(2)) and its place in the order in which the kernel kills for memory. Every one is set anew.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;

use atalaya_core::unit::Rlimit;
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::{Failure, Spec, Stage};

const NONE: u64 = RLIM_INFINITY;

/// Soft and hard where the unit's file says nothing: the kernel's own defaults, but no core files, and up to 524,288 open
/// files for those who ask (as systemd does). For processes pids.max is the limit that holds.
const BASE: [(Rlimit, u64, u64); 16] = [
    (Rlimit::As, NONE, NONE),
    (Rlimit::Core, 0, 0),
    (Rlimit::Cpu, NONE, NONE),
    (Rlimit::Data, NONE, NONE),
    (Rlimit::Fsize, NONE, NONE),
    (Rlimit::Locks, NONE, NONE),
    (Rlimit::Memlock, 8 << 20, 8 << 20),
    (Rlimit::Msgqueue, 819_200, 819_200),
    (Rlimit::Nice, 0, 0),
    (Rlimit::Nofile, 1024, 524_288),
    (Rlimit::Nproc, NONE, NONE),
    (Rlimit::Rss, NONE, NONE),
    (Rlimit::Rtprio, 0, 0),
    (Rlimit::Rttime, NONE, NONE),
    (Rlimit::Sigpending, 16_384, 16_384),
    (Rlimit::Stack, 8 << 20, NONE),
];

/// Every limit that the kernel has: soft, hard.
pub fn limits(given: &BTreeMap<Rlimit, u64>) -> impl Iterator<Item = (Rlimit, u64, u64)> {
    BASE.into_iter()
        .map(|(limit, soft, hard)| match given.get(&limit) {
            Some(value) => (limit, *value, *value),
            None => (limit, soft, hard),
        })
}

pub(super) fn set(spec: &Spec) -> Result<(), Failure> {
    // O_WRONLY only: procfs knows no truncation.
    let written = OpenOptions::new()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(spec.oom_score_adj.to_string().as_bytes()));
    written.map_err(|error| Stage::Limits.fail("set oom_score_adj", error))?;
    for (limit, soft, hard) in limits(&spec.rlimits) {
        let fail = |error| Stage::Limits.fail(&format!("set the limit {limit:?} to {soft}"), error);
        let resource = resource_of(limit);
        match setrlimit(resource, soft, hard) {
            // Only a machine that builds and tests keeps this from root: there the base ends where its own limit does.
            Err(Errno::EPERM) if !spec.rlimits.contains_key(&limit) => {
                let (_, most) = getrlimit(resource).map_err(fail)?;
                setrlimit(resource, soft.min(most), hard.min(most)).map_err(fail)?;
            }
            done => done.map_err(fail)?,
        }
    }
    Ok(())
}

fn resource_of(limit: Rlimit) -> Resource {
    match limit {
        Rlimit::As => Resource::RLIMIT_AS,
        Rlimit::Core => Resource::RLIMIT_CORE,
        Rlimit::Cpu => Resource::RLIMIT_CPU,
        Rlimit::Data => Resource::RLIMIT_DATA,
        Rlimit::Fsize => Resource::RLIMIT_FSIZE,
        Rlimit::Locks => Resource::RLIMIT_LOCKS,
        Rlimit::Memlock => Resource::RLIMIT_MEMLOCK,
        Rlimit::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        Rlimit::Nice => Resource::RLIMIT_NICE,
        Rlimit::Nofile => Resource::RLIMIT_NOFILE,
        Rlimit::Nproc => Resource::RLIMIT_NPROC,
        Rlimit::Rss => Resource::RLIMIT_RSS,
        Rlimit::Rtprio => Resource::RLIMIT_RTPRIO,
        Rlimit::Rttime => Resource::RLIMIT_RTTIME,
        Rlimit::Sigpending => Resource::RLIMIT_SIGPENDING,
        Rlimit::Stack => Resource::RLIMIT_STACK,
    }
}

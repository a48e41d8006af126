//! Which runs there are to stop, and how: the orders that atalayad left, compared with the cgroups as they are.

use crate::machine::cgroups::{self, UNITS};
use crate::supervise::kept::Kept;
use atalaya_core::link::StopOrder;
use atalaya_sys::cgroup::Cgroup;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// For a run that left no order: TERM lets PostgreSQL wait for its clients, which are ended by the same signal; INT makes
/// it end without waiting; and there is a minute for its checkpoint.
fn usual(run: &str) -> StopOrder {
    StopOrder {
        description: run.to_owned(),
        cgroup: run.to_owned(),
        pid: None,
        level: 0,
        signal: libc::SIGTERM,
        timeout_ms: 10_000,
        then: libc::SIGINT,
        then_timeout_ms: 60_000,
    }
}

/// The orders that are kept, whether their runs still live or not.
pub fn kept(kept: &Kept<OwnedFd>) -> Vec<StopOrder> {
    let orders = kept.all().filter_map(|(_, record)| record.stop.clone());
    orders.collect()
}

/// One order for each run with a process.
pub fn collect(records: &Kept<OwnedFd>) -> Vec<StopOrder> {
    let mut orders: BTreeMap<String, StopOrder> = kept(records)
        .into_iter()
        .map(|order| (order.cgroup.clone(), order))
        .collect();
    let found = std::fs::read_dir(cgroups::path(UNITS))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut live = Vec::new();
    for run in found {
        let cgroup = of(&run);
        // One that cannot be looked at is taken for populated: its limits end the wait.
        if cgroup.populated().unwrap_or(true) {
            let mut order = orders.remove(&run).unwrap_or_else(|| usual(&run));
            order.pid = match order.pid {
                Some(pid) => Some(pid).filter(|pid| is_in(*pid, &run)),
                // atalayad died between making it and writing it down: the first process of a new cgroup.
                None => cgroup.pids().unwrap_or_default().into_iter().min(),
            };
            live.push(order);
        }
    }
    live
}

/// Whether this process is one of the run's.
pub fn is_in(pid: i32, run: &str) -> bool {
    cgroups::unit_of(pid).is_ok_and(|unit| unit.as_deref() == Some(run))
}

/// The cgroup of a run.
pub fn of(run: &str) -> Cgroup {
    Cgroup::at(cgroups::path(UNITS).join(run))
}

/// Whether a process is a unit's own and not one that it orphaned; where that is not known it counts as one.
pub fn is_main(records: &Kept<OwnedFd>, cgroup: &str, pid: i32) -> bool {
    records
        .find(&format!("run/{cgroup}"))
        .and_then(|record| record.stop.as_ref()?.pid)
        .is_none_or(|main| main == pid)
}

//! What is given to init to keep: how each unit fares, the descriptors of its run with the order of its stop, its listening
//! sockets, and the descriptors that it has stored.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use atalaya_core::link::{StopOrder, ToInit};
use atalaya_core::system::System;

use super::{Live, Supervisor};
use crate::run::cgroup_name;

/// Under which a machine is kept.
pub(super) fn unit_record(unit: &str) -> String {
    format!("unit/{unit}")
}

/// Under which a run's second log pipe is kept: what it says on stderr.
pub(super) fn errors_record(unit: &str, run: u32) -> String {
    format!("err/{}", cgroup_name(unit, run))
}

/// Under which a run's descriptors are kept: log pipe, notify socket, and the pidfd once there is a process.
pub(super) fn run_record(unit: &str, run: u32) -> String {
    format!("run/{}", cgroup_name(unit, run))
}

pub(super) fn listen_record(unit: &str) -> String {
    format!("listen/{unit}")
}

pub(super) fn store_record(unit: &str) -> String {
    format!("store/{unit}")
}

/// For each unit: it is stopped before all of a lower level. Those that wait for nothing are of level 0.
pub(super) fn stop_levels(system: &System) -> BTreeMap<String, u32> {
    let mut levels: BTreeMap<String, u32> = BTreeMap::new();
    // In the order of the start: what a unit waits for has its level already.
    for (unit, _) in system.units() {
        let below = unit.requires.iter().chain(&unit.after);
        let level = below
            .filter_map(|name| levels.get(name))
            .max()
            .map_or(0, |level| level + 1);
        levels.insert(unit.name.clone(), level);
    }
    levels
}

impl Supervisor {
    pub(super) fn keep_unit(&mut self, name: &str) {
        let Some((_, machine)) = self.system.unit(name) else {
            return;
        };
        let record = super::adopt::UnitRecord::new(machine);
        if let Ok(record) = serde_json::to_string(&record) {
            self.keep(unit_record(name), record, None, &[]);
        }
    }

    /// To be called again when the main process is there, and when it changes.
    pub(super) fn keep_run(&mut self, name: &str, run: u32) {
        if !self.levels.contains_key(name) {
            self.levels = stop_levels(&self.system);
        }
        let Some(live) = self.lives.get(name).filter(|live| live.run == run) else {
            return;
        };
        let mut fds: Vec<BorrowedFd<'_>> = live.log.iter().map(AsFd::as_fd).collect();
        fds.extend(live.notify.as_ref().map(|notify| notify.as_fd()));
        fds.extend(live.pidfd.as_ref().map(AsFd::as_fd));
        let stop = self.stop_order(name, live);
        if let Some(errors) = &live.errors {
            self.keep(
                errors_record(name, run),
                String::new(),
                None,
                &[errors.as_fd()],
            );
        }
        self.keep(run_record(name, run), String::new(), stop, &fds);
    }

    fn stop_order(&self, name: &str, live: &Live) -> Option<StopOrder> {
        let (unit, _) = self.system.unit(name)?;
        Some(StopOrder {
            description: unit.description.clone(),
            cgroup: cgroup_name(name, live.run),
            pid: live.pid,
            level: self.levels.get(name).copied().unwrap_or(0),
            signal: unit.stop.signal.number(),
            timeout_ms: unit.stop.timeout_s.saturating_mul(1000),
            then: unit.stop.then.number(),
            then_timeout_ms: unit.stop.then_timeout_s.saturating_mul(1000),
        })
    }

    pub(super) fn keep_sockets(&mut self, name: &str) {
        let Some(sockets) = self.sockets.get(name) else {
            self.drop_kept(listen_record(name));
            return;
        };
        let places: Vec<_> = sockets.iter().map(|socket| &socket.place).collect();
        let fds: Vec<_> = sockets.iter().map(|socket| socket.fd.as_fd()).collect();
        if let Ok(record) = serde_json::to_string(&places) {
            self.keep(listen_record(name), record, None, &fds);
        }
    }

    pub(super) fn keep_store(&mut self, name: &str) {
        let Some(stored) = self.stores.get(name).filter(|stored| !stored.is_empty()) else {
            self.stores.remove(name);
            self.drop_kept(store_record(name));
            return;
        };
        let names: Vec<_> = stored.iter().map(|(name, _)| name).collect();
        let fds: Vec<_> = stored.iter().map(|(_, fd)| fd.as_fd()).collect();
        if let Ok(record) = serde_json::to_string(&names) {
            self.keep(store_record(name), record, None, &fds);
        }
    }

    pub(super) fn drop_kept(&self, name: String) {
        self.tell_init(&ToInit::Drop { name });
    }

    pub(super) fn keep(
        &self,
        name: String,
        record: String,
        stop: Option<StopOrder>,
        fds: &[BorrowedFd<'_>],
    ) {
        let message = ToInit::Keep { name, record, stop };
        if let Err(error) = self.link.send(&message, fds) {
            self.hub.push("atalayad", &format!("{error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atalaya_core::unit::parse_unit;

    #[test]
    fn what_stands_on_others_has_the_higher_level() {
        let unit = |name: &str, requires: &str, after: &str| {
            let text = format!(
                "description = \"x\"\ntype = \"service\"\nexec = [\"/x\"]\nrequires = [{requires}]\nafter = [{after}]\n"
            );
            parse_unit(name, name, &text).unwrap()
        };
        let units = vec![
            unit("edge", "", ""),
            unit("postgres", "\"initdb\"", ""),
            unit("initdb", "", ""),
            unit("mattermost", "\"postgres\"", "\"edge\""),
        ];
        let levels = stop_levels(&System::new(units).unwrap());
        let expected = [
            ("edge", 0),
            ("initdb", 0),
            ("mattermost", 2),
            ("postgres", 1),
        ];
        assert_eq!(
            levels.into_iter().collect::<Vec<_>>(),
            expected.map(|(name, level)| (name.to_owned(), level))
        );
    }
}

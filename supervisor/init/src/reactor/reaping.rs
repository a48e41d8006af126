//! Reaping: the only place in the whole system. Look at a zombie, read which unit it was of, take exactly that one.

use super::{Reactor, orders};
use crate::machine::cgroups;
use crate::supervise::Event;
use atalaya_core::link::Status;
use atalaya_sys::reap::{self, Ending};

/// In one round, so that a storm of exits cannot keep PID 1 from everything else.
const ROUND: usize = 4096;

impl Reactor {
    pub(super) fn reap(&mut self) {
        self.more_to_reap = false;
        for _ in 0..ROUND {
            let Ok(Some(zombie)) = reap::peek() else {
                return;
            };
            let unit = self.spare.lend(|| cgroups::unit_of(zombie.pid));
            if !matches!(reap::reap(zombie.pid), Ok(Some(_))) {
                return; // it cannot be; trying again at once would be a loop
            }
            let status = match zombie.ending {
                Ending::Code(code) => Status::Code(code),
                Ending::Signal { signal, .. } => Status::Signal(signal),
            };
            match unit {
                Ok(unit) => self.ended(zombie.pid, unit, status),
                Err(error) => {
                    let text = format!(
                        "whose process {} was is not known: {}",
                        zombie.pid,
                        error.chain()
                    );
                    self.tell(Some(text));
                    self.ended(zombie.pid, None, status);
                }
            }
        }
        self.more_to_reap = true;
    }

    fn ended(&mut self, pid: i32, unit: Option<String>, status: Status) {
        if self.data.as_ref().is_some_and(|data| data.child.pid == pid) {
            self.data_ended(status);
        } else if self.daemon.as_ref().is_some_and(|daemon| daemon.pid == pid) {
            // What it said before it died still counts: records above all.
            self.hear();
            self.drain_output();
            self.link.disconnect();
            self.daemon = None;
            self.dispatch(Event::Ended { pid, status });
        } else if let Some(cgroup) = unit {
            let main = orders::is_main(&self.link.kept, &cgroup, pid);
            self.statuses.add(pid, cgroup.clone(), status, main);
            self.dispatch(Event::UnitProcessEnded { cgroup, pid });
        }
    }

    fn data_ended(&mut self, status: Status) {
        let late = self
            .data
            .take()
            .is_some_and(|data| data.deadline == u64::MAX);
        self.data_ready = status == Status::Code(0);
        if !late {
            if !matches!(status, Status::Code(_)) {
                let why = "its preparation was killed";
                crate::data::record_absence(why, &mut self.console);
            }
            self.dispatch(Event::DataDone);
        } else if self.data_ready {
            self.console.say(
                "data",
                "it is there now, if late: atalayad is started anew with it",
            );
            self.dispatch(Event::RestartWanted);
        }
    }
}

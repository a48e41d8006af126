//! atalayad dies, and the next one takes over.

use std::collections::BTreeMap;

use atalaya_core::system::{Input, System};
use atalaya_core::unit::Unit;

use crate::world::World;

impl World {
    /// atalayad dies and a new one adopts what its records say; what was being made exists now, or not.
    pub fn crash(&mut self, made: bool) {
        let records: Vec<(String, String)> = self
            .system
            .units()
            .map(|(unit, machine)| (unit.name.clone(), serde_json::to_string(machine).unwrap()))
            .collect();
        let end = self.system.end();
        let stopping: Vec<String> = self.system.stopping().map(str::to_owned).collect();
        let units = self.units_to_read();
        self.system = System::new(units).unwrap();
        let spawning = std::mem::take(&mut self.spawning);
        self.hollow.clear();
        self.memory.forget();
        let mut found = BTreeMap::new();
        for (name, run) in spawning.into_iter().filter(|_| made) {
            let pid = self.make(&name, run);
            found.insert(name, pid);
        }
        for (name, record) in &records {
            self.system
                .restore(name, serde_json::from_str(record).unwrap())
                .unwrap();
        }
        let main = |name: &String| {
            let machine = self.machine(name);
            machine.pid().or_else(|| found.get(name).copied())
        };
        let pids = records
            .iter()
            .map(|(name, _)| (name.clone(), main(name)))
            .collect();
        self.input(Input::Adopt(pids));
        for name in stopping {
            self.input(Input::Stop(name));
        }
        if let Some(end) = end {
            self.ended = None;
            self.input(Input::End(end));
        }
    }

    /// The files of a release whose units are not the present ones are not there yet.
    fn units_to_read(&mut self) -> Vec<Unit> {
        let mut present = self.names();
        present.sort();
        for which in [self.which, 1 - self.which] {
            let units = &self.graphs[which];
            let mut names: Vec<&String> = units.iter().map(|unit| &unit.name).collect();
            names.sort();
            if names.into_iter().eq(&present) {
                self.which = which;
                return units.clone();
            }
        }
        panic!("units of no release: {present:?}")
    }
}

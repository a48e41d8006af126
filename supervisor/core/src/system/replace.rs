//! New unit files while units run. First what is gone is stopped, in the order of the old files; when nothing of it is
//! active the new ones count. What was changed is what it says at its next start: a run ends by the file it began with.

use std::collections::BTreeSet;

use super::{Effect, Member, Refusal, System};
use crate::graph::Graph;
use crate::machine::{Effect as UnitEffect, Machine, State};
use crate::unit::Unit;

impl System {
    pub(super) fn replace(&mut self, units: Vec<Unit>) -> Result<(), Refusal> {
        Graph::plan(&units)?;
        if self.shutdown.action().is_none() {
            self.stopping.extend(self.vanishing(&units));
            self.replacement = Some(units);
        }
        Ok(())
    }

    fn vanishing(&self, units: &[Unit]) -> Vec<String> {
        let stay: BTreeSet<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
        let gone = self.members.keys();
        gone.filter(|name| !stay.contains(name.as_str()))
            .cloned()
            .collect()
    }

    /// When nothing of what is gone is active.
    pub(super) fn take_replacement(
        &mut self,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let Some(units) = self
            .replacement
            .take_if(|_| self.shutdown.action().is_none())
        else {
            return Ok(());
        };
        let gone = self.vanishing(&units);
        let is_left = |name: &String| {
            self.stopping.contains(name)
                || (self.members.get(name)).is_some_and(|member| member.machine.is_active())
        };
        if gone.iter().any(is_left) {
            self.replacement = Some(units);
            return Ok(());
        }
        self.graph = Graph::plan(&units)?;
        for unit in gone {
            self.members.remove(&unit);
            effects.push(Effect::Forget { unit });
        }
        let mut new = Vec::new();
        for unit in units {
            if let Some(member) = self.members.get_mut(&unit.name) {
                member.next = (member.unit != unit).then_some(unit);
                member.take_next(&[]);
            } else {
                if unit.wanted {
                    new.push(unit.name.clone());
                }
                self.members.insert(unit.name.clone(), Member::new(unit));
            }
        }
        for name in new {
            self.start(now_ms, &name, &mut BTreeSet::new(), effects)?;
        }
        self.settle(now_ms, effects)
    }
}

impl Member {
    /// Between two runs, or with the run that has just begun.
    pub(super) fn take_next(&mut self, effects: &[UnitEffect]) {
        let begins = || {
            effects
                .iter()
                .any(|effect| matches!(effect, UnitEffect::Spawn { .. }))
        };
        if (rests(&self.machine) || begins())
            && let Some(unit) = self.next.take()
        {
            self.unit = unit;
        }
    }
}

/// Whether nothing of a run counts any more.
fn rests(machine: &Machine) -> bool {
    match machine.state() {
        State::Stopped | State::Waiting | State::Backoff { .. } | State::Failed { .. } => {
            !machine.is_active()
        }
        State::Starting(_) | State::Running | State::Stopping { .. } | State::Done => false,
    }
}

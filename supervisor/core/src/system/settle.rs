//! What follows for the others from what happened to one: repeated until nothing more follows.

use std::collections::BTreeSet;

use super::{Effect, Refusal, System, is_up, shutdown};
use crate::machine::{Desired, Event, Machine, Requirements, State};
use crate::unit::{FullDisk, Unit};

impl System {
    pub(super) fn settle(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        // Each round carries news one step along the graph at least, and no news goes round in a circle: the graph has none.
        for _ in 0..=self.members.len() * 4 {
            let before = effects.len();
            let mut told = self.tell_gone(now_ms, effects)?;
            for name in self.graph.order().to_vec() {
                // In this order: whoever is allowed to start must not act on old news of what it requires.
                told |= self.tell_requirements(now_ms, &name, effects)?;
                told |= self.tell_ground(now_ms, &name, effects)?;
            }
            // What is sent to one in this pass changes no other's answer.
            let going = self.going();
            for name in self.graph.order().iter().rev().cloned().collect::<Vec<_>>() {
                told |= self.tell_rest(now_ms, &name, &going, effects)?;
            }
            if !told && effects.len() == before {
                break;
            }
        }
        self.shut_down(effects);
        Ok(())
    }

    /// Whether the unit can use its data, if that has changed.
    pub(super) fn tell_ground(
        &mut self,
        now_ms: u64,
        name: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Refusal> {
        let Some(member) = self.members.get(name) else {
            return Ok(false);
        };
        let ground = self.ground_of(&member.unit);
        if member.machine.ground() == ground.as_deref() {
            return Ok(false);
        }
        self.send(now_ms, name, Event::Ground(ground), effects)?;
        Ok(true)
    }

    /// Why `unit` has no use of its data now.
    pub(super) fn ground_of(&self, unit: &Unit) -> Option<String> {
        let ground = self.ground.as_ref()?;
        let (writes, reads) = (&unit.sandbox.data, &unit.sandbox.data_read);
        let lacks_data = !ground.data && (!writes.is_empty() || !reads.is_empty());
        let lacks_space = !ground.space && !writes.is_empty() && unit.on_full_disk != FullDisk::Run;
        (lacks_data || lacks_space).then(|| ground.why.clone())
    }

    /// To units that require one whose process has ended.
    fn tell_gone(&mut self, now_ms: u64, effects: &mut Vec<Effect>) -> Result<bool, Refusal> {
        let mut told = false;
        for name in self.graph.order().to_vec() {
            let Some(member) = self.members.get_mut(&name) else {
                continue;
            };
            let up = is_up(&member.machine);
            let gone = member.was_up && !up;
            member.was_up = up;
            if gone {
                told = true;
                let dependants: Vec<String> =
                    self.graph.dependants(&name).map(str::to_owned).collect();
                for dependant in dependants {
                    self.send(
                        now_ms,
                        &dependant,
                        Event::RequirementGone(name.clone()),
                        effects,
                    )?;
                }
            }
        }
        Ok(told)
    }

    pub(super) fn tell_requirements(
        &mut self,
        now_ms: u64,
        name: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Refusal> {
        let requirements = self.requirements_of(name);
        let Some(member) = self.members.get(name) else {
            return Ok(false);
        };
        if *member.machine.requirements() == requirements {
            return Ok(false);
        }
        self.send(now_ms, name, Event::Requirements(requirements), effects)?;
        Ok(true)
    }

    /// Holds, releases and stops, each when its turn has come.
    fn tell_rest(
        &mut self,
        now_ms: u64,
        name: &str,
        going: &BTreeSet<String>,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Refusal> {
        let Some(member) = self.members.get(name) else {
            return Ok(false);
        };
        let held = member.machine.is_held();
        let mut required = self.graph.requires(name).iter();
        let hold = required.any(|required| going.contains(required));
        if held && !hold {
            self.send(now_ms, name, Event::Release, effects)?;
            return Ok(true);
        }
        let stop = self.stopping.contains(name);
        // What has no process need not wait for its turn, and must not start meanwhile.
        let is_up = match member.machine.state() {
            State::Starting(_) | State::Running | State::Stopping { .. } => true,
            // Nothing stands on what runs by a timer.
            State::Done => member.unit.timer.is_none(),
            State::Stopped | State::Waiting | State::Backoff { .. } | State::Failed { .. } => false,
        };
        if !(stop || (hold && !held)) || (is_up && self.is_needed(name)) {
            return Ok(false);
        }
        if stop {
            self.stopping.remove(name);
            self.send(now_ms, name, Event::Stop, effects)?;
        } else {
            self.send(now_ms, name, Event::Hold, effects)?;
        }
        Ok(true)
    }

    /// Those that are or will be down by somebody's will, or because something that they require will be. Each unit is
    /// looked at once: asked for along every path, it would take time that doubles with each layer of the graph.
    fn going(&self) -> BTreeSet<String> {
        let mut going = BTreeSet::new();
        for name in self.graph.order() {
            let of_itself = self.members.get(name).is_none_or(|member| {
                self.stopping.contains(name) || member.machine.desired() == Desired::Down
            });
            let mut required = self.graph.requires(name).iter();
            if of_itself || required.any(|required| going.contains(required)) {
                going.insert(name.clone());
            }
        }
        going
    }

    /// Whether a unit that must stop before `name` is still active.
    fn is_needed(&self, name: &str) -> bool {
        // A one-shot that is done has no process, but those above it may stand on what it did: it passes the order on.
        let active = |other: &str| {
            self.members.get(other).is_some_and(|member| {
                let machine = &member.machine;
                (machine.is_active() || *machine.state() == State::Done) && !machine.is_stuck()
            })
        };
        if self.shutdown.action().is_some() {
            self.graph.followers(name).any(active)
        } else {
            self.graph.dependants(name).any(active)
        }
    }

    pub(super) fn requirements_of(&self, name: &str) -> Requirements {
        let unready = |name: &&String| {
            !self
                .members
                .get(*name)
                .is_some_and(|member| member.machine.is_ready())
        };
        let unsettled = |name: &&String| !self.is_settled(name);
        let mut required = self.graph.requires(name).iter();
        let missing = required
            .find(unready)
            .or_else(|| self.graph.after(name).iter().find(unsettled));
        missing.map_or(Requirements::Ready, |name| {
            Requirements::Missing(name.clone())
        })
    }

    /// Whether a unit that only comes after `name` need wait no longer.
    fn is_settled(&self, name: &str) -> bool {
        let Some(member) = self.members.get(name) else {
            return true;
        };
        match member.machine.state() {
            State::Running | State::Done | State::Stopped | State::Failed { .. } => true,
            State::Starting(_) | State::Stopping { .. } | State::Backoff { .. } => false,
            State::Waiting => self.is_hopeless(&member.machine),
        }
    }

    /// Whether it waits for something that will not come by itself.
    fn is_hopeless(&self, machine: &Machine) -> bool {
        match machine.requirements() {
            // Held, without its data, or waiting for its time.
            Requirements::Ready => true,
            Requirements::Missing(name) => self.members.get(name).is_none_or(|member| match member
                .machine
                .state()
            {
                State::Failed { .. } | State::Stopped => true,
                State::Waiting => self.is_hopeless(&member.machine),
                State::Starting(_)
                | State::Running
                | State::Stopping { .. }
                | State::Backoff { .. }
                | State::Done => false,
            }),
        }
    }

    fn shut_down(&mut self, effects: &mut Vec<Effect>) {
        let machines = || {
            self.members
                .iter()
                .map(|(name, member)| (name, &member.machine))
        };
        let event = shutdown::Event::Settled {
            active: !self.stopping.is_empty()
                || machines().any(|(_, machine)| machine.is_active() && !machine.is_stuck()),
            stuck: machines()
                .filter(|(_, machine)| machine.is_stuck())
                .map(|(name, _)| name.clone())
                .collect(),
        };
        match self.shutdown.step(event) {
            Some(shutdown::Order::Tell { end, stuck }) => {
                effects.push(Effect::Ended { end, stuck });
            }
            Some(shutdown::Order::StopAll) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::system::{Input, System};
    use crate::unit::{Unit, parse_unit};

    /// Each unit of a layer requires both of the layer before: there are 2^60 ways from the top to the bottom.
    #[test]
    fn a_graph_with_many_ways_through_it_takes_no_longer_than_its_units() {
        let mut units: Vec<Unit> = Vec::new();
        for layer in 0..60 {
            let requires = match layer {
                0 => String::new(),
                _ => format!("requires = [\"a{}\", \"b{}\"]", layer - 1, layer - 1),
            };
            for side in ["a", "b"] {
                let text = format!(
                    "description = \"d\"\ntype = \"service\"\nexec = [\"/x\"]\n{requires}\n"
                );
                units.push(parse_unit(&format!("{side}{layer}"), "file", &text).unwrap());
            }
        }
        let mut system = System::new(units).unwrap();
        let effects = system.step(1, Input::StartWanted).unwrap();
        assert!(!effects.is_empty());
        system.step(2, Input::Restart("a59".to_owned())).unwrap();
        system.step(3, Input::Stop("a0".to_owned())).unwrap();
    }
}

//! All units together: tells each machine whether what it requires is ready, stops them in reverse order, and knows when
//! an end is complete. Like the machines it does nothing itself.
//!
//! A unit that is to stop waits until no unit that requires it is active. Those are held: they stop too, stay wanted, and
//! come back by themselves. The end of the machine (`shutdown`) is the same for all units at once.

mod replace;
mod settle;
pub mod shutdown;

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, GraphError};
use crate::link::Action;
use crate::machine::{Desired, Effect as UnitEffect, Event, Machine};
use crate::unit::Unit;

use shutdown::Shutdown;

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The machine has booted.
    StartWanted,
    /// Those that were restored, with the main process that each has as far as init knows. All at once: none may be
    /// started on the word of one that was not looked at yet.
    Adopt(Vec<(String, Option<i32>)>),
    /// With all that it requires.
    Start(String),
    Stop(String),
    Restart(String),
    Reload(String),
    /// Clears a failure; starts nothing.
    Reset(String),
    /// New unit files. Refused as a whole if they cannot be; what runs stays as it is. Units that are gone are stopped, new
    /// wanted ones are started, changed ones are what they say at their next start.
    Replace(Vec<Unit>),
    /// Whether the units' data can be used.
    Ground(Ground),
    Unit {
        unit: String,
        event: Event,
    },
    /// The first one counts.
    End(Action),
    Tick,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Unit {
        unit: String,
        effect: UnitEffect,
    },
    /// The unit is no longer one: nothing of it need be kept.
    Forget {
        unit: String,
    },
    /// No unit is active any more, or only some that cannot be killed, which are named.
    Ended {
        end: Action,
        stuck: Vec<String>,
    },
}

/// What units with data stand on. Without it they wait instead of starting, and say why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// /data is there.
    pub data: bool,
    /// There is room on it.
    pub space: bool,
    /// For people: what is wrong.
    pub why: String,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such unit")]
    NoSuchUnit,
    #[error("the unit has no `reload`")]
    CannotReload,
    #[error("the units cannot be used")]
    Units(#[from] GraphError),
}

#[derive(Clone, Debug)]
struct Member {
    unit: Unit,
    /// What it will be at its next start.
    next: Option<Unit>,
    machine: Machine,
    /// Told to the units that require it.
    was_up: bool,
}

impl Member {
    fn new(unit: Unit) -> Self {
        Self {
            unit,
            next: None,
            machine: Machine::default(),
            was_up: false,
        }
    }
}

/// The units and how they fare.
#[derive(Clone, Debug)]
pub struct System {
    members: BTreeMap<String, Member>,
    graph: Graph,
    /// To be stopped as soon as nothing that requires them is active.
    stopping: BTreeSet<String>,
    shutdown: Shutdown,
    ground: Option<Ground>,
    /// New unit files that wait until what is gone has stopped.
    replacement: Option<Vec<Unit>>,
}

impl System {
    /// # Errors
    /// A set of units that cannot be.
    pub fn new(units: Vec<Unit>) -> Result<Self, GraphError> {
        let graph = Graph::plan(&units)?;
        let members = units
            .into_iter()
            .map(|unit| (unit.name.clone(), Member::new(unit)))
            .collect();
        Ok(Self {
            members,
            graph,
            stopping: BTreeSet::new(),
            shutdown: Shutdown::Up,
            ground: None,
            replacement: None,
        })
    }

    /// Puts back what an earlier atalayad knew. When all are back, [`Input::Adopt`] must follow.
    ///
    /// # Errors
    /// The image no longer has such a unit.
    pub fn restore(&mut self, name: &str, machine: Machine) -> Result<(), Refusal> {
        let member = self.members.get_mut(name).ok_or(Refusal::NoSuchUnit)?;
        member.was_up = is_up(&machine);
        member.machine = machine;
        Ok(())
    }

    pub fn unit(&self, name: &str) -> Option<(&Unit, &Machine)> {
        self.members
            .get(name)
            .map(|member| (&member.unit, &member.machine))
    }

    /// In the order of the start.
    pub fn units(&self) -> impl Iterator<Item = (&Unit, &Machine)> {
        self.graph.order().iter().filter_map(|name| self.unit(name))
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What somebody wants stopped and is not yet, because of those above it.
    pub fn stopping(&self) -> impl Iterator<Item = &str> {
        self.stopping.iter().map(String::as_str)
    }

    /// The end that was asked for.
    pub fn end(&self) -> Option<Action> {
        self.shutdown.action()
    }

    /// When to send the next [`Input::Tick`], in milliseconds.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.members
            .values()
            .filter_map(|member| member.machine.deadline_ms())
            .min()
    }

    /// Applies `input` at `now_ms` and returns what is to be done.
    ///
    /// # Errors
    /// The unit it names does not exist; nothing was changed.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Result<Vec<Effect>, Refusal> {
        let mut effects = Vec::new();
        match input {
            Input::StartWanted => {
                // In the order of the graph: what another comes after must be on its way before that one decides.
                let wanted = |(unit, _): (&Unit, _)| unit.wanted.then(|| unit.name.clone());
                let wanted: Vec<String> = self.units().filter_map(wanted).collect();
                let mut seen = BTreeSet::new();
                for name in wanted {
                    self.start(now_ms, &name, &mut seen, &mut effects)?;
                }
            }
            Input::Adopt(restored) => self.adopt(now_ms, restored, &mut effects)?,
            Input::Start(name) => {
                self.start(now_ms, &name, &mut BTreeSet::new(), &mut effects)?;
            }
            Input::Stop(name) => {
                if !self.members.contains_key(&name) {
                    return Err(Refusal::NoSuchUnit);
                }
                self.stopping.insert(name);
            }
            Input::Restart(name) => {
                if !self.members.contains_key(&name) {
                    return Err(Refusal::NoSuchUnit);
                }
                if self.end().is_none() {
                    self.start_required(now_ms, &name, &mut BTreeSet::new(), &mut effects)?;
                    self.stopping.remove(&name);
                    // A file that has changed counts from the next start on.
                    let hands_over = self.members.get(&name).is_some_and(|member| {
                        member.unit.handover.is_some() && member.next.is_none()
                    });
                    let event = if hands_over {
                        Event::HandOver
                    } else {
                        Event::Restart
                    };
                    self.send(now_ms, &name, event, &mut effects)?;
                }
            }
            Input::Reload(name) => {
                let member = self.members.get(&name).ok_or(Refusal::NoSuchUnit)?;
                if member.unit.reload.is_none() {
                    return Err(Refusal::CannotReload);
                }
                self.send(now_ms, &name, Event::Reload, &mut effects)?;
            }
            Input::Reset(name) => self.send(now_ms, &name, Event::Reset, &mut effects)?,
            Input::Replace(units) => self.replace(units)?,
            Input::Ground(ground) => self.ground = Some(ground),
            Input::Unit { unit, event } => self.send(now_ms, &unit, event, &mut effects)?,
            Input::End(end) => match self.shutdown.step(shutdown::Event::Requested(end)) {
                Some(shutdown::Order::StopAll) => {
                    self.stopping = self.members.keys().cloned().collect();
                }
                Some(shutdown::Order::Tell { .. }) | None => {}
            },
            Input::Tick => {
                // Whoever may go down by it first: all that stand on it hear of that before anybody starts.
                for name in self.due(now_ms, Machine::is_active) {
                    self.send(now_ms, &name, Event::Tick, &mut effects)?;
                }
                self.settle(now_ms, &mut effects)?;
                for name in self.due(now_ms, |machine| !machine.is_active()) {
                    // The time of one that it requires may just have come too.
                    self.tell_requirements(now_ms, &name, &mut effects)?;
                    self.send(now_ms, &name, Event::Tick, &mut effects)?;
                }
            }
        }
        self.settle(now_ms, &mut effects)?;
        self.take_replacement(now_ms, &mut effects)?;
        Ok(effects)
    }

    /// Those for which the time matters now, in the order of the graph.
    fn due(&self, now_ms: u64, which: impl Fn(&Machine) -> bool) -> Vec<String> {
        let is_due = |machine: &Machine| machine.deadline_ms().is_some_and(|at| at <= now_ms);
        let due = self
            .units()
            .filter(|(_, machine)| is_due(machine) && which(machine));
        due.map(|(unit, _)| unit.name.clone()).collect()
    }

    fn adopt(
        &mut self,
        now_ms: u64,
        restored: Vec<(String, Option<i32>)>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        for (name, _) in &restored {
            let requirements = self.requirements_of(name);
            let member = self.members.get(name).ok_or(Refusal::NoSuchUnit)?;
            let ground = self.ground_of(&member.unit);
            if let Some(member) = self.members.get_mut(name) {
                member.machine.learn(requirements, ground);
            }
        }
        for (name, pid) in restored {
            self.send(now_ms, &name, Event::Adopted { pid }, effects)?;
        }
        Ok(())
    }

    fn start(
        &mut self,
        now_ms: u64,
        name: &str,
        seen: &mut BTreeSet<String>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if self.end().is_some() {
            return if self.members.contains_key(name) {
                Ok(())
            } else {
                Err(Refusal::NoSuchUnit)
            };
        }
        self.start_required(now_ms, name, seen, effects)?;
        self.start_one(now_ms, name, effects)
    }

    /// Wants everything below `name` again that somebody has stopped, but for what was `seen` on another way down.
    fn start_required(
        &mut self,
        now_ms: u64,
        name: &str,
        seen: &mut BTreeSet<String>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        if !self.members.contains_key(name) {
            return Err(Refusal::NoSuchUnit);
        }
        for required in self.graph.requires(name).to_vec() {
            if !seen.insert(required.clone()) {
                continue;
            }
            self.start_required(now_ms, &required, seen, effects)?;
            let member = self.members.get(&required).ok_or(Refusal::NoSuchUnit)?;
            if self.stopping.contains(&required) || member.machine.desired() == Desired::Down {
                self.start_one(now_ms, &required, effects)?;
            }
        }
        Ok(())
    }

    fn start_one(
        &mut self,
        now_ms: u64,
        name: &str,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.stopping.remove(name);
        // What it needs may not be ready: the machine must know before it decides.
        let requirements = self.requirements_of(name);
        self.send(now_ms, name, Event::Requirements(requirements), effects)?;
        self.tell_ground(now_ms, name, effects)?;
        self.send(now_ms, name, Event::Start, effects)
    }

    fn send(
        &mut self,
        now_ms: u64,
        name: &str,
        event: Event,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let member = self.members.get_mut(name).ok_or(Refusal::NoSuchUnit)?;
        let of_unit = member.machine.step(&member.unit, now_ms, event);
        member.take_next(&of_unit);
        effects.extend(of_unit.into_iter().map(|effect| Effect::Unit {
            unit: name.to_owned(),
            effect,
        }));
        Ok(())
    }
}

/// Whether those that require it may count on its process.
fn is_up(machine: &Machine) -> bool {
    use crate::machine::State;
    match machine.state() {
        State::Running | State::Done => true,
        State::Stopped
        | State::Waiting
        | State::Starting(_)
        | State::Stopping { .. }
        | State::Backoff { .. }
        | State::Failed { .. } => false,
    }
}
